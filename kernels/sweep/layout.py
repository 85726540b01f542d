"""What sweeps find and keep: flips along a segment, and what a simplex of weights leaves open.

Shape letters: C classes, F flips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.kernels.contested.layout import Run

FLIP = np.dtype([("at", "f8"), ("target", "u2"), ("from", "u2"), ("to", "u2"), ("unused", "u2")])
NEVER, ALWAYS, WHEN_PREDICTED = 0, 1, 2  # how a class counts in the mean over classes


@dataclass(frozen=True)
class Flips:
    """Flips of a segment's stretch.

    flips: [F] of dtype FLIP, unsorted. statistics: int64 [2, C], intersections and predictions just
    right of the low end. complete: false where there were more flips than room; then `flips` is not
    to be used.
    """

    flips: NDArray[Any]
    statistics: NDArray[np.int64]
    complete: bool


def joined(shares: Sequence[Flips], classes: int) -> Flips:
    """Flips of several sets of pixels as one."""
    if not shares:
        return Flips(np.empty(0, FLIP), np.zeros((2, classes), np.int64), True)
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

    ids: NDArray[np.int64]
    right: NDArray[np.int64]
    wrong: NDArray[np.int64]
    gain: NDArray[np.int64]


def every_pixel(runs: Sequence[tuple[int, Run]]) -> NDArray[np.int64]:
    """The ids of all pixels."""
    ids = [(i << 32) + np.arange(run.pixels, dtype=np.int64) for i, (_, run) in enumerate(runs)]
    return np.concatenate(ids) if ids else np.zeros(0, np.int64)


def slack(groups: int) -> float:
    """Relative distance at which float64 order implies float32 order, see the package."""
    return (groups + 4) * 2.0**-24
