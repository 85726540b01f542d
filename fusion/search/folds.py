"""Scores on units that nothing was chosen on: everything is chosen again without each fold.

Searched weights look best on the data they were searched on: the paper's own gained 2.6 points of
mIoU on val and 0.3 on test. Units (videos, by default), not pixels, are what is held out; what is
compared with is chosen, and scored, on the very same folds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

from fusion.errors import InputError
from fusion.metrics import Scores
from fusion.metrics.intervals import Gain, Interval
from fusion.metrics.objectives import Counts
from fusion.progress import Progress, silent
from fusion.search.method import Method, Problem
from fusion.search.result import SearchResult, rank
from fusion.search.selection import UnitOf, select, split_units
from fusion.text import or_none

# what is scored on every fold, the simplest first
UNIFORM, SINGLE, GROUP = "uniform weights", "the best single model", "the best group alone"
WEIGHTS, FOUND = "the weights without multipliers", "what was found"

Formed = Callable[[Sequence[str]], Problem]


class Fold(NamedTuple):
    """One fold: its videos, their score under what was found without them, and that.

    miou: the score of the same on the other videos, which it was chosen on.
    """

    videos: tuple[str, ...]
    score: float
    miou: float
    weights: Mapping[str, float]
    multipliers: Mapping[str, float] | None

    def to_json(self) -> dict[str, Any]:
        numbers = {"score": or_none(self.score), "miou": or_none(self.miou)}
        named = {"weights": dict(self.weights), "multipliers": self.multipliers}
        return {"videos": list(self.videos), **numbers, **named}


class HeldOut(float):
    """The score of all held-out videos together; iterates over those of the folds.

    folds: in turn. contenders: by name, the scores of all videos, each under what was chosen
    without it; `FOUND` first.
    """

    folds: tuple[Fold, ...]
    contenders: Mapping[str, Scores]

    def __new__(cls, folds: Sequence[Fold], contenders: Mapping[str, Scores]) -> Self:
        made = super().__new__(cls, contenders[FOUND].score)
        made.folds, made.contenders = tuple(folds), dict(contenders)
        return made

    def __iter__(self) -> Iterator[float]:
        return iter(fold.score for fold in self.folds)

    def __len__(self) -> int:
        return len(self.folds)

    def __getitem__(self, number: int) -> float:
        return self.folds[number].score

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folds, self.contenders)

    @property
    def scores(self) -> Scores:
        """Of what was found."""
        return self.contenders[FOUND]

    @property
    def choice(self) -> float:
        """What choosing adds to the variance of a held-out score or gain, as a share of it.

        The jackknife takes videos as independent, and here they are not: every one has a part in
        the choices of all k folds but its own, (k - 1) / k of them, and the variance grows by as
        much (Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52,
        2003, have k / (k - 1) for random splits). Measured: benchmarks/README.md, "Honesty".
        """
        return 1 - 1 / len(self.folds)

    def gain(self, name: str, over: str, units: UnitOf) -> Gain:
        """Of a contender over another, with the error that choosing adds."""
        plain = self.contenders[name].gain(self.contenders[over], over, units=units)
        return plain.widened(math.sqrt(1 + self.choice))

    def prediction_interval(
        self, videos: int | None = None, level: float = 0.95, *, units: UnitOf | None = None
    ) -> Interval:
        """Of the score of what was found on so many new videos, default as many.

        The spread of new videos, of these, and of what a search on them would choose.
        """
        return self.scores.prediction_interval(videos, level, units=units, choice=self.choice)


def hold_out(
    problem: Problem,
    method: Method,
    folds: int,
    *,
    units: UnitOf | None = None,
    formed: Formed | None = None,
    singles: Mapping[str, Scores] | None = None,
    progress: Progress = silent,
) -> HeldOut:
    """Scores of every video under what is chosen without its unit.

    Args:
        problem: the whole.
        method: that finds weights.
        folds: how many, at least 2; fewer where there are fewer units.
        units: of every video; each its own by default.
        formed: the problem (over all videos) whose groups are formed on these videos alone;
            default the same whatever the videos.
        singles: of every model alone, for `SINGLE`.
        progress: a step a fold.

    Raises:
        InputError: fewer than two folds or units.
    """
    videos, inner = problem.condensed.videos, method.inner()
    units = {video: video for video in videos} if units is None else units
    check_folds(videos, units, folds)
    matrices: dict[str, dict[str, Counts]] = {}
    made = []
    for held in progress(
        split := split_units(videos, units, folds, problem.seed), "folds", len(split)
    ):
        rest = [video for video in videos if video not in held]
        whole = problem if formed is None else formed(rest)
        found, scored = judged(whole, rest, held, inner, units, singles)
        for name, scores in scored.items():
            matrices.setdefault(name, {}).update(scores.confusions)
        what = (found.miou, found.weights, found.multipliers)
        made.append(Fold(held, scored[FOUND].score, *what))
    # folds come shuffled; what follows must not depend on that
    in_order = {name: {video: each[video] for video in videos} for name, each in matrices.items()}
    how = (problem.condensed.classes, problem.convention)
    return HeldOut(made, {name: Scores(each, *how) for name, each in in_order.items()})


def judged(
    whole: Problem,
    rest: Sequence[str],
    held: Sequence[str],
    method: Method,
    units: UnitOf,
    singles: Mapping[str, Scores] | None = None,
) -> tuple[SearchResult, dict[str, Scores]]:
    """What is chosen on some of the videos, and scores of it and of all that is simpler on others.

    Args:
        whole: the problem over both.
        rest, held: the videos to choose on, and those that judge.
        method: that finds weights.
        units: of every video.
        singles: of every model alone, for `SINGLE`.
    """
    chosen = whole.subset(rest)
    found = select(chosen, method, units)
    multipliers = None if found.multipliers is None else list(found.multipliers.values())
    scored = {FOUND: whole.scores(found.vector, multipliers, held)}
    if whole.reach is not None:
        scored[WEIGHTS] = whole.scores(best_without(found), None, held)
    return found, scored | simpler(whole, chosen, held, singles)


def check_folds(videos: Sequence[str], units: UnitOf, folds: int) -> None:
    """InputError where nothing can be held out."""
    number = len({units[video] for video in videos})
    if number < 2:
        what = "unit" if number < len(videos) else "video"
        do = "holding out needs at least 2, label more videos or search without folds"
        raise InputError(f"folds: {number} {what}; {do}")
    if folds < 2:
        raise InputError(f"folds: got {folds}; give at least 2")


def best_without(found: Any) -> tuple[float, ...]:
    """The best weights of a history that have no multipliers."""
    plain = [trial for trial in found.history if trial.multipliers is None]
    best: tuple[float, ...] = max(plain, key=lambda trial: rank(trial.miou)).weights
    return best


def simpler(
    whole: Problem, chosen: Problem, held: Sequence[str], singles: Mapping[str, Scores] | None
) -> dict[str, Scores]:
    """Scores on the held-out videos of what needs no search, chosen on the others."""
    groups = len(whole.groups)
    made = {UNIFORM: whole.scores([1.0] * groups, None, held)}
    if groups > 1:
        alone = [[float(g == h) for h in range(groups)] for g in range(groups)]
        best = max(chosen.trials(alone), key=lambda trial: rank(trial.miou))
        made[GROUP] = whole.scores(best.weights, None, held)
    if singles:
        rest = chosen.condensed.videos
        known = {name: rank(only(each, rest).score) for name, each in singles.items()}
        made[SINGLE] = only(singles[max(known, key=lambda name: known[name])], held)
    return made


def only(scores: Scores, videos: Sequence[str]) -> Scores:
    """The scores of some of the videos."""
    matrices = {video: scores.confusions[video] for video in videos}
    return Scores(matrices, scores.classes, scores.convention)
