"""Weighted sums counted through resized.c, on all threads of torch's number, a frame at a time."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fusion.kernels.arithmetic import bilinear_steps
from fusion.kernels.contested.layout import Floats, Ints
from fusion.kernels.native import build
from fusion.kernels.native.bindings import Frame, Steps
from fusion.kernels.native.pool import in_threads, workers
from fusion.kernels.numbers import as_read
from fusion.kernels.resized import Frames
from fusion.kernels.sweep import FLIP, Flips, joined

MOST_APART = 0.6  # of the weight of vectors that are summed side by side
SLACK = 2.0**-19  # above the relative rounding of three steps and two products, on both sides


class Views:
    """The frames of a set as C takes them; alive as long as their addresses are used."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        source, step = frames.maps.shape[3:], frames.stride
        axes = [bilinear_steps(*pair) for pair in zip(source, frames.size, strict=True)]
        rows, columns = ([table[::step].contiguous() for table in axis] for axis in axes)
        self.tables = (*columns[:2], *rows[:2], columns[2], rows[2])
        addresses = [table.data_ptr() for table in self.tables]
        self.steps = Steps(*addresses, len(columns[0]), len(rows[0]))

    def __getitem__(self, t: int) -> Frame:
        maps, targets = self.frames.maps[t], self.frames.targets[t]
        shape, wide = maps.shape, targets.dtype == np.uint16
        given = (maps.ctypes.data, targets.ctypes.data, ctypes.addressof(self.steps))
        return Frame(*given, *shape, wide)

    def shares(self) -> Iterator[tuple[range]]:
        """Every thread's frames."""
        length, number = len(self.frames.maps), workers()
        yield from ((range(first, length, number),) for first in range(min(number, length)))


def count(
    frames: Frames, weights: NDArray[np.float64], scale: Floats, *, matrix: bool = True
) -> Ints:
    """As `fusion.kernels.resized.naive.count`."""
    library, views, classes = build.library(), Views(frames), frames.classes
    assert library is not None
    base = weights.min(axis=0)
    more = as_read(weights - base, np.float64)  # of whole steps: exact
    # vectors with too little in common settle nothing together
    together = len(weights) if 1 - base.sum() <= MOST_APART else 1

    def task(share: range) -> Ints:
        counts = np.zeros((len(weights), classes if matrix else 2, classes), np.int64)
        for t, first in itertools.product(share, range(0, len(weights), together)):
            some = slice(first, first + together)
            sums = (base, more[some], together, scale[some])
            given = (ctypes.byref(views[t]), *sums, SLACK, matrix, counts[some])
            if not library.fusion_resized_count(*given):
                raise MemoryError(f"resized: no room for two rows of {together} sums")
        return counts

    shares = in_threads(task, list(views.shares()))
    return np.sum(shares, axis=0)


def flips(
    frames: Frames, ends: NDArray[np.float64], scale: Floats, low: float, high: float, room: int
) -> Flips:
    """As `fusion.kernels.resized.naive.flips`."""
    library, views, classes = build.library(), Views(frames), frames.classes
    assert library is not None

    most = min(room, frames.targets[0].size * (classes - 1))

    def task(share: range) -> list[Flips]:
        flips, found = np.empty(most, FLIP), []
        for t in share:
            statistics = np.zeros((1, 2, classes), np.int64)
            given = (ctypes.byref(views[t]), ends, scale, SLACK, low, high, most)
            number = library.fusion_resized_flips(*given, flips, statistics)
            if number < 0:
                raise MemoryError("resized: no room for two rows of two sums")
            found.append(Flips(flips[:number].copy(), statistics, number <= most))
        return found

    shares = in_threads(task, list(views.shares()))
    return joined([flips for share in shares for flips in share], classes)
