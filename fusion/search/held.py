"""What was held out: every fold, and the scores of all that was compared. Scores are fractions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

from fusion.metrics import Scores
from fusion.text import or_none

UnitOf = Mapping[str, str]  # part -> its unit

# what is scored on every fold, the simplest first
UNIFORM, SINGLE, GROUP = "uniform weights", "the best single model", "the best group alone"
WEIGHTS, FOUND = "the weights without multipliers", "what was found"


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
