"""Exact line search over group weights, with restarts and, for few groups, a certificate.

`best_on_segment` knows mIoU at every weighting of a segment from one pass. The outer loop goes
uphill: steepest of the G coordinate segments (a group's share from none to all), then pairs of
groups that trade weight, then random directions.

A stretch's midpoint is kept only with the mIoU that float32 fusion gives it, and only if that beats
every point evaluated before: the result is never below the grid (which is among the starts while it
is small), a given start, or what the branch and bound meets. Geometric means are searched as well:
their scaled logarithms are linear in the weights.

G groups. Weights in here have sum 1.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from fusion.contested import Condensed
from fusion.errors import InputError
from fusion.progress import Progress
from fusion.search.exact.certify import MOST_GROUPS, certify, has_bound
from fusion.search.exact.journal import Journal, state_file
from fusion.search.exact.line import Stretch, best_on_segment, coordinates, directions, pairs
from fusion.search.greedy import Greedy
from fusion.search.grid import Grid
from fusion.search.method import ALONE, Method, Problem, Workspace, option
from fusion.search.result import PAPER, SearchResult, Trial, best_trial

LEAST_SECONDS = 1.0  # of a certificate
FLOAT: dict[str, Any] = {"type": float}
SECONDS = {**FLOAT, "metavar": "SECONDS"}


@dataclass(frozen=True)
class Exact(Method):
    """The best weights that line searches find; `certificate` bounds the best there are.

    Args:
        starts: weight vectors [G] to try besides the uniform one, single groups, the paper's,
            random ones, and the grid's or, beyond three groups, those of greedy selection.
        climbs: from how many of the best starts to go uphill.
        least: gain of a step that ends a climb; over many models the last steps are tiny, and long.
        time_limit: seconds; 0 gives the best start.
        gap: aim of the certificate, None for no certificate; it is left out beyond three groups,
            and for objectives that are no mIoU convention.
        certify: most time of the certificate as a share of the search's, and a second at least; a
            later run with the same state goes on from there. Infinite: until the gap is reached.
        state: a JSON file to go on from, written after every step; default one in the workspace's
            folder, named by the data. The state of other data is refused with an InputError.
    """

    name: ClassVar = "exact"
    about: ClassVar = (
        "line searches that see every weighting of a line at once; for up to three groups with a "
        "certificate of how far the best can be"
    )

    starts: Sequence[Sequence[float]] = ()
    climbs: int = 4
    least: float = 0.0
    time_limit: float | None = option(
        "--time-limit", None, "stop then, with the certificate there is (default none)", SECONDS
    )
    gap: float | None = option("--gap", 1e-4, "aim of the certificate, a fraction of mIoU", FLOAT)
    certify: float = option(
        "--certify", 1.0, "time of the certificate as a share of the search's; inf: no limit", FLOAT
    )
    state: str | Path | None = None

    def __post_init__(self) -> None:
        limit, gap = self.time_limit, self.gap
        sound = (limit or 0) >= 0 and 0 <= (gap or 0) < 1 and self.certify >= 0
        if self.climbs < 0 or not sound:
            got = f"climbs {self.climbs}, time limit {limit}, gap {gap}, certify {self.certify}"
            raise InputError(f"exact: {got}; give numbers >= 0, a gap below 1")

    def effort(self, groups: Sequence[str]) -> int | None:
        return Grid().effort(groups) if len(groups) <= MOST_GROUPS else None

    def inner(self) -> Self:
        return replace(self, state=None, gap=None, climbs=1)

    def search(self, problem: Problem, workspace: Workspace = ALONE) -> SearchResult:
        began = time.monotonic()
        deadline = math.inf if self.time_limit is None else began + self.time_limit
        state = self.state or (workspace.folder and state_file(problem, workspace.folder))
        journal = Journal(problem, Path(state) if state else None)
        work = _Search(problem, deadline, journal, _starts(problem, self.starts), self.least)
        certificate = None
        if problem.condensed.scored:
            work.climb_all(self.climbs, workspace.progress)
            if self.gap is not None:
                share = max(LEAST_SECONDS, self.certify * (time.monotonic() - began))
                certificate = work.certify(self.gap, share, workspace.progress)
        return problem.result(self.name, work.history, certificate=certificate, notes=work.notes())


def _starts(problem: Problem, given: Sequence[Sequence[float]]) -> list[Trial]:
    """Evaluated starting points, none twice; a resumed search climbs from the same ones."""
    groups, rng = len(problem.groups), np.random.default_rng(problem.seed)
    drawn = rng.dirichlet(np.ones(groups), 4).tolist()
    paper = [PAPER] if groups == len(PAPER) else []
    every = [[1.0] * groups, *given, *np.eye(groups).tolist(), *paper, *drawn]
    points = dict.fromkeys(tuple(map(float, point)) for point in every)
    # beyond a grid, greedy selection is the strongest start known for single models
    walked = (Grid() if groups <= MOST_GROUPS else Greedy()).search(problem).history
    known = {trial.weights for trial in walked}
    return [*problem.trials(point for point in points if point not in known), *walked]


class _Search:
    """One run: the history, the incumbent and the uphill steps."""

    def __init__(
        self,
        problem: Problem,
        deadline: float,
        journal: Journal,
        starts: Sequence[Trial],
        least: float,
    ) -> None:
        self.problem, self.deadline, self.journal = problem, deadline, journal
        self.least = least
        self.starts = sorted(starts, key=lambda trial: -trial.miou)
        self.history = [*starts, *journal.found]
        self.sweeps = 0
        self.stretch: Stretch | None = None  # that the best point is the middle of
        if journal.segment:
            self.stretch = best_on_segment(problem, *journal.segment)

    @property
    def best(self) -> Trial:
        return best_trial(self.history)

    @property
    def late(self) -> bool:
        return time.monotonic() >= self.deadline

    def climb_all(self, climbs: int, progress: Progress) -> None:
        for number in progress(range(climbs), "climbs", climbs):
            if number >= len(self.starts) or self.late:
                break
            if number >= self.journal.climbed:
                self.climb(self.journal.current or self.starts[number])

    def climb(self, current: Trial) -> None:
        """Uphill from an evaluated point until no segment leads further."""
        better: Trial | None = current
        while better is not None and not self.late:
            better = self.uphill(better)
            if better is None and self.late:  # not the top, only the end of the time
                return
            self.journal.stepped(better)

    def uphill(self, current: Trial) -> Trial | None:
        """The first kind of segments that holds a better point gives its best one."""
        weights = np.array(self.problem.condensed.normalised([current.weights])[0], np.float64)
        rng = np.random.default_rng([self.problem.seed, self.journal.step])
        for segments in (coordinates, pairs, directions):
            stretches = []
            for start, end in segments(weights / weights.sum(), rng):
                if self.late:
                    return None
                self.sweeps += 1
                stretches.append(best_on_segment(self.problem, start, end))
            # float64 sweeps promise, float32 decides
            promising = [stretch for stretch in stretches if stretch.miou > current.miou]
            found = self.problem.trials(stretch.middle for stretch in promising)
            self.keep(found)
            best = best_trial([current, *found])
            if best.miou > current.miou and best == self.best:
                self.stretch = promising[found.index(best)]
                self.journal.segment = [
                    tuple(end.tolist()) for end in (self.stretch.start, self.stretch.end)
                ]
            if best.miou > current.miou + self.least:
                return best
            if self.least:
                return None  # the other kinds are many more, and gain less
        return None

    def keep(self, trials: Sequence[Trial]) -> None:
        self.history += trials
        self.journal.found += trials

    def certify(self, gap: float, share: float, progress: Progress) -> dict[str, Any] | None:
        """The certificate of the best point, after climbing from a better one met on the way.

        share: most seconds of it, less where the search is to end earlier.
        """
        condensed = self.problem.condensed
        if not isinstance(condensed, Condensed) or not condensed.resident:
            return None
        if len(condensed.groups) > MOST_GROUPS or not has_bound(self.problem):
            return None
        if self.late:
            return {"gap": None, "upper_bound": 1.0, "boxes": 0, "seconds": 0.0, "complete": False}
        end, now = self.deadline, time.monotonic()
        self.deadline = min(end, now + share)
        how: dict[str, Any] = {"time_limit": self.deadline - now, "deadline": end}
        how |= {"state": self.journal.certify, "progress": progress}
        with self.journal.naming():
            done = certify(self.problem, self.best, gap=gap, **how)
        # the branch and bound meets points that no climb has led to
        if done.best not in self.history:
            self.keep([done.best])
            self.climb(done.best)
        self.journal.certify = done.state
        self.journal.write()
        upper = max(done.certificate["upper_bound"], self.best.miou)
        left = upper - self.best.miou
        complete = left <= gap and "taken" not in done.certificate
        return {**done.certificate, "gap": left, "upper_bound": upper, "complete": complete}

    def notes(self) -> dict[str, Any]:
        """How much was done, and the stretch that the result is the middle of, if one is."""
        climbed, resumed = self.journal.climbed, self.journal.resumed
        done = {"sweeps": self.sweeps, "climbs": climbed, "resumed": resumed}
        best = self.stretch
        if best is None or self.best.weights != tuple(best.middle.tolist()):
            return done
        low, high = (best.weights(s).tolist() for s in (best.low, best.high))
        return {**done, "piece": {"from": low, "to": high, "width": best.high - best.low}}
