"""Branch and bound over all group weights: how far the best known mIoU is from the best possible.

All weightings of G groups are one simplex (only ratios matter, a group's weight may be zero). Over
a smaller simplex inside it some pixels' labels are settled; with `right` and `wrong` the settled
pixels by predicted class, `gain` the open ones that may come out right,

    IoU_k <= (right_k + gain_k) / (r_k + wrong_k)          r_k: all pixels whose target is k

because the union is r_k plus the pixels wrongly predicted k. Simplexes are halved along their
longest edge, most promising first; a half looks again only at the pixels that its parent left open.
Labels count as settled only beyond the rounding of float32 fusion, so the bound holds for the very
label maps that fusion makes. What a state of an earlier run says is proved again (`proof`).

G groups, C classes. The incumbent comes from line sweeps, and from the middles of simplexes.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusion.contested import Condensed
from fusion.errors import CorruptStoreError, InputError
from fusion.kernels import sweep
from fusion.kernels.sweep import Undecided
from fusion.metrics.objectives import CONVENTIONS
from fusion.progress import Progress, silent
from fusion.search.claims import number
from fusion.search.exact.proof import Leaf, Proof, halved, leaves_of, longest_edge, upper_bound
from fusion.search.method import Problem
from fusion.search.result import Trial, best_trial

MOST_GROUPS = 3  # of more dimensions there are more simplexes than anyone waits for
SMALLEST_EDGE = 1e-6  # below it float32 weights hardly differ


class Simplex(NamedTuple):
    """Weights between corners [G, G], one weight vector of sum 1 a row; for a heap.

    number: its own, so that order never asks for more than bound and number. undecided: its open
    pixels, None where memory is short: then all pixels are looked at again.
    """

    negative_bound: float
    number: int
    corners: NDArray[np.float64]
    undecided: Undecided | None = None

    @property
    def bytes(self) -> int:
        return 0 if self.undecided is None else self.undecided.ids.nbytes


class Certified(NamedTuple):
    """What is known so far.

    certificate: gap, upper_bound, boxes, seconds, complete; and `taken`, simplexes whose bounds are
    the state's and were not computed again, where there are any. best: the best trial met. state:
    what `certify` resumes from.
    """

    certificate: dict[str, Any]
    best: Trial
    state: dict[str, Any]


def certify(
    problem: Problem,
    best: Trial,
    *,
    gap: float = 1e-4,
    time_limit: float = math.inf,
    state: dict[str, Any] | None = None,
    deadline: float = math.inf,
    progress: Progress = silent,
) -> Certified:
    """An upper bound of the mIoU under all weights, at best `gap` above the best trial.

    Args:
        best: an evaluated start.
        gap: at which to stop.
        time_limit: seconds; then the gap is what it is by then (1 - best mIoU after none).
        state: of an earlier call on the same problem, to go on from.
        deadline: by the monotonic clock, up to which what the state says is proved again; beyond
            the time limit where the certificate would be complete but for that.

    Raises:
        CorruptStoreError: a state that is none, or whose bounds are not those of the pixels.
        InputError: more than three groups, maps, pixels that lie on disk, no scored pixel, or an
            objective that is none of the three mIoU conventions.
    """
    if not has_bound(problem):
        do = f"certify by {', '.join(CONVENTIONS)}, or search without a certificate (gap=None)"
        raise InputError(f"certify: got {problem.objective.name}, which has no bound; {do}")
    condensed, groups = problem.condensed, len(problem.groups)
    if not isinstance(condensed, Condensed):
        raise InputError(f"certify: got {condensed.about}; give condensed pixels")
    if groups > MOST_GROUPS or not condensed.resident or not condensed.scored:
        got = f"{groups} groups, {condensed.scored} scored pixels, in memory: {condensed.resident}"
        do = f"at most {MOST_GROUPS} groups, scored pixels, and a memory budget that holds them"
        raise InputError(f"certify: got {got}; needs {do}")
    began = time.monotonic()
    try:
        work = _BranchAndBound(problem, condensed, best, state)
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise CorruptStoreError(f"is no state of a certificate ({error})") from error
    limit = time.monotonic() + time_limit  # proving what there was is not of this run's time
    for _ in progress(itertools.count(), "certify", 0):  # nobody knows how many steps there are
        late = time.monotonic() >= limit
        if late or not work.open or -work.open[0].negative_bound <= work.best.miou + gap:
            break
        work.step()
    if work.upper - work.best.miou <= gap:
        work.proof.go_on(deadline)
    return work.finish(gap, time.monotonic() - began)


class _BranchAndBound:
    """The open simplexes, the bound of those that were given up, and the incumbent."""

    def __init__(
        self, problem: Problem, condensed: Condensed, best: Trial, state: dict[str, Any] | None
    ) -> None:
        self.problem, self.best = problem, best
        (self.pixels,) = condensed.batches()
        right, predicted = condensed.base
        every = sweep.every_pixel(self.pixels.runs)
        self.root = Undecided(every, right, predicted - right, np.zeros_like(right))
        whole = [[1.0, np.eye(len(problem.groups)).tolist()]]
        groups, resumed = len(problem.groups), state is not None and state["boxes"] != 0
        if state is None or not resumed:  # what was not begun claims nothing
            state = {"open": whole, "boxes": 0, "seconds": 0.0}
        self.boxes = number(state["boxes"], 0, int)
        self.seconds = float(number(state["seconds"], 0.0))
        left = sorted(leaves_of(state["open"], groups), key=lambda leaf: -leaf.bound)
        self.closed = leaves_of(state.get("closed", []), groups)  # too small to be halved
        told = [*left, *self.closed] if resumed else None
        self.proof = Proof(problem, condensed, self.root, told)
        # in order of their bounds, which makes them a heap
        self.open = [Simplex(-leaf.bound, n, leaf.corners) for n, leaf in enumerate(left)]
        self.kept, self.most_kept = 0, condensed.budget.open_parts

    def step(self) -> None:
        """Looks at the most promising simplex: bounds it if it has no bound yet, else halves it."""
        simplex = heapq.heappop(self.open)
        self.kept -= simplex.bytes
        corners, bound = simplex.corners, -simplex.negative_bound
        if self.boxes == 0:
            self._add(corners, self.root, bound)
        elif longest_edge(corners)[2] < SMALLEST_EDGE:
            self.closed.append(Leaf(bound, corners))
        else:
            halves, middle = halved(corners)
            for half in halves:
                self._add(half, simplex.undecided or self.root, bound)
            tried = self.problem.trials([*halves.mean(axis=1), middle])
            self.best = best_trial([self.best, *tried])

    def _add(self, corners: NDArray[np.float64], parent: Undecided, limit: float) -> None:
        found = sweep.bound(self.pixels, parent, corners)
        self.boxes += 1
        bound = min(limit, upper_bound(found, self.problem))
        # forgotten pixels cost time, never the bound: its halves look at all of them again
        room = self.kept + found.ids.nbytes <= self.most_kept
        simplex = Simplex(-bound, self.boxes, corners, found if room else None)
        self.kept += simplex.bytes
        heapq.heappush(self.open, simplex)

    @property
    def upper(self) -> float:
        """What no weighting is above."""
        closed = (leaf.bound for leaf in self.closed)
        return max([self.best.miou, *closed, *(-each.negative_bound for each in self.open)])

    def finish(self, gap: float, seconds: float) -> Certified:
        upper, taken = self.upper, len(self.proof.waiting)
        known = {"boxes": self.boxes, "seconds": self.seconds + seconds}
        still = [[-each.negative_bound, each.corners.tolist()] for each in sorted(self.open)]
        closed = [[leaf.bound, leaf.corners.tolist()] for leaf in self.closed]
        settled = max([0.0, *(leaf.bound for leaf in self.closed)])  # as older versions read it
        left = upper - self.best.miou
        found = {"gap": left, "upper_bound": upper, **known, "complete": left <= gap and not taken}
        found |= {"taken": taken} if taken else {}
        state = {"open": still, "settled": settled, **known, "closed": closed}
        return Certified(found, self.best, state)


def has_bound(problem: Problem) -> bool:
    """Whether `upper_bound` knows the objective: the mIoU conventions, over all classes."""
    return problem.objective.name in CONVENTIONS
