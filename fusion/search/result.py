"""What a search method returns: the weights found, every weighting tried. Scores are fractions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fusion.arguments import checked
from fusion.ensemble.channels import thresholds_of
from fusion.ensemble.heads import Head
from fusion.metrics import CONVENTIONS, Scores
from fusion.metrics.intervals import Gain, Interval
from fusion.search.held import HeldOut
from fusion.search.postprocessing.tuned import Tuned
from fusion.search.verdict import Verdict
from fusion.text import html_table, listed, or_none, percent

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


@checked
@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search; its repr is a table of it.

    method: its name. groups: G names. vector: G weights >= 0, only ratios matter. miou: of `vector`
    by `convention`, in the float32 arithmetic of fusion. history: what was tried, in order. scores:
    of `vector`, per video. held_out: the score of all videos, each under what was found without its
    unit; iterates over the folds. verdict: what that says. units: of every video. multipliers: name
    of class to number, where they were searched and hold out. recommended: an ensemble, the
    simplest that held-out scores do not rule out (that of the result where nothing was held out).
    certificate: of a certified global optimum, as `fusion.search.exact.certify` describes it.
    head: what fuses the groups, where one was trained; `groups` then has one entry, its form.
    crossed: for every video the head that was trained without its unit. rungs: the results of a
    ladder that this one was chosen of, the simplest first. notes: what else the
    method has to say. ensemble: the input ensemble with the found weights,
    where there was one. postprocess: what came of tuning it, where that was asked for; what is
    recommended has it, and the scores here are without it.
    """

    method: str
    groups: tuple[str, ...]
    vector: tuple[float, ...]
    miou: float
    convention: str
    history: tuple[Trial, ...]
    scores: Scores | None = field(default=None, compare=False)
    held_out: HeldOut | None = None
    certificate: Mapping[str, Any] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    ensemble: Any | None = field(default=None, compare=False)
    multipliers: Mapping[str, float] | None = None
    verdict: Verdict | None = field(default=None, compare=False)
    units: Mapping[str, str] | None = None
    recommended: Any | None = field(default=None, compare=False)
    head: Head | None = None
    crossed: Mapping[str, Head] = field(default_factory=dict, compare=False)
    rungs: Mapping[str, SearchResult] = field(default_factory=dict, compare=False)
    postprocess: Tuned | None = field(default=None, compare=False)

    @property
    def weights(self) -> dict[str, float]:
        """Group name to weight."""
        return dict(zip(self.groups, self.vector, strict=True))

    @property
    def multiplier_vector(self) -> list[float] | None:
        """Multipliers in the order of the classes, as pixels take them; None for none."""
        return None if self.multipliers is None else list(self.multipliers.values())

    @property
    def weighed(self) -> SearchResult:
        """The rung that has weights; the result itself where it has them, or where none has."""
        return next((rung for rung in self.rungs.values() if rung.head is None), self)

    @property
    def gain(self) -> Gain | None:
        """What was found over uniform weights, on held-out videos; None where none were."""
        return None if self.verdict is None else self.verdict.gain

    def interval(self, level: float = 0.95) -> Interval:
        """Of this score on these videos, over their units; (nan, nan) below two.

        The weights were chosen on the same videos: `prediction_interval` says what to expect.
        """
        known = self.scores
        return known.interval(level, units=self.units) if known else (math.nan, math.nan)

    def prediction_interval(self, videos: int | None = None, level: float = 0.95) -> Interval:
        """Of the score on so many new videos, by default as many as there are.

        Around the held-out score, where there is one: the spread of new videos, of these, and of
        what a search on them would choose; (nan, nan) below two units.
        """
        known = self.scores if self.held_out is None else self.held_out
        if known is None:
            return math.nan, math.nan
        return known.prediction_interval(videos, level, units=self.units)

    def __repr__(self) -> str:
        return "\n".join([self._title, *(f"  {name:<11} {value}" for name, value in self._rows())])

    def _repr_html_(self) -> str:
        return html_table(self._rows(), ("", ""), self._title)

    @property
    def _title(self) -> str:
        return f"SearchResult by {self.method}, % by {self.convention!r}"

    def _rows(self) -> list[tuple[str, str]]:
        """What people are shown, by name."""
        miou, (low, high) = percent(self.miou), self.interval()
        if not math.isnan(low):
            miou += f", 95 % interval {percent(low)} to {percent(high)}"
        what = "mIoU" if self.convention in CONVENTIONS else "score"
        rows = [("weights", self._listed(self.vector)), (what, miou)]
        if self.head is not None:
            rows[0] = ("head", repr(self.head))
        if self.multipliers is not None:
            rows.append(self._listed_multipliers(self.multipliers))
        if self.held_out is not None:
            rows.append(("held out", percent(self.held_out)))
        if self.verdict is not None:
            rows.append(("verdict", self.verdict.sentence))
        if self.postprocess is not None:
            rows.append(("postprocess", self.postprocess.sentence))
        if self.certificate is not None:
            rows.append(("none above", percent(self.certificate["upper_bound"])))
        rows.append(("trials", f"{len(self.history)}, the best of them"))
        best = sorted(self.history, key=lambda trial: -rank(trial.miou))[:SHOWN]
        return [*rows, *((f"  {percent(t.miou)}", self._listed(t.weights)) for t in best)]

    def _listed_multipliers(self, known: Mapping[str, float]) -> tuple[str, str]:
        """What they are called and the furthest from 1; of independent channels thresholds."""
        channels = None if self.ensemble is None else self.ensemble.channels
        if channels is not None:
            shown = list(thresholds_of(known, channels).items())
        else:
            shown = sorted(known.items(), key=lambda pair: -abs(math.log(pair[1])))
        said = listed((f"{name} {number:.3g}" for name, number in shown), MOST_WEIGHTS)
        return ("multipliers" if channels is None else "thresholds"), said

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
            "multipliers": None if self.multipliers is None else dict(self.multipliers),
            "held_out": None if self.held_out is None else or_none(self.held_out),
            "folds": [] if self.held_out is None else [f.to_json() for f in self.held_out.folds],
            "prediction_interval": [or_none(end) for end in self.prediction_interval()],
            "verdict": None if self.verdict is None else self.verdict.to_json(),
            "certificate": None if self.certificate is None else dict(self.certificate),
            "head": self._head_json(),
            "notes": dict(self.notes),
            "history": [[list(t.weights), or_none(t.miou)] for t in self.history],
        }

    def _head_json(self) -> dict[str, Any] | None:
        """What the head is, without its arrays."""
        if (head := self.head) is None:
            return None
        temperature = self.notes.get("learned", {}).get("temperature")
        what = {"form": head.name, "units": list(head.units), "classes": len(head.classes)}
        return {**what, "parameters": head.parameters, "temperature": temperature}
