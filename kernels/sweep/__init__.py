"""Weights that move: flips along a segment, the best interval between flips, bounds over a simplex.

Along w(s) = (1 - s) a + s b, 0 <= s <= 1, every candidate's score is a line in s and a pixel's
label follows the upper envelope; at a breakpoint one pixel flips from one class to another and four
integers change. Sorted by s and cumulated, the flips give mIoU at every s from one pass. Over a
simplex of weights scores are linear too, so candidate i beats candidate j everywhere if it does at
the corners, which bounds intersections and unions of all weights inside.

All of it is float64; the contract's float32 scores differ from it by a factor of at most
1 +- (G + 2) 2^-24 (normalising, products, sums), for which bounds keep `slack`. What a sweep finds
is to be evaluated in float32 before it is believed.

naive.py says what is computed, cpu.py returns the same through compiled loops. Shape letters:
G groups, C classes, F flips, k candidates of a pixel.
Method: minimum error rate training by line search, Och 2003 and Macherey et al. 2008, for mIoU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.kernels.backends import choose
from fusion.kernels.contested.layout import Ints, Parts, Run

FLIP = np.dtype([("at", "f8"), ("target", "u2"), ("from", "u2"), ("to", "u2"), ("unused", "u2")])
NEVER, ALWAYS, WHEN_PREDICTED = 0, 1, 2  # how a class counts in the mean over classes

Bytes = NDArray[np.uint8]
Pair = tuple[float, float]
Ends = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Flips:
    """Flips of a segment's stretch.

    flips: [F] of dtype FLIP, unsorted. statistics: int64 [2, C], intersections and predictions just
    right of the low end. complete: false where there were more flips than room; then `flips` is not
    to be used.
    """

    flips: NDArray[Any]
    statistics: Ints
    complete: bool


def joined(shares: Sequence[Flips], classes: int) -> Flips:
    """Flips of several sets of pixels as one."""
    shares = [Flips(np.empty(0, FLIP), np.zeros((2, classes), np.int64), complete=True), *shares]
    found = np.concatenate([share.flips for share in shares])
    statistics = np.sum([share.statistics for share in shares], axis=0)
    return Flips(found, statistics, all(share.complete for share in shares))


@dataclass(frozen=True)
class Undecided:
    """What a simplex leaves open.

    ids: int64, run << 32 | pixel, of the undecided pixels. right, wrong: int64 [C], decided pixels
    by predicted class, its ancestors' included. gain: int64 [C], undecided pixels by target that
    may come out right.
    """

    ids: Ints
    right: Ints
    wrong: Ints
    gain: Ints


def every_pixel(runs: Sequence[tuple[int, Run]]) -> Ints:
    """The ids of all pixels."""
    ids = [(i << 32) + np.arange(run.pixels, dtype=np.int64) for i, (_, run) in enumerate(runs)]
    return np.concatenate(ids) if ids else np.zeros(0, np.int64)


def slack(groups: int) -> float:
    """Relative distance at which float64 order implies float32 order."""
    return (groups + 4) * 2.0**-24


def flips(parts: Parts, ends: Ends, classes: int, low: float, high: float, room: int) -> Flips:
    """Label flips with low < s < high along the segment from ends[0] [G] to ends[1] [G].

    Args:
        parts: contested pixels.
        ends: two weight vectors of sum 1.
        classes: C.
        low, high: the stretch of the segment.
        room: flips that each thread may keep.

    Raises:
        ValueError: pixels that do not go with the groups or classes.
    """
    parts.check(len(ends[0]), classes)
    return choose("sweep").flips(parts, ends, classes, low, high, room)


def scan(
    found: Flips, rows: Ints, base: Ints, counted: Bytes, low: float, high: float, narrowest: float
) -> tuple[float, float, float]:
    """The best mean IoU between flips, and the ends of its interval.

    Args:
        found: all flips of the stretch low < s < high.
        rows: int64 [C], all pixels by target.
        base: int64 [2, C], intersections and predictions of the pixels that never flip.
        counted: uint8 [C], how a class counts in the mean: NEVER, ALWAYS or WHEN_PREDICTED.
        low, high: the stretch.
        narrowest: intervals below this width are passed over.

    Returns:
        (mean, left, right), the widest of equally good ones; mean -1 where none is wide enough.

    Raises:
        ValueError: lengths that do not fit, or flips of other classes.
    """
    classes, shapes = len(rows), (base.shape, found.statistics.shape, counted.shape)
    if shapes != ((2, classes), (2, classes), (classes,)):
        got = "base {}, statistics {}, counted {}".format(*map(list, shapes))
        raise ValueError(f"scan: {got}; expected {classes} classes")
    highest = max(int(found.flips[name].max(initial=0)) for name in ("target", "from", "to"))
    if highest >= max(1, classes):
        raise ValueError(f"scan: a flip of class {highest} where there are {classes}")
    # equal positions are one group: their order does not matter
    ordered = choose("sweep").ordered(found.flips)
    statistics = np.ascontiguousarray(found.statistics + base)
    rows, counted = np.ascontiguousarray(rows), np.ascontiguousarray(counted, np.uint8)
    return choose("sweep").scan(ordered, rows, statistics, counted, (low, high), narrowest)


def bound(parts: Parts, parent: Undecided, corners: NDArray[np.float64]) -> Undecided:
    """The parent's undecided pixels seen from a simplex of weights.

    Args:
        parts: contested pixels.
        parent: what a simplex around this one left open.
        corners: float64 [G, G], one weight vector a row, each of sum 1.

    Raises:
        ValueError: pixels that do not go with groups or classes, or are none of the parent's.
    """
    classes, corners = len(parent.right), np.ascontiguousarray(corners, np.float64)
    parts.check(len(corners), classes)
    if corners.shape != (len(corners),) * 2 or len(parent.wrong) != classes:
        raise ValueError(f"bound: corners {list(corners.shape)}; give one weight vector per group")
    return choose("sweep").bound(parts, parent, corners, classes)
