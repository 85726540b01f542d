"""Sweeps through the compiled loops of sweep.c; flips on all threads of torch's number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.kernels.contested.layout import LANES, Parts
from fusion.kernels.native import build
from fusion.kernels.native.pool import in_threads, workers
from fusion.kernels.numbers import as_read
from fusion.kernels.sweep import (
    FLIP,
    Cells,
    Ends,
    Flips,
    Floats,
    Ints,
    Pair,
    Undecided,
    joined,
    slack,
)


def flips(
    parts: Parts,
    ends: Ends,
    classes: int,
    low: float,
    high: float,
    room: int,
    cases: int,
    multipliers: Floats | None,
) -> Flips:
    """As `fusion.kernels.sweep.flips`."""
    library, groups = build.library(), len(ends[0])
    assert library is not None
    start, step = ends[0], ends[1] - ends[0]

    factors = None if multipliers is None else multipliers.ctypes.data

    def share_flips(table: Ints) -> Flips:
        most = min(room, int(((table[:, 3] - 1) * table[:, 4]).sum()))
        found, statistics = np.empty(most, FLIP), np.zeros((cases, 2, classes), np.int64)
        given = (table, len(table), start, step, factors, groups, classes, low, high, most)
        scratch = np.empty(2 * parts.widest * LANES)
        number = library.contested_flips(*given, found, statistics, scratch)
        return Flips(found[:number], statistics, number <= most)

    jobs = [(share,) for share in parts.shares(workers(), groups, classes)]
    return joined(in_threads(share_flips, jobs), classes, cases)


def class_flips(
    parts: Parts,
    weights: Floats,
    multipliers: Floats,
    moving: int,
    low: float,
    high: float,
    room: int,
    cases: int,
) -> Flips:
    """As `fusion.kernels.sweep.class_flips`."""
    library, groups, classes = build.library(), len(weights), len(multipliers)
    assert library is not None

    def share_flips(table: Ints) -> Flips:
        most = min(room, int(table[:, 4].sum()))
        found, statistics = np.empty(most, FLIP), np.zeros((cases, 2, classes), np.int64)
        given = (table, len(table), weights, multipliers, groups, classes, moving, low, high, most)
        number = library.contested_class_flips(*given, found, statistics)
        return Flips(found[:number], statistics, number <= most)

    jobs = [(share,) for share in parts.shares(workers(), groups, classes)]
    return joined(in_threads(share_flips, jobs), classes, cases)


def ordered(flips: NDArray) -> NDArray:
    """As `fusion.kernels.sweep.naive.ordered`."""
    library, made = build.library(), np.empty(len(flips), FLIP)
    assert library is not None
    if not library.contested_order(as_read(flips, FLIP), len(flips), made):
        raise MemoryError(f"sweep: no room for {len(flips)} flips in order")
    return made


def scan(
    ordered: NDArray, cells: Cells, statistics: Ints, ends: Pair, narrowest: float
) -> tuple[float, float, float]:
    """As `fusion.kernels.sweep.naive.scan`; writes to `statistics`."""
    library = build.library()
    assert library is not None
    outers, best = len(cells.shares), np.empty(3)
    arrays = cells.rows, cells.counted, cells.weights, cells.outer, cells.shares
    sizes, scores = (*cells.rows.shape, outers), np.empty(cells.rows.shape)
    scratch = scores, np.empty((3, outers)), np.empty((2, outers), np.int64)
    given = (ordered, len(ordered), *sizes, *arrays, int(cells.dice), statistics)
    library.contested_scan(*given, *ends, narrowest, *scratch, best)
    mean, left, right = best.tolist()
    return mean, left, right


def bound(parts: Parts, parent: Undecided, corners: NDArray[np.float64], classes: int) -> Undecided:
    """As `fusion.kernels.sweep.bound`."""
    library, groups = build.library(), len(corners)
    assert library is not None
    table, ids = parts.table(groups, classes), np.empty_like(parent.ids)
    right, wrong, gain = parent.right.copy(), parent.wrong.copy(), np.zeros(classes, np.int64)
    given = (table, len(table), parent.ids, len(ids), corners, groups, slack(groups))
    scratch = np.empty((parts.widest, groups))
    left = library.contested_bound(*given, ids, right, wrong, gain, scratch)
    if left < 0:
        raise ValueError("bound: an undecided pixel is none of these runs")
    return Undecided(ids[:left].copy(), right, wrong, gain)
