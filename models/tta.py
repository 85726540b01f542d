"""Test-time augmentation (section 2.1): the image mirrored and at several scales, averaged as probabilities at store resolution.

N images, C classes, H W image pixels, h w store pixels. An image is resized to the nearest multiple of the network's stride before it
is fed, never padded: the grid of the output then covers the image exactly, mirrored and scaled views fall on the same places, and a
store's reader may interpolate with half-pixel centres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fusion.errors import InputError
from fusion.models.registry import Network


def check_scales(scales: Sequence[float]) -> tuple[float, ...]:
    """The scales as a tuple; InputError: none, or one that is not a number above 0."""
    if not scales or not all(0 < scale < math.inf for scale in scales):
        raise InputError(f"scales: got {list(scales)}; give numbers above 0, such as 0.75 1 1.25")
    return tuple(float(scale) for scale in scales)


def is_plain(flip: bool, scales: Sequence[float]) -> bool:
    """Whether there is one view only, whose outputs can be stored as they are."""
    return not flip and tuple(scales) == (1.0,)


def network_size(size: tuple[int, int], scale: float, stride: int) -> tuple[int, int]:
    """(H, W) that is fed for an image of a size: the nearest multiples of `stride`, at least one."""
    height, width = (max(1, round(side * scale / stride)) * stride for side in size)
    return height, width


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """[N, K, H, W] to another (H, W), bilinear; smoothed first where it shrinks."""
    if tuple(images.shape[-2:]) == size:
        return images
    return functional.interpolate(
        images, size, mode="bilinear", align_corners=False, antialias=True
    )


def to_probabilities(outputs: Tensor, values: str) -> Tensor:
    """[N, C, h, w] of a network to float32 class probabilities that add up to 1 at each pixel."""
    if values == "logits":
        return outputs.float().softmax(dim=1)
    return outputs.float() / outputs.float().sum(dim=1, keepdim=True)


@torch.no_grad()
def predict(
    network: Network, images: Tensor, *, flip: bool = False, scales: Sequence[float] = (1.0,)
) -> Tensor:
    """What is stored for standardised images [N, 3, H, W]: [N, C, h, w], at the network's resolution for scale 1.

    One view: the network's outputs, to be stored as `network.values`. Several: the mean of their class probabilities.
    """
    size = (images.shape[-2], images.shape[-1])
    whole = network_size(size, 1.0, network.stride)
    if is_plain(flip, scales):
        return network.logits(resized(images, whole))
    views = []
    for scale in scales:
        part = network_size(size, scale, network.stride)
        fed = resized(images, part)
        outputs = (
            [network.logits(fed), network.logits(fed.flip(-1)).flip(-1)]
            if flip
            else [network.logits(fed)]
        )
        for probabilities in (to_probabilities(output, network.values) for output in outputs):
            grid = [
                cells * full // fed_side
                for cells, full, fed_side in zip(probabilities.shape[-2:], whole, part, strict=True)
            ]
            views.append(
                functional.interpolate(probabilities, grid, mode="bilinear", align_corners=False)
            )
    return torch.stack(views).mean(dim=0)
