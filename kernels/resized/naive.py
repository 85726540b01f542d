"""Weighted sums at label size written slowly: whole maps, every class, every pixel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from fusion.kernels.confusion import naive as counting
from fusion.kernels.contested.layout import Block, Floats, Ints, Parts, runs
from fusion.kernels.resized import Frames
from fusion.kernels.sweep import Flips
from fusion.kernels.sweep import naive as sweep
from fusion.kernels.upsample.naive import bilinear


def scores(frames: Frames, weights: NDArray[np.float64], scale: Floats) -> Iterator[Floats]:
    """float32 [C, rows, columns] of each frame under one weight vector [M]; scale [C]."""
    step = frames.stride
    for maps in frames.maps:
        total = np.tensordot(weights, maps.astype(np.float64), 1).astype(np.float32)
        whole = bilinear(torch.from_numpy(total), frames.size).numpy()
        yield whole[:, ::step, ::step] * scale[:, None, None]


def count(
    frames: Frames, weights: NDArray[np.float64], scale: Floats, *, matrix: bool = True
) -> Ints:
    """As `fusion.kernels.resized.count`, of stepped weights."""
    classes, found = frames.classes, []
    for vector, multipliers in zip(weights, scale, strict=True):
        labels = [each.argmax(axis=0) for each in scores(frames, vector, multipliers)]
        targets = np.minimum(frames.targets, classes).astype(np.int64)
        found.append(counting.confusion(targets, np.stack(labels), classes, ignore=classes))
    whole = np.array(found, np.int64).reshape(-1, classes, classes)
    if matrix:
        return whole
    return np.stack([np.diagonal(whole, axis1=1, axis2=2), whole.sum(axis=1)], axis=1)


def flips(
    frames: Frames, ends: NDArray[np.float64], scale: Floats, low: float, high: float, room: int
) -> Flips:
    """As `fusion.kernels.resized.flips`: the scores at both ends are the means of two groups."""
    classes, parts = frames.classes, []
    both = zip(*(scores(frames, *end) for end in zip(ends, scale, strict=True)), strict=True)
    for pair, targets in zip(both, frames.targets, strict=True):
        counted = targets < classes
        means = np.stack([each[:, counted] for each in pair], axis=2).transpose(1, 0, 2)
        names = np.tile(np.arange(classes, dtype=np.uint16), len(means))
        widths = np.full(len(means), classes, np.uint16)
        ids = targets[counted].astype(np.uint16)
        nothing = np.zeros((classes, classes), np.int64)
        block = Block(nothing, widths, ids, names, means.reshape(-1, 2))
        parts += [(0, run) for run in runs(block)]
    segment = np.eye(2)
    given = (Parts(parts), (segment[0], segment[1]), classes, low, high, room)
    return sweep.flips(*given, 1, None)
