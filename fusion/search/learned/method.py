"""The method that trains a head: form and strength by inner folds, each form from the one below.

    cells of every video -> for every form, smallest first:
        inner folds: a path of strengths on the rest, scored on cells of the fold
        the strongest pull within one standard error of the best -> the fit on all cells
    -> the smallest form within one standard error of the best
    -> one temperature, fitted to what the inner folds' heads make of what they have not seen

What follows (class multipliers on those same unseen predictions, scores at label resolution,
verdicts) is the rest of the search's, as for weights. U units, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch

from fusion.ensemble.heads import HEADS, Head
from fusion.ensemble.heads.base import Arrays
from fusion.errors import InputError
from fusion.kernels.native.pool import workers
from fusion.metrics import Scores
from fusion.progress import Progress, silent
from fusion.search.held import head_name
from fusion.search.learned.cells import Sample
from fusion.search.learned.fit import Fit, Training
from fusion.search.method import ALONE, Method, Problem, Workspace, option
from fusion.search.result import SearchResult, rank
from fusion.search.selection import INNER, split_units
from fusion.text import did_you_mean, or_none, percent

FINEST = 1e-3
COOLING = math.log(4)  # of a logarithm: temperatures lie in 1/4 to 4
MANY = 1 << 16  # parameters of full mixing, beyond which its rank is bounded
AUTO = "auto"


@dataclass(frozen=True)
class Learned(Method):
    """A head over log-probabilities; `head` of the result, `notes["learned"]` how it was chosen.

    Args:
        head: a form in `fusion.ensemble.heads.HEADS`, or "auto": inner folds choose it.
        surrogate: share of the objective's surrogate (Lovász-softmax or soft Dice) in the loss
            beside cross-entropy.

    Raises:
        InputError: an unknown form, or a share that is negative.
    """

    name: ClassVar = "learned"
    about: ClassVar = "a head over log-probabilities: stacking, with class mixing"
    over: ClassVar = "models"
    multiplies: ClassVar = True
    trains: ClassVar = True

    head: str = option("--head", AUTO, f"form of the head: {', '.join(HEADS)}, auto", {})
    surrogate: float = option(
        "--surrogate",
        1.0,
        "share of Lovász-softmax or soft Dice beside cross-entropy",
        {"type": float},
    )

    def __post_init__(self) -> None:
        if self.head != AUTO and self.head not in HEADS:
            got = f"head: got {self.head!r}{did_you_mean(self.head, [AUTO, *HEADS])}"
            raise InputError(f"learned: {got}")
        if not (math.isfinite(self.surrogate) and self.surrogate >= 0):
            raise InputError(f"learned: surrogate is {self.surrogate}; give a share of at least 0")

    def search(self, problem: Problem, workspace: Workspace = ALONE) -> SearchResult:
        school, stages = School(problem, self.surrogate), list[Stage]()
        for form in self.forms(len(school.units), len(school.classes)):
            stages.append(school.stage(form, stages[-1] if stages else None, workspace.progress))
        chosen = stages[-1] if self.head != AUTO else simplest(stages, problem)
        told = {stage.form.name: stage.to_json() for stage in stages}
        rungs = {head_name(s.form.name): self._result(school, s, told) for s in stages}
        return replace(rungs[head_name(chosen.form.name)], rungs=rungs)

    def _result(self, school: School, stage: Stage, told: Mapping[str, Any]) -> SearchResult:
        """A stage, with the temperature that its folds' heads ask for."""
        problem, temperature = school.problem, school.temperature(stage)
        head = stage.head.cooled(temperature)
        crossed = {video: each.cooled(temperature) for video, each in stage.crossed.items()}
        (trial,) = problem.under(head).trials([[1.0]])
        notes = {"learned": {"form": head.name, "temperature": temperature, "forms": told}}
        more: dict[str, Any] = {"head": head, "crossed": crossed, "notes": notes}
        found = (self.name, (head.name,), trial.weights, trial.miou, problem.objective.name)
        return SearchResult(*found, (trial,), **more)

    def forms(self, units: int, classes: int) -> list[type[Head]]:
        """What is trained, the smallest first: the form asked for stands on those below it."""
        name: str | None = self.head
        if name == AUTO:
            name = "mix" if units * classes**2 <= MANY else "lowrank"
        chain = []
        while name is not None:
            chain.append(HEADS[name])
            name = HEADS[name].below
        return chain[::-1]


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


def simplest(stages: Sequence[Stage], problem: Problem) -> Stage:
    """The first stage within one standard error of the best; the first where nothing held out."""
    if not stages[0].held_out:
        return stages[0]
    best = max(stages, key=lambda stage: rank(stage.scores.score))
    for stage in stages:
        gain = best.scores.gain(stage.scores, units=problem.unit_of)
        if stage is best or not gain.beyond_standard_error:
            return stage
    return best


@dataclass(frozen=True)
class School:
    """What stages are trained on: the cells of all videos, and the inner folds.

    InputError: no cells, or no labelled pixel.
    """

    problem: Problem
    surrogate: float
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
        for name, made in (("training", training), ("samples", cells.samples), ("folds", folds)):
            object.__setattr__(self, name, made)

    @property
    def units(self) -> tuple[str, ...]:
        assert self.problem.cells is not None
        return self.problem.cells().maps.groups

    @property
    def classes(self) -> tuple[str, ...]:
        return self.problem.condensed.classes

    @property
    def videos(self) -> tuple[str, ...]:
        return self.problem.condensed.videos

    def stage(self, form: type[Head], below: Stage | None, progress: Progress = silent) -> Stage:
        """A form trained on the inner folds, and on all videos at the strength that they choose."""
        strengths, every = form.strengths, self.videos
        rest = [[v for v in every if v not in held] for held in self.folds]
        small = [None if below is None else below.crossed[held[0]] for held in self.folds]
        jobs = [*zip(small, rest, strict=True), (None if below is None else below.head, every)]
        known = below is not None and below.held_out
        score = f", held out {percent(below.scores.score)} so far" if below and known else ""
        # a thread a job: several threads inside one are slower, and far slower on a busy machine
        alone: dict[str, Any] = {"initializer": torch.set_num_threads, "initargs": (1,)}
        with ThreadPoolExecutor(workers(), **alone) as pool:
            fits = pool.map(lambda job: self._path(form, *job), jobs)
            *paths, whole = progress(fits, f"the {form.name} head{score}", len(jobs))
        matrices: dict[float, dict[str, np.ndarray]] = {strength: {} for strength in strengths}
        for held, path in zip(self.folds, paths, strict=True):
            for strength, fit in zip(strengths, path, strict=True):
                made = {video: self._confusion(form, fit.arrays, video) for video in held}
                matrices[strength].update(made)
        held_out = {s: self._scores(each) for s, each in matrices.items() if each}
        place = self._strongest(list(held_out.values()))
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
        parts = [(self._cell_scores(head, v), self.samples[v]) for v, head in stage.crossed.items()]
        scores = torch.cat([part for part, _ in parts])
        counts = torch.cat([torch.from_numpy(sample.counts) for _, sample in parts])

        def cost(log: float) -> float:
            logs = torch.log_softmax(scores / math.exp(log), dim=1)
            return float(-(counts * logs).sum())

        return math.exp(lowest(cost, -COOLING, COOLING))

    def _path(self, form: type[Head], below: Head | None, videos: Sequence[str]) -> list[Fit]:
        sample = Sample.joined([self.samples[video] for video in videos])
        start = None if below is None else below.arrays
        return self.training.path(form, start, sample, form.strengths)

    def _cell_scores(self, head: Head, video: str) -> torch.Tensor:
        arrays = {name: torch.from_numpy(array) for name, array in head.arrays.items()}
        return head.scores(arrays, torch.from_numpy(self.samples[video].logs))

    def _confusion(self, form: type[Head], arrays: Arrays, video: str) -> np.ndarray:
        """int64 [C, C] of a video's cells, each as the label pixels it stands for."""
        head = form(self.units, self.classes, arrays)
        labels = self._cell_scores(head, video).argmax(dim=1).numpy()
        predicted = np.eye(len(self.classes))[labels]
        return np.rint(self.samples[video].counts.T @ predicted).astype(np.int64)

    def _scores(self, matrices: Mapping[str, np.ndarray]) -> Scores:
        ordered = {video: matrices[video] for video in self.videos}
        return Scores(ordered, self.classes, self.problem.convention)

    def _strongest(self, scores: Sequence[Scores]) -> int:
        """The first of the strengths within one standard error of the best."""
        if not scores:
            return 0
        best = max(scores, key=lambda each: rank(each.score))
        for place, each in enumerate(scores):
            gain = best.gain(each, units=self.problem.unit_of)
            if each is best or not gain.beyond_standard_error:
                return place
        raise AssertionError
