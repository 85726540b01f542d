"""Branch and bound over all group weights: how far the best known mIoU can be from the best possible one.

All weightings of G groups are one simplex (only ratios matter, a group's weight may be zero). Over a part of it some pixels' labels
are settled; with `right` and `wrong` the settled pixels by predicted class, `gain` the open ones that may come out right,

    IoU_k <= (right_k + gain_k) / (r_k + wrong_k)          r_k: all pixels whose target is k

because the union is r_k plus the pixels wrongly predicted k. Parts are halved along their longest edge, most promising first; a half
looks again only at the pixels that its parent left open. Labels count as settled only beyond the rounding of float32 fusion, so the
bound holds for the very label maps that fusion makes.

G groups, C classes. The incumbent comes from the line sweeps of `fusion.search.exact.climb`, and from the middles of the parts.
"""

from __future__ import annotations

import heapq
import itertools
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.contested import Condensed
from fusion.errors import InputError
from fusion.kernels import sweep
from fusion.kernels.sweep import Undecided
from fusion.metrics import miou_of_counts
from fusion.search.result import Progress, Trial, untracked

MOST_GROUPS = 3  # a simplex of more dimensions needs more parts than anyone waits for
SMALLEST_EDGE = 1e-6  # below it float32 weights hardly differ
ROUNDING = 1e-12  # of the float64 sums of IoU


@dataclass(order=True)
class Part:
    """A simplex of weights, ordered for a heap. corners: [G, G], one weight vector of sum 1 a row."""

    negative_bound: float
    serial: int
    corners: NDArray[np.float64] = field(compare=False)
    undecided: Undecided | None = field(
        compare=False, default=None
    )  # None: to be looked at from the whole again


@dataclass(frozen=True)
class Certified:
    """certificate: gap, upper_bound, boxes, seconds, complete. best: the best trial met. state: what `certify` resumes from."""

    certificate: dict[str, Any]
    best: Trial
    state: dict[str, Any]


def certify(
    condensed: Condensed,
    best: Trial,
    *,
    convention: str = "vspw",
    gap: float = 1e-4,
    time_limit: float | None = None,
    state: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Certified:
    """An upper bound of the mIoU under all weights, at best `gap` above the best trial.

    best: an evaluated start. time_limit: seconds; then the gap is what it is by then (1 - best mIoU after none). state: of an earlier
    call on the same data, to go on from. InputError: more than three groups, pixels that lie on disk, or no scored pixel.
    """
    groups = len(condensed.groups)
    if groups > MOST_GROUPS or not condensed.resident or not condensed.scored:
        got = f"{groups} groups, {condensed.scored} scored pixels, in memory: {condensed.resident}"
        raise InputError(
            f"certify: got {got}; needs at most {MOST_GROUPS} groups, scored pixels, and a memory budget that holds them"
        )
    work = _Work(condensed, convention, best, state)
    began = time.monotonic()
    for _ in (progress or untracked)(
        itertools.count(), "certify", 0
    ):  # how many steps there will be is not known
        late = time_limit is not None and time.monotonic() - began >= time_limit
        if late or not work.open or -work.open[0].negative_bound <= work.best.miou + gap:
            break
        work.step()
    return work.finish(gap, time.monotonic() - began)


class _Work:
    """The open parts, the bound of the parts given up, and the incumbent."""

    def __init__(
        self, condensed: Condensed, convention: str, best: Trial, state: dict[str, Any] | None
    ) -> None:
        self.condensed, self.convention, self.best = condensed, convention, best
        (self.parts,) = condensed.batches()
        right, predicted = condensed.base
        nothing = np.zeros_like(right)
        self.root = Undecided(sweep.every_pixel(self.parts.runs), right, predicted - right, nothing)
        state = state or {
            "open": [[1.0, np.eye(len(condensed.groups)).tolist()]],
            "settled": 0.0,
            "boxes": 0,
            "seconds": 0.0,
        }
        self.open = [
            Part(-bound, serial, np.array(corners))
            for serial, (bound, corners) in enumerate(state["open"])
        ]
        heapq.heapify(self.open)
        self.settled, self.boxes, self.seconds, self.serial = (
            state["settled"],
            state["boxes"],
            state["seconds"],
            len(self.open),
        )
        self.kept = 0

    def step(self) -> None:
        """Looks at the most promising part: bounds it if it has no bound yet, else halves it."""
        part = heapq.heappop(self.open)
        self._forget(part)
        if self.boxes == 0:
            return self._add(part.corners, self.root)
        edges = np.linalg.norm(part.corners[:, None] - part.corners[None], axis=2)
        first, second = np.unravel_index(int(edges.argmax()), edges.shape)
        if edges[first, second] < SMALLEST_EDGE:
            self.settled = max(self.settled, -part.negative_bound)
            return None
        middle = (part.corners[first] + part.corners[second]) / 2
        halves = np.stack([part.corners, part.corners])
        halves[0, first] = halves[1, second] = middle
        for half in halves:
            self._add(half, part.undecided or self.root, -part.negative_bound)
        self._try(np.concatenate([halves.mean(axis=1), middle[None]]))
        return None

    def _add(self, corners: NDArray[np.float64], parent: Undecided, limit: float = 1.0) -> None:
        found = sweep.bound(self.parts, parent, corners)
        bound = min(limit, upper_bound(found, self.condensed.rows, self.convention))
        self.boxes += 1
        self.serial += 1
        self.kept += found.ids.nbytes
        if self.kept > self.condensed.budget.open_parts:  # the part will look at all pixels again
            self.kept -= found.ids.nbytes
            heapq.heappush(self.open, Part(-bound, self.serial, corners))
        else:
            heapq.heappush(self.open, Part(-bound, self.serial, corners, found))

    def _forget(self, part: Part) -> None:
        if part.undecided is not None:
            self.kept -= part.undecided.ids.nbytes

    def _try(self, weights: NDArray[np.float64]) -> None:
        for vector, miou in zip(
            weights.tolist(), self.condensed.miou(weights, self.convention).tolist(), strict=True
        ):
            if miou > self.best.miou:
                self.best = Trial(tuple(vector), miou)

    def finish(self, gap: float, seconds: float) -> Certified:
        upper = max([self.best.miou, self.settled, *(-part.negative_bound for part in self.open)])
        state = {
            "open": [[-part.negative_bound, part.corners.tolist()] for part in sorted(self.open)],
            "settled": self.settled,
            "boxes": self.boxes,
            "seconds": self.seconds + seconds,
        }
        distance = upper - self.best.miou
        certificate = {
            "gap": distance,
            "upper_bound": upper,
            "boxes": self.boxes,
            "seconds": state["seconds"],
            "complete": distance <= gap,
        }
        return Certified(certificate, self.best, state)


def upper_bound(found: Undecided, rows: NDArray[np.int64], convention: str) -> float:
    """The most that mIoU can be over the part that `found` describes.

    By ``union`` a class without targets counts as soon as it is predicted: the settled predictions are the fewest members there can be.
    """
    inter = found.right + found.gain
    return float(miou_of_counts(inter, rows, found.wrong + inter, convention)) + ROUNDING
