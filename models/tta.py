"""Test-time augmentation (section 2.1): the image mirrored and at several scales.

The views' predictions are averaged as probabilities at store resolution. N images, C classes, H W
image pixels, h w store pixels. An image is resized to the nearest multiple of the network's stride,
never padded: the output's grid then covers the image exactly, views fall on the same places, and a
store's reader may interpolate with half-pixel centres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from fusion.errors import InputError
from fusion.models.registry import Network

_bilinear = partial(functional.interpolate, mode="bilinear", align_corners=False)


@dataclass(frozen=True, kw_only=True)
class Views:
    """An image's views. flip: each mirrored, too. InputError: a scale is no number above 0."""

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale < math.inf for scale in self.scales):
            advice = "give numbers above 0, such as 0.75 1 1.25"
            raise InputError(f"scales: got {list(self.scales)}; {advice}")

    @property
    def single(self) -> bool:
        """Whether there is one view only, whose outputs can be stored as they are."""
        return not self.flip and self.scales == (1.0,)

    @torch.no_grad()
    def predict(self, network: Network, images: Tensor) -> Tensor:
        """What is stored for standardised images [N, 3, H, W]: [N, C, h, w], h w as of scale 1.

        One view: the network's outputs, as `network.values`. Several: mean class probabilities.
        """
        whole = network_size(images, 1.0, network.stride)
        if self.single:
            return network.logits(resized(images, whole))
        found = []
        for scale in self.scales:
            fed = network_size(images, scale, network.stride)
            view = resized(images, fed)
            outputs = [network.logits(view)]
            if self.flip:
                outputs.append(network.logits(view.flip(-1)).flip(-1))
            # the outputs' own grid where the image is fed whole
            sides = zip(outputs[0].shape[-2:], whole, fed, strict=True)
            grid = [cells * full // side for cells, full, side in sides]
            found += [_bilinear(to_probabilities(one, network.values), grid) for one in outputs]
        return torch.stack(found).mean(dim=0)


ONE_VIEW = Views()


def network_size(images: Tensor, scale: float, stride: int) -> tuple[int, int]:
    """(H, W) that is fed for images [..., H, W]: nearest multiples of `stride`, at least one."""
    height, width = (max(1, round(side * scale / stride)) * stride for side in images.shape[-2:])
    return height, width


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, K, H, W] to another (H, W), bilinear; smoothed first where it shrinks."""
    return images if tuple(images.shape[-2:]) == size else _bilinear(images, size, antialias=True)


def to_probabilities(outputs: Tensor, values: str) -> Tensor:
    """[N, C, h, w] of a network to float32 class probabilities that add up to 1 at each pixel."""
    outputs = outputs.float()
    return outputs.softmax(1) if values == "logits" else outputs / outputs.sum(1, keepdim=True)
