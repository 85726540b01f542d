"""Fewer models: every one costs inference time, so what does a head lose without it?

    all models -> a model's block is zero and the bias fitted again: what unseen cells lose by it
               -> the cheapest go, the form is trained again on the others -> ... -> one model

Unseen cells are those of the inner folds. They choose what goes, so the curve is a little kind to
itself; outer folds prune again and judge. While models are many several go between two trainings, a
quarter of them at most, chosen one after another.

U units, C classes, N cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from fusion.ensemble.heads import Head
from fusion.ensemble.heads.explain import unit_shares
from fusion.errors import InputError
from fusion.metrics import Scores
from fusion.progress import Progress, silent
from fusion.search.learned.cells import Sample
from fusion.search.learned.fit import Training
from fusion.search.learned.losses import Loss
from fusion.search.learned.school import School, Stage, scores_of, side_by_side
from fusion.search.method import Problem
from fusion.search.result import SearchResult, rank
from fusion.text import or_none

PART = 4  # of the models: one part in so many goes at a time
SPARE = 4  # units looked at again beside as many as are still to go


def check_most(models: int | None, method: str) -> None:
    """InputError for a number of models that is none."""
    whole = isinstance(models, int) and not isinstance(models, bool)
    if models is not None and not (whole and models >= 1):
        raise InputError(f"{method}: max models is {models!r}; give a number of at least 1")


@dataclass(frozen=True)
class Bench:
    """One inner fold's head, on the cells it was trained on and on those of its fold.

    training: by which biases are fitted again. held: the fold's videos.
    """

    school: School
    training: Training
    head: Head
    held: Sequence[str]

    @cached_property
    def sample(self) -> Sample:
        rest = [video for video in self.school.videos if video not in self.held]
        return Sample.joined([self.school.samples[video] for video in rest])

    @cached_property
    def mixing(self) -> torch.Tensor:
        return torch.from_numpy(self.head.full_mixing)

    def prepared(self) -> None:
        """Works out what all removals share."""
        _ = self.loss, self.scores

    @cached_property
    def loss(self) -> Loss:
        return self.training.loss(self.sample)

    @cached_property
    def scores(self) -> torch.Tensor:
        """S - b [N, C] on the cells it was trained on."""
        return scores_of(self.head, self.sample) - torch.from_numpy(self.head.bias)

    def part(self, logs: np.ndarray, units: Sequence[int]) -> torch.Tensor:
        """What units add to the scores [N, C]."""
        some = torch.from_numpy(logs)
        return sum(
            (some[:, u] @ self.mixing[u].T for u in units),
            torch.zeros(len(logs), some.shape[2]),
        )

    def without(self, units: Sequence[int]) -> dict[str, np.ndarray]:
        """Confusion matrices of the fold's videos without some of the units, by their places."""
        device, old = self.training.device, torch.from_numpy(self.head.bias)
        rest = (self.scores - self.part(self.sample.logs, units)).to(device)
        bias = self.training.bias(rest, self.loss, old.to(device)).cpu()
        found = {}
        for video in self.held:
            logs = self.school.samples[video].logs
            scores = self.school.cell_scores(self.head, video) - self.part(logs, units)
            found[video] = self.school.confusion(scores + (bias - old), video)
        return found


def benches_of(
    school: School, crossed: Mapping[str, Head], training: Training | None = None
) -> list[Bench]:
    """One for every inner fold; biases are fitted as the heads were, or by another training."""
    how = (school, training or school.training)
    made = [Bench(*how, crossed[held[0]], held) for held in school.folds]
    side_by_side(Bench.prepared, [(bench,) for bench in made])
    return made


def without(benches: Sequence[Bench], sets: Sequence[Sequence[int]]) -> list[Scores]:
    """Scores of all unseen cells without each set of units, by their places."""
    jobs = [(bench, some) for some in sets for bench in benches]
    each, folds, found = side_by_side(Bench.without, jobs), len(benches), []
    for place in range(0, len(jobs), folds):
        matrices = {v: m for part in each[place : place + folds] for v, m in part.items()}
        found.append(benches[0].school.scores(matrices))
    return found


def head_contributions(problem: Problem, found: SearchResult) -> dict[str, float]:
    """What each model adds to what a search found: `contributions` of its head."""
    assert found.head is not None
    told = found.notes["learned"]
    school = School(problem, told["surrogate"]).only(found.head.units)
    # as they were trained: the pull of cross-entropy on biases depends on the scale of scores
    crossed = {v: head.cooled(1 / told["temperature"]) for v, head in found.crossed.items()}
    return contributions(school, crossed)


def contributions(school: School, crossed: Mapping[str, Head]) -> dict[str, float]:
    """What each unit adds: the held-out score on cells minus that without its block.

    Args:
        school: of the head's units.
        crossed: for every video the head that was trained without it.
    """
    if len(school.units) == 1:
        return {school.units[0]: math.nan}  # nothing is left without it
    places = range(len(school.units))
    matrices = {v: school.confusion(school.cell_scores(h, v), v) for v, h in crossed.items()}
    whole = school.scores(matrices).score
    scores = without(benches_of(school, crossed), [(place,) for place in places])
    return {u: whole - each.score for u, each in zip(school.units, scores, strict=True)}


def cheapest(school: School, stage: Stage, number: int) -> list[str]:
    """Units whose removal costs unseen cells least, one after another.

    Every unit is looked at for the first; for each that follows only those that were cheapest then.
    Biases are fitted to cross-entropy alone: a third of the time, and units rank nearly the same.
    """
    quick = replace(school.training, share=0.0)
    benches = benches_of(school, stage.crossed, quick)
    gone, short = list[int](), list(range(len(school.units)))
    while len(gone) < number:
        scores = without(benches, [(*gone, place) for place in short])
        merit = {place: rank(each.score) for place, each in zip(short, scores, strict=True)}
        # the last of the cheapest: a search names models best first, more often than not
        ranked = sorted(short, key=lambda place: (-merit[place], -place))
        gone.append(ranked[0])
        short = ranked[1 : 1 + number - len(gone) + SPARE]
    return [school.units[place] for place in gone]


@dataclass(frozen=True)
class Curve:
    """Stages of every form on fewer and fewer units, all units first; the last form is pruned."""

    points: Sequence[Sequence[Stage]]

    def fewest(self, school: School, most: int) -> Sequence[Stage]:
        """The fewest units within one standard error of the best of those with `most` at most."""
        if len(self.points) == 1:
            return self.points[0]
        few = [p for p in self.points if len(p[-1].head.units) <= most][::-1]
        return few[school.first_of([point[-1].scores for point in few])]

    def to_json(self) -> list[dict[str, Any]]:
        """A row a number of models; `front` where no fewer models score as much."""
        if not self.points[0][-1].held_out:
            return []
        rows: list[dict[str, Any]] = []
        best = -math.inf
        for point in reversed(self.points):
            units, score = point[-1].head.units, point[-1].scores.score
            front, best = rank(score) > best, max(best, rank(score))
            numbers = {"models": len(units), "held_out": or_none(score), "front": front}
            rows.append({**numbers, "kept": list(units)})
        return rows[::-1]


def pruned(
    school: School, stages: Sequence[Stage], most: int, progress: Progress = silent
) -> Curve:
    """The curve from all units down to one.

    Args:
        school: of all units.
        stages: the forms trained on all units, each on those before it; the last is what units are
            chosen by.
        most: models that are wanted, a number that the curve has a point of where it can.
        progress: a step a point.
    """
    points, steps = [list(stages)], sizes(len(school.units), most)
    if not school.folds:  # nothing holds out: the units with the most weight stay, without a curve
        shares = unit_shares(stages[-1].head)[:most]
        kept = [unit for unit in school.units if unit in {share.name for share in shares}]
        return Curve([again(school, stages, kept)])
    for number in progress(steps, "pruning models", len(steps)):
        now = points[-1]
        small = school.only(now[-1].head.units)
        gone = cheapest(small, now[-1], len(small.units) - number)
        kept = [unit for unit in small.units if unit not in gone]
        points.append(again(school, now, kept))
    return Curve(points)


def sizes(units: int, most: int) -> list[int]:
    """Numbers of units after every step: down by a part of them, with `most` among them."""
    found = []
    while units > 1:
        fewer = units - max(1, units // PART)
        units = most if fewer < most < units else fewer
        found.append(units)
    return found


def again(
    school: School, stages: Sequence[Stage], kept: Sequence[str], below: Stage | None = None
) -> list[Stage]:
    """Stages trained again on some of their units, each at its strength, from where it was.

    below: what the first stands on, on those units already.
    """
    small, found = school.only(kept), list[Stage]()
    for stage in stages:
        crossed = {video: head.only(kept) for video, head in stage.crossed.items()}
        at = replace(stage, head=stage.head.only(kept), crossed=crossed)
        below = small.stage(stage.form, below, again=at)
        found.append(below)
    return found
