"""Exact line search over group weights, with restarts, and for at most three groups a certificate of the global optimum.

`best_on_segment` knows mIoU at every weighting of a segment from one pass. The outer loop goes uphill: steepest of the G coordinate
segments (a group's share from none to all), then pairs of groups that trade weight, then random directions.

A piece's midpoint is kept only with the mIoU that float32 fusion gives it, and only if that beats every point evaluated before: the
result is never below the grid (which is among the starts while it is small), a given start, or what the branch and bound meets.
Not for temperatures and geometric means, which are not linear in the weights.

G groups. Weights in here have sum 1.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion.contested import Condensed
from fusion.errors import InputError, StoreError
from fusion.metrics.objectives import objective
from fusion.search.exact.certify import MOST_GROUPS, certify
from fusion.search.exact.line import Piece, Vector, best_on_segment, coordinates, directions, pairs
from fusion.search.greedy import greedy
from fusion.search.grid import grid
from fusion.search.result import PAPER, Progress, SearchResult, Trial, best_trial, untracked

VERSION = 1


def exact(
    condensed: Condensed,
    *,
    convention: str = "vspw",
    progress: Progress | None = None,
    seed: int = 0,
    starts: Sequence[Sequence[float]] = (),
    climbs: int = 4,
    time_limit: float | None = None,
    gap: float | None = 1e-4,
    state: str | Path | None = None,
) -> SearchResult:
    """The best weights that line searches find; `certificate` says how far they can be from the best there are.

    starts: weight vectors to try besides the uniform one, single groups, the paper's, random ones, and the grid's or, beyond three
    groups, those of greedy selection. climbs: from how many of the best starts to go uphill. time_limit: seconds; 0 gives the best
    start. gap: aim of the certificate, None for no certificate; it is left out beyond three groups. state: a JSON file to go on
    from, written after every step. Raises InputError for bad options and for a state of other data.
    """
    objective(convention)
    if (
        climbs < 0
        or (time_limit is not None and not time_limit >= 0)
        or (gap is not None and not 0 <= gap < 1)
    ):
        raise InputError(
            f"exact: climbs {climbs}, time limit {time_limit}, gap {gap}; give numbers >= 0, a gap below 1"
        )
    deadline = math.inf if time_limit is None else time.monotonic() + time_limit
    search = _Search(
        condensed, convention, seed, deadline, _Journal(condensed, convention, seed, state)
    )
    search.begin(_starts(condensed, convention, seed, starts))
    certificate = None
    if condensed.scored:
        search.climb_all(climbs, progress or untracked)
        certificate = search.certify(gap, progress)
    best = search.best
    notes = {
        "sweeps": search.sweeps,
        "climbs": search.journal.climbed,
        "resumed": search.journal.resumed,
        **search.piece_notes(),
    }
    history = tuple(search.history)
    return SearchResult(
        "exact",
        condensed.groups,
        best.weights,
        best.miou,
        convention,
        history,
        certificate=certificate,
        notes=notes,
    )


def _starts(
    condensed: Condensed, convention: str, seed: int, given: Sequence[Sequence[float]]
) -> list[Trial]:
    """Evaluated starting points, none twice: also the grid's while it is small, else the steps of greedy selection."""
    groups = len(condensed.groups)
    points = [
        (1.0,) * groups,
        *(tuple(map(float, point)) for point in given),
        *map(tuple, np.eye(groups).tolist()),
    ]
    if groups == len(PAPER):
        points.append(PAPER)
    points += map(tuple, np.random.default_rng(seed).dirichlet(np.ones(groups), 4).tolist())
    method = (
        grid if groups <= MOST_GROUPS else greedy
    )  # beyond a grid, the strongest start known for single models
    walked = method(condensed, convention=convention).history
    known = {trial.weights for trial in walked}
    fresh = [point for point in dict.fromkeys(points) if point not in known]
    scores = condensed.miou(fresh, convention).tolist() if fresh else []
    return [*(Trial(*pair) for pair in zip(fresh, scores, strict=True)), *walked]


class _Journal:
    """What a later run needs to go on: the points found so far, how many climbs are done, where the current one is."""

    def __init__(
        self, condensed: Condensed, convention: str, seed: int, path: str | Path | None
    ) -> None:
        self.path = Path(path) if path else None
        uniform = condensed.confusion([1.0] * len(condensed.groups))
        names = json.dumps(
            [condensed.groups, condensed.classes, condensed.videos, convention, seed, VERSION]
        )
        self.data = hashlib.sha256(names.encode() + uniform.tobytes()).hexdigest()
        self.climbed, self.step = 0, 0
        self.current: Trial | None = None
        self.found: list[Trial] = []
        self.certify: dict[str, Any] | None = None
        self.resumed = self.path is not None and self.path.exists()
        if self.resumed:
            self._read()

    def _read(self) -> None:
        assert self.path is not None
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            if kept["data"] != self.data:
                raise InputError(
                    f"{self.path}: is the state of a search on other data, convention or seed; give another file"
                )
            self.climbed, self.step, self.certify = kept["climbed"], kept["step"], kept["certify"]
            self.found = [Trial(tuple(weights), miou) for weights, miou in kept["found"]]
            self.current = (
                None
                if kept["current"] is None
                else Trial(tuple(kept["current"][0]), kept["current"][1])
            )
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise StoreError(
                f"{self.path}: is no state of an exact search ({error!r}); delete it or give another file"
            ) from error

    def write(self) -> None:
        if self.path is None:
            return
        current = None if self.current is None else [self.current.weights, self.current.miou]
        found = [[trial.weights, trial.miou] for trial in self.found]
        kept = {
            "data": self.data,
            "climbed": self.climbed,
            "step": self.step,
            "current": current,
            "found": found,
            "certify": self.certify,
        }
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        try:
            fresh.write_text(json.dumps(kept), encoding="utf-8")
            fresh.replace(self.path)
        except OSError as error:
            raise StoreError(
                f"{self.path}: the state cannot be written ({error}); give a file in a writable folder"
            ) from error


class _Search:
    """One run: the history, the incumbent and the uphill steps."""

    def __init__(
        self, condensed: Condensed, convention: str, seed: int, deadline: float, journal: _Journal
    ) -> None:
        self.condensed, self.convention, self.seed, self.deadline, self.journal = (
            condensed,
            convention,
            seed,
            deadline,
            journal,
        )
        self.history: list[Trial] = []
        self.sweeps = 0
        self.piece: Piece | None = None

    @property
    def best(self) -> Trial:
        return best_trial(self.history)

    @property
    def late(self) -> bool:
        return time.monotonic() >= self.deadline

    def begin(self, starts: Sequence[Trial]) -> None:
        """The same data and seed give the same starts, so that a resumed search climbs from the same ones."""
        self.history = [*starts, *self.journal.found]
        self.starts = sorted(starts, key=lambda trial: -trial.miou)

    def climb_all(self, climbs: int, progress: Progress) -> None:
        for number in progress(range(climbs), "climbs", climbs):
            if number >= min(climbs, len(self.starts)) or self.late:
                break
            if number >= self.journal.climbed:
                self.climb(self.journal.current or self.starts[number])

    def climb(self, current: Trial) -> None:
        """Uphill from an evaluated point until no segment leads further."""
        while not self.late:
            better = self.uphill(current)
            if self.late and better is None:
                return
            self.journal.step += 1
            self.journal.current = current = better or current
            if better is None:
                self.journal.climbed, self.journal.current = self.journal.climbed + 1, None
            self.journal.write()
            if better is None:
                return

    def uphill(self, current: Trial) -> Trial | None:
        """The first kind of segments that holds a better point gives its best one."""
        weights = np.array(self.condensed.normalised([current.weights])[0], np.float64)
        rng = np.random.default_rng([self.seed, self.journal.step])
        for segments in (coordinates, pairs, directions):
            pieces = []
            for start, end in segments(weights / weights.sum(), rng):
                if self.late:
                    return None
                self.sweeps += 1
                pieces.append(best_on_segment(self.condensed, start, end, self.convention))
            promising = [piece for piece in pieces if piece.miou > current.miou]
            found = self.evaluate([piece.middle for piece in promising])
            if found and best_trial(found).miou > current.miou:
                best = best_trial(found)
                if best == self.best:
                    self.piece = promising[found.index(best)]
                return best
        return None

    def evaluate(self, points: Sequence[Vector]) -> list[Trial]:
        """Trials in the arithmetic of fusion, added to the history."""
        if not points:
            return []
        scores = self.condensed.miou(np.stack(points), self.convention).tolist()
        found = [
            Trial(tuple(point.tolist()), score) for point, score in zip(points, scores, strict=True)
        ]
        self.history += found
        self.journal.found += found
        return found

    def certify(self, gap: float | None, progress: Progress | None) -> dict[str, Any] | None:
        """The certificate of the best point; a better one met on the way is climbed from. An unknown gap is None."""
        if gap is None or len(self.condensed.groups) > MOST_GROUPS or not self.condensed.resident:
            return None
        if self.late:
            return {"gap": None, "upper_bound": 1.0, "boxes": 0, "seconds": 0.0, "complete": False}
        limit = None if math.isinf(self.deadline) else self.deadline - time.monotonic()
        state = self.journal.certify
        done = certify(
            self.condensed,
            self.best,
            convention=self.convention,
            gap=gap,
            time_limit=limit,
            state=state,
            progress=progress,
        )
        if done.best not in self.history:
            self.history.append(done.best)
            self.journal.found.append(done.best)
            self.climb(done.best)
        self.journal.certify = done.state
        self.journal.write()
        upper = max(done.certificate["upper_bound"], self.best.miou)
        distance = upper - self.best.miou
        return {
            **done.certificate,
            "gap": distance,
            "upper_bound": upper,
            "complete": distance <= gap,
        }

    def piece_notes(self) -> dict[str, Any]:
        """The ends of the piece that the result is the middle of, where a sweep found it."""
        if self.piece is None or self.best.weights != tuple(self.piece.middle.tolist()):
            return {}
        low, high = (self.piece.weights(s).tolist() for s in (self.piece.low, self.piece.high))
        return {"piece": {"from": low, "to": high, "width": self.piece.high - self.piece.low}}
