"""Weights that move: flips along a segment, the best interval between flips, bounds over a simplex.

Along w(s) = (1 - s) a + s b, 0 <= s <= 1, every candidate's score is a line in s and a pixel's
label follows the upper envelope; at a breakpoint one pixel flips from one class to another and four
integers change. Sorted by s and cumulated, the flips give a score at every s from one pass. Over a
simplex of weights scores are linear too, so candidate i beats candidate j everywhere if it does at
the corners, which bounds intersections and unions of all weights inside.

All of it is float64; the contract's float32 scores differ from it by a factor of at most
1 +- (G + 2) 2^-24 (normalising, products, sums), for which bounds keep `slack`. What a sweep finds
is to be evaluated in float32 before it is believed.

naive.py says what is computed, cpu.py returns the same through compiled loops. Shape letters:
G groups, C classes, F flips, k candidates of a pixel, V cases whose counts stay apart (1 where all
matrices are summed), O outer groups.
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
from fusion.kernels.numbers import as_read

_IDS = [(name, "u2") for name in ("target", "from", "to", "case")]
FLIP = np.dtype([("at", "f8"), *_IDS], align=True)  # flip_t of native/envelope.h
NEVER, ALWAYS, WHEN_PREDICTED = 0, 1, 2  # how a class counts in the mean over classes
MOST_CASES = 1 << 16  # that a flip can name

Bytes = NDArray[np.uint8]
Pair = tuple[float, float]
Floats = NDArray[np.float64]
Ends = tuple[Floats, Floats]


@dataclass(frozen=True)
class Flips:
    """Flips of a segment's stretch.

    flips: [F] of dtype FLIP, unsorted; `case` is the video index of the pixel's run. statistics:
    int64 [V, 2, C], intersections and predictions just right of the low end. complete: false where
    there were more flips than room; then `flips` is not to be used.
    """

    flips: NDArray[Any]
    statistics: Ints
    complete: bool

    def of_case(self, case: int, cases: int) -> Flips:
        """Flips of one case as those of one of `cases`."""
        found, statistics = (
            self.flips.copy(),
            np.zeros((cases, *self.statistics.shape[1:]), np.int64),
        )
        found["case"], statistics[case] = case, self.statistics[0]
        return Flips(found, statistics, self.complete)


@dataclass(frozen=True)
class Cells:
    """A mean over outer groups of means over cells; a cell is a class of a case.

    A group without a member is left out of the outer mean, a cell that does not count of its
    group's. The plain dataset mIoU is one case, one group, weights of 1.

    rows: int64 [V, C], all pixels by target. counted: uint8 [V, C]: NEVER, ALWAYS or
    WHEN_PREDICTED. weights: float64 [V, C] >= 0, in the group's mean. outer: int64 [V, C], the
    group, below O. shares: float64 [O] >= 0, weights of the groups. dice: a cell scores
    2 d / (r + c), else d / (r + c - d).
    """

    rows: Ints
    counted: Bytes
    weights: NDArray[np.float64]
    outer: Ints
    shares: NDArray[np.float64]
    dice: bool = False

    def __post_init__(self) -> None:
        kinds = {"rows": "i8", "counted": "u1", "weights": "f8", "outer": "i8", "shares": "f8"}
        for name, kind in kinds.items():
            array = as_read(getattr(self, name), kind)
            if name != "shares" and (array.ndim != 2 or array.shape != self.rows.shape):
                got = f"{name} {list(array.shape)}, rows {list(self.rows.shape)}"
                raise ValueError(f"cells: {got}; expected [cases, classes] of each")
            object.__setattr__(self, name, array)
        if self.shares.ndim != 1 or not self.shares.size:
            raise ValueError(f"cells: shares {list(self.shares.shape)}; give one for every group")
        if self.outer.size and not 0 <= self.outer.min() <= self.outer.max() < len(self.shares):
            raise ValueError(f"cells: a group of {self.outer.max()} with {len(self.shares)} shares")


def joined(shares: Sequence[Flips], classes: int, cases: int = 1) -> Flips:
    """Flips of several sets of pixels as one."""
    nothing = np.zeros((cases, 2, classes), np.int64)
    shares = [Flips(np.empty(0, FLIP), nothing, complete=True), *shares]
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


def flips(
    parts: Parts,
    ends: Ends,
    classes: int,
    low: float,
    high: float,
    room: int,
    cases: int = 1,
    multipliers: Floats | None = None,
) -> Flips:
    """Label flips with low < s < high along the segment from ends[0] [G] to ends[1] [G].

    Args:
        parts: contested pixels; the video of each run is its case.
        ends: two weight vectors of sum 1.
        classes: C.
        low, high: the stretch of the segment.
        room: flips that each thread may keep.
        cases: V, at most 65,536.
        multipliers: [C] that scores are multiplied by; None is all ones.

    Raises:
        ValueError: pixels that do not go with the groups, classes or cases.
    """
    start, end = (as_read(x, np.float64) for x in ends)
    if start.ndim != 1 or start.shape != end.shape:
        raise ValueError(f"flips: ends {list(start.shape)}, {list(end.shape)}; give two of [G]")
    _check("flips", parts, len(start), classes, cases, room)
    factors = None if multipliers is None else as_read(multipliers, np.float64)
    if factors is not None and factors.shape != (classes,):
        raise ValueError(f"flips: multipliers {list(factors.shape)}; expected {classes}")
    given = (parts, (start, end), classes, low, high, room, cases, factors)
    return choose("sweep").flips(*given)


def class_flips(
    parts: Parts,
    weights: Floats,
    multipliers: Floats,
    moving: int,
    low: float,
    high: float,
    room: int,
    cases: int = 1,
) -> Flips:
    """Label flips while one class's multiplier moves: where b_c F_c meets the best other b_d F_d.

    A pixel has one such place at most, whatever the number of its candidates: it is class c beyond
    it. So one sorted pass knows the objective at every b_c.

    Args:
        parts: contested pixels.
        weights: [G].
        multipliers: [C]; that of the moving class does not matter.
        moving: class c.
        low, high: ends of the natural logarithm of b_c; flips lie strictly between.
        room: flips that each thread may keep.
        cases: V, at most 65,536.

    Returns:
        Flips whose `at` are logarithms of b_c.

    Raises:
        ValueError: pixels that do not go with the groups or classes, or no such class.
    """
    weights, multipliers = (as_read(x, np.float64) for x in (weights, multipliers))
    if weights.ndim != 1 or multipliers.ndim != 1:
        got = f"weights {list(weights.shape)}, multipliers {list(multipliers.shape)}"
        raise ValueError(f"class_flips: {got}; give [G] and [C]")
    _check("class_flips", parts, len(weights), len(multipliers), cases, room)
    if not 0 <= moving < len(multipliers):
        raise ValueError(f"class_flips: class {moving} where there are {len(multipliers)}")
    given = (weights, multipliers, moving, low, high, room, cases)
    return choose("sweep").class_flips(parts, *given)


def _check(what: str, parts: Parts, groups: int, classes: int, cases: int, room: int) -> None:
    """ValueError where a run goes with no such case, or its arrays are not what they say."""
    parts.check(groups, classes)
    highest = max((video for video, _ in parts.runs), default=0)
    if not highest < cases <= MOST_CASES:
        raise ValueError(f"{what}: a run of case {highest}, {cases} cases; {MOST_CASES} at most")
    if room < 0:
        raise ValueError(f"{what}: room for {room} flips; give none or more")


def scan(
    found: Flips, cells: Cells, base: Ints, low: float, high: float, narrowest: float
) -> tuple[float, float, float]:
    """The best objective between flips, and the ends of its interval.

    Args:
        found: all flips of the stretch low < s < high.
        cells: the objective, and all pixels by target.
        base: int64 [V, 2, C], intersections and predictions of the pixels that never flip.
        low, high: the stretch.
        narrowest: intervals below this width are passed over.

    Returns:
        (mean, left, right), the widest of equally good ones; mean -1 where none is wide enough.

    Raises:
        ValueError: lengths that do not fit, or flips of other classes or cases.
    """
    cases, classes = cells.rows.shape
    if not base.shape == found.statistics.shape == (cases, 2, classes):
        got = f"base {list(base.shape)}, statistics {list(found.statistics.shape)}"
        raise ValueError(f"scan: {got}; expected {cases} cases and {classes} classes")
    for name, most in (("target", classes), ("from", classes), ("to", classes), ("case", cases)):
        if len(found.flips) and (highest := int(found.flips[name].max())) >= most:
            what = "case" if name == "case" else "class"
            raise ValueError(f"scan: a flip of {what} {highest} where there are {most}")
    # equal positions are one group: their order does not matter
    ordered = choose("sweep").ordered(found.flips)
    statistics = as_read(found.statistics + base, np.int64)
    return choose("sweep").scan(ordered, cells, statistics, (low, high), narrowest)


def bound(parts: Parts, parent: Undecided, corners: NDArray[np.float64]) -> Undecided:
    """The parent's undecided pixels seen from a simplex of weights.

    Args:
        parts: contested pixels.
        parent: what a simplex around this one left open.
        corners: float64 [G, G], one weight vector a row, each of sum 1.

    Raises:
        ValueError: pixels that do not go with groups or classes, or are none of the parent's.
    """
    classes, corners = len(parent.right), as_read(corners, np.float64)
    parts.check(len(corners), classes)
    if corners.shape != (len(corners),) * 2 or len(parent.wrong) != classes:
        raise ValueError(f"bound: corners {list(corners.shape)}; give one weight vector per group")
    ids, right, wrong = (as_read(x, np.int64) for x in (parent.ids, parent.right, parent.wrong))
    known = Undecided(ids, right, wrong, parent.gain)
    return choose("sweep").bound(parts, known, corners, classes)
