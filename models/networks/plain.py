"""A plain convolutional network, so that the training layer works with torch alone.

Maps of four stages at strides 4, 8, 16, 32 are interpolated to stride 4, concatenated, classified.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.models.registry import Network, preset_of, register

# channels of the first stage
PRESETS = {"micro": 8, "tiny": 16, "small": 32, "base": 64, "large": 96}


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


@register("plain")
class Plain(Network):
    """preset: one of `PRESETS`. Output: logits at a quarter of the image's resolution."""

    classifier = "head"

    def __init__(self, classes: int, preset: str = "tiny") -> None:
        super().__init__()
        width = preset_of(PRESETS, preset, "plain")
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.stem = _convolution(3, width, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(_convolution(before, after, 2), _convolution(after, after, 1))
            for before, after in pairwise((width, *widths))
        )
        self.mix = _convolution(sum(widths), 2 * width, 1)
        self.head = nn.Conv2d(2 * width, classes, 1)

    def logits(self, images: Tensor) -> Tensor:
        features, maps = self.stem(images), []
        for stage in self.stages:
            features = stage(features)
            maps.append(features)
        fit = partial(functional.interpolate, size=maps[0].shape[-2:], mode="bilinear")
        same = [fit(level, align_corners=False) for level in maps[1:]]
        return self.head(self.mix(torch.cat([maps[0], *same], dim=1)))
