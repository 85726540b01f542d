"""The average at label resolution written slowly: the oracle, and the path without a C compiler.

M models, G groups, C classes, native maps [C, h, w], labels [H, W]. ``resize="logits"``
interpolates every model's logits, then takes softmaxes. ``resize="probabilities"`` takes softmaxes
and sums them per group and resolution first, and interpolates those: G interpolations, not M.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusion.kernels.arithmetic import NO_SCORE, Fused, bilinear_steps
from fusion.kernels.average import naive
from fusion.kernels.average.naive import added, reciprocal, to_float32
from fusion.kernels.call import Pair, Upsampling

Steps = tuple[Tensor, ...]  # lower neighbours, upper neighbours, fractions
BAND = 32  # label rows at a time, so that memory stays bounded


def bilinear(maps: Tensor, size: Pair, rows: Pair | None = None) -> Tensor:
    """[..., h, w] float32 to [..., H, W], or its rows y0 <= y < y1; the identity at that size."""
    rows = rows or (0, size[0])
    if tuple(maps.shape[-2:]) == tuple(size):
        return maps[..., rows[0] : rows[1], :]
    lines = bilinear_steps(maps.shape[-2], size[0])
    some = tuple(step[rows[0] : rows[1]] for step in lines)
    return interpolated(maps, some, bilinear_steps(maps.shape[-1], size[1]))


def interpolated(maps: Tensor, lines: Steps, columns: Steps) -> Tensor:
    """[..., h, w] float32 at rows and columns: what `bilinear_steps` gives, or some of it."""
    left, right, fx = (step.to(maps.device) for step in columns)
    upper, lower, fy = (step.to(maps.device) for step in lines)
    first, last = int(upper[0]), int(lower[-1])
    band = maps[..., first : last + 1, :]
    band = band[..., left] * (1.0 - fx) + band[..., right] * fx
    fy = fy[:, None]
    return band[..., upper - first, :] * (1.0 - fy) + band[..., lower - first, :] * fy


def interpolated_at(maps: Tensor, classes: Tensor, lines: Steps, columns: Steps) -> Tensor:
    """[..., C, h, w] to [..., n, m]: of what `interpolated` gives, one class a pixel [n, m]."""
    height, width = maps.shape[-2:]
    left, right, fx = (step.to(maps.device) for step in columns)
    upper, lower, fy = (step.to(maps.device)[:, None] for step in lines)
    flat = maps.flatten(-3)

    def row(y: Tensor) -> Tensor:
        first = (classes * height + y) * width
        return flat[..., first + left] * (1.0 - fx) + flat[..., first + right] * fx

    return row(upper) * (1.0 - fy) + row(lower) * fy


def interpolable(logits: Tensor, channels: bool = False) -> Tensor:
    """float32 logits [C, ...] with -inf made finite, and NaN at pixels without any finite class;
    of channels, which may be inf too, each by itself."""
    if channels:
        return logits.nan_to_num(nan=torch.nan, posinf=-NO_SCORE, neginf=NO_SCORE)
    dead = torch.isneginf(logits).all(dim=0)
    return torch.where(dead, torch.nan, logits.masked_fill(torch.isneginf(logits), NO_SCORE))


def resized(call: Upsampling, m: int, rows: Pair) -> Tensor:
    """Model m's probabilities [C, rows, W] from its interpolated values."""
    values = to_float32(call.logits[m], call.channels)
    if call.values[m] == "probabilities":
        return bilinear(values, call.size, rows)
    return naive.shares(call, bilinear(interpolable(values, call.channels), call.size, rows), m)


def native_sums(call: Upsampling, group: tuple[int, ...]) -> list[Tensor]:
    """A group's probabilities [C, h, w], added per resolution, as these appear in the group."""
    members: dict[tuple[int, ...], list[int]] = {}
    for m in group:
        members.setdefault(tuple(call.logits[m].shape), []).append(m)
    return [added(naive.probabilities(call, m) for m in same) for same in members.values()]


def upsample(call: Upsampling, band: int = BAND) -> Fused:
    """As `fusion.kernels.upsample_softmax_average`, on tensors of any device."""
    made, first = call.allocate(), call.rows[0]
    native = call.resize == "probabilities"
    sums = [native_sums(call, group) for group in call.groups] if native else []
    for y in range(*call.rows, band):
        rows = (y, min(y + band, call.rows[1]))
        means = []
        for g, group in enumerate(call.groups):
            share = reciprocal(len(group), call.device)
            if native:
                means.append(added(bilinear(part * share, call.size, rows) for part in sums[g]))
            else:
                means.append(added(resized(call, m, rows) for m in group) * share)
        place = (..., slice(rows[0] - first, rows[1] - first), slice(None))
        made.fill(place, naive.summary(torch.stack(means), call))
    return made
