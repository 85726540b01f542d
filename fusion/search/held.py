"""What was held out: every fold, and the scores of all that was compared. Scores are fractions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

from fusion.ensemble.heads import Head
from fusion.metrics import Scores
from fusion.metrics.intervals import Gain, Interval
from fusion.text import or_none

UnitOf = Mapping[str, str]  # part -> its unit

# what is scored on every fold, the simplest first
UNIFORM, SINGLE, GROUP = "uniform weights", "the best single model", "the best group alone"
WEIGHTS, MULTIPLIERS = "the weights without multipliers", "weights and multipliers"
WEIGHTS_ALONE = "the weights"  # where no multipliers were searched
FOUND = "what was found"
SIMPLEST_FIRST = (UNIFORM, SINGLE, GROUP, WEIGHTS_ALONE, WEIGHTS, MULTIPLIERS)  # heads, then FOUND


def head_name(form: str) -> str:
    """What a trained head of this form is called among contenders."""
    return f"the {form} head"


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


class Choice(NamedTuple):
    """What a contender was on a fold, chosen without these videos: weights, or a head."""

    videos: tuple[str, ...]
    weights: Mapping[str, float]
    multipliers: Mapping[str, float] | None = None
    head: Head | None = None


class HeldOut(float):
    """The score of all held-out videos together; iterates over those of the folds.

    folds: in turn. contenders: by name, the scores of all videos, each under what was chosen
    without it; the simplest first, `FOUND` last. rungs: folds of every contender that is a rung of
    a ladder. choices: what every contender was on each fold.
    """

    folds: tuple[Fold, ...]
    contenders: Mapping[str, Scores]
    rungs: Mapping[str, Sequence[Fold]]
    choices: Mapping[str, Sequence[Choice]]

    def __new__(
        cls,
        folds: Sequence[Fold],
        contenders: Mapping[str, Scores],
        rungs: Mapping[str, Sequence[Fold]] | None = None,
        choices: Mapping[str, Sequence[Choice]] | None = None,
    ) -> Self:
        made = super().__new__(cls, contenders[FOUND].score)
        heads = [name for name in contenders if name not in (*SIMPLEST_FIRST, FOUND)]
        order = [name for name in (*SIMPLEST_FIRST, *heads, FOUND) if name in contenders]
        made.contenders = {name: contenders[name] for name in order}
        made.folds, made.rungs, made.choices = tuple(folds), rungs or {}, choices or {}
        return made

    def __iter__(self) -> Iterator[float]:
        return iter(fold.score for fold in self.folds)

    def __len__(self) -> int:
        return len(self.folds)

    def __getitem__(self, number: int) -> float:
        return self.folds[number].score

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folds, self.contenders, self.rungs, self.choices)

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
