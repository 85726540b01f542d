"""The school of heads: a form trained on inner folds and on all videos, scored on unseen cells.

    cells of every video -> inner folds: a path of strengths on the rest, scored on the fold's cells
                         -> the strength that holds out best
                         -> the fit on all cells

U units, C classes, N cells.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import torch

from fusion.ensemble.heads import Head
from fusion.ensemble.heads.base import Arrays
from fusion.errors import InputError
from fusion.kernels.native.pool import workers
from fusion.metrics import Scores
from fusion.parallel import one_thread
from fusion.progress import Progress, silent
from fusion.search.learned.cells import Sample
from fusion.search.learned.fit import Fit, Training
from fusion.search.method import Problem
from fusion.search.result import rank
from fusion.search.selection import INNER, split_units
from fusion.text import or_none, percent

FINEST = 1e-3
COOLING = math.log(4)  # of a logarithm: temperatures lie in 1/4 to 4

Result = TypeVar("Result")


@contextmanager
def one_thread_each() -> Iterator[ThreadPoolExecutor]:
    """Threads for jobs side by side, inside each of which torch has one."""
    number = workers()
    alone: dict[str, Any] = {"initializer": torch.set_num_threads, "initargs": (1,)}
    # the last number that any thread set is what threads begin with that start later
    with one_thread(), ThreadPoolExecutor(number, **alone) as pool:
        yield pool


def side_by_side(task: Callable[..., Result], jobs: Sequence[tuple[Any, ...]]) -> list[Result]:
    """task(*job) for every job, in order of jobs."""
    with one_thread_each() as pool:
        return list(pool.map(lambda job: task(*job), jobs))


def scores_of(head: Head, sample: Sample) -> torch.Tensor:
    """S [N, C] of cells under a head."""
    arrays = {name: torch.from_numpy(array) for name, array in head.arrays.items()}
    return head.scores(arrays, torch.from_numpy(sample.logs))


@dataclass(frozen=True)
class Stage:
    """One form, trained.

    strength: chosen. held_out: scores of every strength on cells of the inner folds. head: trained
    on all videos. crossed: for every video the head trained without its fold. stopped: step at
    which a loss was no number, None for never.
    """

    form: type[Head]
    strength: float
    held_out: Mapping[float, Scores]
    head: Head
    crossed: Mapping[str, Head]
    stopped: int | None

    @property
    def scores(self) -> Scores:
        """At the chosen strength."""
        return self.held_out[self.strength]

    def to_json(self) -> dict[str, Any]:
        scores = {str(s): or_none(each.score) for s, each in self.held_out.items()}
        said = {"parameters": self.head.parameters, "stopped": self.stopped}
        return {"strength": self.strength, "held_out": scores, **said}


def lowest(cost: Callable[[float], float], low: float, high: float) -> float:
    """Where a function of one valley is lowest, by golden sections."""
    golden = (math.sqrt(5) - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = cost(left), cost(right)
    while high - low > FINEST:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = cost(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = cost(right)
    return (low + high) / 2


def best_of(stages: Sequence[Stage]) -> Stage:
    """The stage that holds out best; the first where nothing held out.

    No rule for simplicity here: the pull towards the form below is one already, and what a form is
    worth beside simpler ones the verdict says.
    """
    return max(stages, key=lambda stage: rank(stage.scores.score) if stage.held_out else -1.0)


@dataclass(frozen=True)
class School:
    """What stages are trained on: the cells of all videos, and the inner folds.

    InputError: no cells, or no labelled pixel.
    """

    problem: Problem
    surrogate: float
    units: tuple[str, ...] = field(init=False)
    training: Training = field(init=False)
    samples: Mapping[str, Sample] = field(init=False)
    folds: Sequence[Sequence[str]] = field(init=False)

    def __post_init__(self) -> None:
        problem = self.problem
        if problem.cells is None:
            do = "use resize='probabilities' and mean='arithmetic'"
            raise InputError(f"learned: heads fuse probabilities at store resolution; {do}")
        if not problem.condensed.scored:
            raise InputError("learned: the labels are all void; label some pixels")
        videos, units = problem.condensed.videos, problem.unit_of
        folds = split_units(videos, units, INNER, problem.seed)
        if len(folds) < 2:
            folds = ()  # nothing holds out: the strongest pull, and the smallest form
        cells = problem.cells()
        training = Training(problem.objective, self.surrogate, cells.device, cells.folder)
        made = {"training": training, "samples": cells.samples, "folds": folds}
        for name, value in {**made, "units": cells.maps.groups}.items():
            object.__setattr__(self, name, value)

    def only(self, units: Sequence[str]) -> School:
        """The same for some of the units."""
        places, fewer = [self.units.index(unit) for unit in units], copy.copy(self)
        samples = {
            video: replace(sample, logs=np.ascontiguousarray(sample.logs[:, places]))
            for video, sample in self.samples.items()
        }
        object.__setattr__(fewer, "units", tuple(units))
        object.__setattr__(fewer, "samples", samples)
        return fewer

    @property
    def classes(self) -> tuple[str, ...]:
        return self.problem.condensed.classes

    @property
    def unseen(self) -> list[str]:
        """Classes without a labelled pixel, whose scores' parameters no training moves."""
        rows = self.problem.condensed.rows
        return [name for name, row in zip(self.classes, rows, strict=True) if row == 0]

    @property
    def videos(self) -> tuple[str, ...]:
        return self.problem.condensed.videos

    def stage(
        self,
        form: type[Head],
        below: Stage | None,
        progress: Progress = silent,
        again: Stage | None = None,
    ) -> Stage:
        """A form trained on the inner folds, and on all videos at the strength that they choose.

        again: a stage of this form to start from, whose strength is kept.
        """
        strengths, every = form.strengths if again is None else (again.strength,), self.videos
        rest = [[v for v in every if v not in held] for held in self.folds]
        small, at = (
            [None] * (len(self.folds) + 1)
            if stage is None
            else [*(stage.crossed[held[0]].arrays for held in self.folds), stage.head.arrays]
            for stage in (below, again)
        )
        jobs = list(zip(small, at, [*rest, every], strict=True))
        known = below is not None and below.held_out
        score = f", held out {percent(below.scores.score)} so far" if below and known else ""
        # a thread a job: several threads inside one are slower, and far slower on a busy machine
        with one_thread_each() as pool:
            fits = pool.map(lambda job: self._path(form, strengths, *job), jobs)
            *paths, whole = progress(fits, f"the {form.name} head{score}", len(jobs))
        matrices: dict[float, dict[str, np.ndarray]] = {strength: {} for strength in strengths}
        for held, path in zip(self.folds, paths, strict=True):
            for strength, fit in zip(strengths, path, strict=True):
                made = {video: self._confusion(form, fit.arrays, video) for video in held}
                matrices[strength].update(made)
        held_out = {s: self.scores(each) for s, each in matrices.items() if each}
        place = int(np.argmax([rank(scores.score) for scores in held_out.values()] or [0.0]))
        head = form(self.units, self.classes, whole[place].arrays)
        crossed = dict.fromkeys(every, head) | {
            video: form(self.units, self.classes, path[place].arrays)
            for held, path in zip(self.folds, paths, strict=True)
            for video in held
        }
        stopped = next((fit.stopped for fit in whole if fit.stopped), None)
        return Stage(form, strengths[place], held_out, head, crossed, stopped)

    def temperature(self, stage: Stage) -> float:
        """T of the lowest cross-entropy of S / T, S what the folds' heads make of unseen cells."""
        if not self.folds:
            return 1.0
        parts = [(self.cell_scores(head, v), self.samples[v]) for v, head in stage.crossed.items()]
        scores = torch.cat([part for part, _ in parts])
        counts = torch.cat([torch.from_numpy(sample.counts) for _, sample in parts])

        def cost(log: float) -> float:
            logs = torch.log_softmax(scores / math.exp(log), dim=1)
            return float(-(counts * logs).sum())

        return math.exp(lowest(cost, -COOLING, COOLING))

    def _path(
        self,
        form: type[Head],
        strengths: Sequence[float],
        below: Arrays | None,
        at: Arrays | None,
        videos: Sequence[str],
    ) -> list[Fit]:
        sample = Sample.joined([self.samples[video] for video in videos])
        return self.training.path(form, below, sample, strengths, at)

    def cell_scores(self, head: Head, video: str) -> torch.Tensor:
        """S [N, C] of a video's cells."""
        return scores_of(head, self.samples[video])

    def _confusion(self, form: type[Head], arrays: Arrays, video: str) -> np.ndarray:
        """int64 [C, C] of a video's cells under a head."""
        head = form(self.units, self.classes, arrays)
        return self.confusion(self.cell_scores(head, video), video)

    def confusion(self, scores: torch.Tensor, video: str) -> np.ndarray:
        """int64 [C, C] of a video's cells, each as the label pixels it stands for; scores [N, C]"""
        predicted = np.eye(len(self.classes))[scores.argmax(dim=1).numpy()]
        return np.rint(self.samples[video].counts.T @ predicted).astype(np.int64)

    def scores(self, matrices: Mapping[str, np.ndarray]) -> Scores:
        """Of all videos, by their matrices in any order."""
        ordered = {video: matrices[video] for video in self.videos}
        return Scores(ordered, self.classes, self.problem.convention)

    def first_of(self, scores: Sequence[Scores]) -> int:
        """Place of the first within one standard error of the best."""
        if not scores:
            return 0
        best = max(scores, key=lambda each: rank(each.score))
        for place, each in enumerate(scores):
            gain = best.gain(each, units=self.problem.unit_of)
            if each is best or not gain.beyond_standard_error:
                return place
        raise AssertionError
