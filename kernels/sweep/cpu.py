"""Weights that move over contested pixels: label flips along a segment, the best interval between flips, bounds over a simplex.

Along w(s) = (1 - s) a + s b, 0 <= s <= 1, every candidate's score is a line in s and a pixel's label follows the upper envelope; at a
breakpoint one pixel flips from one class to another and four integers change. Sorted by s and cumulated, the flips give mIoU at every
s from one pass. Over a simplex of weights scores are linear too, so candidate i beats candidate j everywhere if it does at the
corners, which bounds intersections and unions of all weights inside.

All of it is float64; the contract's float32 scores differ from it by a factor of at most 1 +- (G + 2) 2^-24 (normalising, products,
sums), for which bounds keep `slack`. What a sweep finds is to be evaluated in float32 before it is believed.

Shape letters: G groups, C classes, F flips, k candidates of a pixel.
Method: minimum error rate training by line search, Och 2003 and Macherey et al. 2008, here for mIoU.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.kernels.contested.cpu import LANES, Parts, Run, in_threads, pointer, workers
from fusion.kernels.native import build as compiled

FLIP = np.dtype([("at", "f8"), ("target", "u2"), ("from", "u2"), ("to", "u2"), ("unused", "u2")])
CONVENTIONS = ("vspw", "union", "all")


@dataclass(frozen=True)
class Flips:
    """Flips of a segment's stretch: `flips` [F] of dtype FLIP, by position; statistics int64 [2, C], intersections and predictions
    just right of its low end. complete: false where there were more flips than room; then `flips` is not to be used."""

    flips: NDArray[Any]
    statistics: NDArray[np.int64]
    complete: bool


def slack(groups: int) -> float:
    """Relative distance at which float64 order implies float32 order; see the module's docstring."""
    return (groups + 4) * 2.0**-24


def _widest(parts: Parts) -> int:
    return max((run.width for _, run in parts.runs), default=1)


def flips(
    parts: Parts,
    ends: tuple[NDArray[np.float64], NDArray[np.float64]],
    classes: int,
    low: float,
    high: float,
    room: int,
) -> Flips:
    """Flips with low < s < high along the segment from ends[0] [G] to ends[1] [G]; at most `room` per thread are kept."""
    start, step = (
        np.ascontiguousarray(ends[0], np.float64),
        np.ascontiguousarray(ends[1] - ends[0], np.float64),
    )
    library = compiled.library()
    if library is None:
        return flips_slowly(parts, ends, classes, low, high)

    def share_flips(rows: NDArray[np.int64]) -> Flips:
        most = min(room, int(((rows[:, 3] - 1) * rows[:, 4]).sum()))
        found, statistics, scratch = (
            np.empty(most, FLIP),
            np.zeros((2, classes), np.int64),
            np.empty(2 * _widest(parts) * LANES),
        )
        library.contested_flips.restype = ctypes.c_int64
        number = library.contested_flips(
            *(pointer(rows), ctypes.c_int64(len(rows)), pointer(start), pointer(step)),
            *(
                ctypes.c_int64(len(start)),
                ctypes.c_int64(classes),
                ctypes.c_double(low),
                ctypes.c_double(high),
            ),
            *(ctypes.c_int64(most), pointer(found), pointer(statistics), pointer(scratch)),
        )
        return Flips(found[:number], statistics, number <= most)

    return joined(in_threads(share_flips, [(rows,) for rows in parts.shares(workers())]), classes)


def joined(shares: Sequence[Flips], classes: int) -> Flips:
    """Flips of several sets of pixels as one, in order of position."""
    if not shares:
        return Flips(np.empty(0, FLIP), np.zeros((2, classes), np.int64), True)
    found = np.concatenate([share.flips for share in shares])
    statistics = np.sum([share.statistics for share in shares], axis=0)
    return Flips(found, statistics, all(share.complete for share in shares))


def flips_slowly(
    parts: Parts,
    ends: tuple[NDArray[np.float64], NDArray[np.float64]],
    classes: int,
    low: float,
    high: float,
) -> Flips:
    """The twin of `flips`, pixel by pixel: from one winner to the next."""
    found, statistics = [], np.zeros((2, classes), np.int64)
    for _, run in parts.runs:
        for target, names, values in zip(*run.lines(len(ends[0])), strict=True):
            height = np.array([_in_order(row, ends[0]) for row in values])
            slope = np.array([_in_order(row, ends[1] - ends[0]) for row in values])
            now = max(range(run.width), key=lambda j: (height[j] + low * slope[j], slope[j], -j))
            statistics[1, names[now]] += 1
            statistics[0, target] += names[now] == target
            s = low
            while True:
                steeper = [j for j in range(run.width) if slope[j] > slope[now]]
                crossings = [
                    max(s, (height[now] - height[j]) / (slope[j] - slope[now])) for j in steeper
                ]
                ahead = [(at, j) for at, j in zip(crossings, steeper, strict=True) if at < high]
                if not ahead:
                    break
                s, following = min(ahead)
                found.append((s, target, names[now], names[following], 0))
                now = following
    return Flips(np.array(found, FLIP), statistics, True)


def _in_order(row: NDArray[np.float32], weights: NDArray[np.float64]) -> float:
    total = 0.0
    for value, weight in zip(row.tolist(), weights.tolist(), strict=True):
        total += weight * value
    return total


def scan(
    found: Flips,
    rows: NDArray[np.int64],
    base: NDArray[np.int64],
    convention: str,
    low: float,
    high: float,
    narrowest: float,
) -> tuple[float, float, float]:
    """Best mIoU between flips and the ends of its interval, of intervals at least `narrowest` wide; mIoU is -1 where there is none.

    rows [C]: all pixels by target. base [2, C]: intersections and predictions of the pixels that never flip.
    """
    statistics = np.ascontiguousarray(found.statistics + base)
    library = compiled.library()
    order = np.argsort(
        np.ascontiguousarray(found.flips["at"])
    )  # equal positions are one group: their order does not matter
    if library is None:
        return scan_slowly(found.flips[order], rows, statistics, convention, (low, high), narrowest)
    iou, best = np.empty(len(rows)), np.empty(3)
    library.contested_scan(
        *(
            pointer(found.flips),
            pointer(order),
            ctypes.c_int64(len(order)),
            pointer(np.ascontiguousarray(rows)),
        ),
        *(
            pointer(statistics),
            ctypes.c_int64(len(rows)),
            ctypes.c_int64(CONVENTIONS.index(convention)),
        ),
        *(
            ctypes.c_double(low),
            ctypes.c_double(high),
            ctypes.c_double(narrowest),
            pointer(iou),
            pointer(best),
        ),
    )
    return float(best[0]), float(best[1]), float(best[2])


def scan_slowly(
    ordered: NDArray[Any],
    rows: NDArray[np.int64],
    statistics: NDArray[np.int64],
    convention: str,
    stretch: tuple[float, float],
    narrowest: float,
) -> tuple[float, float, float]:
    """The twin of `scan`: every interval's mIoU from its own counts."""
    best, left = (-1.0, stretch[0], stretch[0]), stretch[0]
    inter, predicted = statistics.copy()
    for index in range(len(ordered) + 1):
        right = ordered["at"][index] if index < len(ordered) else stretch[1]
        if right > left:
            union = rows + predicted - inter
            iou = np.divide(inter, union, out=np.zeros(len(rows)), where=union > 0)
            members = {"vspw": rows > 0, "union": union > 0, "all": rows >= 0}[convention].sum()
            value = float(iou.sum() / members) if members else 0.0
            wider = right - left > best[2] - best[1]
            if right - left >= narrowest and (
                value > best[0] + 1e-12 or (value > best[0] - 1e-12 and wider)
            ):
                best = (value, float(left), float(right))
            left = right
        if index < len(ordered):
            _, target, old, new, _ = ordered[index]
            predicted[old] -= 1
            predicted[new] += 1
            inter[target] += int(new == target) - int(old == target)
    return best


@dataclass(frozen=True)
class Undecided:
    """What a simplex leaves open. ids: int64, run << 32 | pixel, of the undecided pixels. right, wrong: int64 [C], decided pixels by
    predicted class, its ancestors' included. gain: int64 [C], undecided pixels by target that may come out right."""

    ids: NDArray[np.int64]
    right: NDArray[np.int64]
    wrong: NDArray[np.int64]
    gain: NDArray[np.int64]


def every_pixel(runs: Sequence[tuple[int, Run]]) -> NDArray[np.int64]:
    """The ids of all pixels."""
    ids = [
        (index << 32) + np.arange(run.pixels, dtype=np.int64) for index, (_, run) in enumerate(runs)
    ]
    return np.concatenate(ids) if ids else np.zeros(0, np.int64)


def bound(parts: Parts, parent: Undecided, corners: NDArray[np.float64]) -> Undecided:
    """The parent's undecided pixels seen from the simplex with these corners [G, G], one weight vector a row, each of sum 1."""
    library = compiled.library()
    if library is None:
        return bound_slowly(parts, parent, corners)
    groups, widest = len(corners), _widest(parts)
    corners, ids = np.ascontiguousarray(corners, np.float64), np.empty_like(parent.ids)
    right, wrong, gain = parent.right.copy(), parent.wrong.copy(), np.zeros_like(parent.gain)
    library.contested_bound.restype = ctypes.c_int64
    left = library.contested_bound(
        *(
            pointer(parts.rows),
            pointer(parent.ids),
            ctypes.c_int64(len(parent.ids)),
            pointer(corners),
            ctypes.c_int64(groups),
        ),
        *(
            ctypes.c_double(slack(groups)),
            pointer(ids),
            pointer(right),
            pointer(wrong),
            pointer(gain),
        ),
        *(pointer(np.empty((widest, groups))), pointer(np.empty(widest, np.uint8))),
    )
    return Undecided(ids[:left].copy(), right, wrong, gain)


def bound_slowly(parts: Parts, parent: Undecided, corners: NDArray[np.float64]) -> Undecided:
    """The twin of `bound`, pixel by pixel."""
    groups, ids = len(corners), []
    right, wrong, gain = parent.right.copy(), parent.wrong.copy(), np.zeros_like(parent.gain)
    lines = [run.lines(groups) for _, run in parts.runs]
    for identity in parent.ids.tolist():
        targets, classes, values = lines[identity >> 32]
        pixel = identity & 0xFFFFFFFF
        scores = np.array([[_in_order(row, corner) for corner in corners] for row in values[pixel]])
        low, high = scores * (1 - slack(groups)), scores * (1 + slack(groups)) + 1e-30
        beaten = [
            any((low[k] > high[j]).all() for k in range(len(scores)) if k != j)
            for j in range(len(scores))
        ]
        alive = classes[pixel][~np.array(beaten)]
        if len(alive) == 1:
            (right if alive[0] == targets[pixel] else wrong)[alive[0]] += 1
        else:
            ids.append(identity)
            gain[targets[pixel]] += targets[pixel] in alive
    return Undecided(np.array(ids, np.int64), right, wrong, gain)
