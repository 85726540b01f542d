"""What a search method returns: the weights found, every weighting tried. Scores are fractions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fusion.metrics import Scores
from fusion.metrics.intervals import Interval
from fusion.text import or_none, percent

# strong, weak, auxiliary: "5th Place Solution for VSPW 2021 Challenge", equation 1 and Table 3
PAPER = (1.0, 1.4, 1.0)
SHOWN, MOST_WEIGHTS = 4, 5  # trials that a repr shows, and weights of each


class Trial(NamedTuple):
    """One weight vector (raw, in the order of groups) and its mIoU; nan without a scored pixel.

    multipliers: of the classes, in their order, where there are any.
    """

    weights: tuple[float, ...]
    miou: float
    multipliers: tuple[float, ...] | None = None


def rank(miou: float) -> float:
    """What scores are compared by: any number is above nan."""
    return -1.0 if math.isnan(miou) else miou


def best_trial(history: Sequence[Trial]) -> Trial:
    """The first of the trials with the highest mIoU."""
    return max(history, key=lambda trial: rank(trial.miou))


@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search; its repr is a table of it.

    method: its name. groups: G names. vector: G weights >= 0, only ratios matter. miou: of `vector`
    by `convention`, in the float32 arithmetic of fusion. history: what was tried, in order. scores:
    of `vector`, per video. held_out: mIoU of every video under the weights searched without it.
    certificate: of a certified global optimum, as `fusion.search.exact.certify` describes it.
    notes: what else the method has to say. ensemble: the input ensemble with the found weights,
    where there was one.
    """

    method: str
    groups: tuple[str, ...]
    vector: tuple[float, ...]
    miou: float
    convention: str
    history: tuple[Trial, ...]
    scores: Scores | None = field(default=None, compare=False)
    held_out: float | None = None
    certificate: Mapping[str, Any] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    ensemble: Any | None = field(default=None, compare=False)

    @property
    def weights(self) -> dict[str, float]:
        """Group name to weight."""
        return dict(zip(self.groups, self.vector, strict=True))

    def interval(self, level: float = 0.95) -> Interval:
        """Of the score over videos (`Scores.interval`); (nan, nan) below two videos."""
        return self.scores.interval(level) if self.scores else (math.nan, math.nan)

    def __repr__(self) -> str:
        miou, (low, high) = percent(self.miou), self.interval()
        if not math.isnan(low):
            miou += f", 95 % interval {percent(low)} to {percent(high)}"
        rows = [("weights", self._listed(self.vector)), ("mIoU", miou)]
        if self.held_out is not None:
            rows.append(("held out", percent(self.held_out)))
        if self.certificate is not None:
            rows.append(("none above", percent(self.certificate["upper_bound"])))
        rows.append(("trials", f"{len(self.history)}, the best of them"))
        best = sorted(self.history, key=lambda trial: -rank(trial.miou))[:SHOWN]
        rows += [(f"  {percent(trial.miou)}", self._listed(trial.weights)) for trial in best]
        head = f"SearchResult by {self.method}, % by {self.convention!r}"
        return "\n".join([head, *(f"  {name:<11} {value}" for name, value in rows)])

    def _listed(self, weights: Sequence[float]) -> str:
        """The groups that have weight; the heaviest where they are too many for a line."""
        named = [pair for pair in zip(self.groups, weights, strict=True) if pair[1] > 0]
        more = len(named) - MOST_WEIGHTS
        if more > 0:
            named = sorted(named, key=lambda pair: -pair[1])[:MOST_WEIGHTS]
        shown = ", ".join(f"{name} {weight:.4g}" for name, weight in named)
        return f"{shown} and {more} more" if more > 0 else shown

    def to_json(self) -> dict[str, Any]:
        """Plain values ready for `json.dump`; None where a score is nan. Without the ensemble."""
        return {
            "method": self.method,
            "weights": self.weights,
            "miou": or_none(self.miou),
            "convention": self.convention,
            "interval": [or_none(end) for end in self.interval()] if self.scores else None,
            "held_out": None if self.held_out is None else or_none(self.held_out),
            "certificate": None if self.certificate is None else dict(self.certificate),
            "notes": dict(self.notes),
            "history": [[list(t.weights), or_none(t.miou)] for t in self.history],
        }
