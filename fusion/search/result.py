"""What every search method returns, and the small types they share.

A method is ``method(condensed, *, convention="vspw", progress=None, seed=0, **its own options) -> SearchResult``.
Scores are fractions. G groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusion.metrics import Scores

PAPER = (
    1.0,
    1.4,
    1.0,
)  # strong, weak, auxiliary: "5th Place Solution for VSPW 2021 Challenge", equation 1 and Table 3
Progress = Callable[
    [Iterable[Any], str, int], Iterable[Any]
]  # (items, description, total) -> the same items, shown as they go by


def untracked(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    """The `Progress` that shows nothing."""
    return items


@dataclass(frozen=True)
class Trial:
    """One weight vector (raw, in the order of the groups) and its mIoU; nan where no pixel was scored."""

    weights: tuple[float, ...]
    miou: float


def best_trial(history: Sequence[Trial]) -> Trial:
    """The first of the trials with the highest mIoU; any number is above nan."""
    return max(history, key=lambda trial: -1.0 if math.isnan(trial.miou) else trial.miou)


@dataclass(frozen=True)
class SearchResult:
    """The outcome of a search.

    method: its name. groups: G names. vector: G weights >= 0, only ratios matter. miou: of `vector` by `convention`, in the float32
    arithmetic of fusion. history: what was tried, in order. scores: of `vector`, per video. held_out: mIoU of every video under
    the weights searched without it. certificate: of a
    certified global optimum, as `fusion.search.exact.certify` describes it. notes: what else the method has to say. ensemble: the input
    ensemble with the found weights, where there was one.
    """

    method: str
    groups: tuple[str, ...]
    vector: tuple[float, ...]
    miou: float
    convention: str
    history: tuple[Trial, ...]
    scores: Scores | None = field(default=None, compare=False, repr=False)
    held_out: float | None = None
    certificate: Mapping[str, Any] | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    ensemble: Any | None = field(default=None, compare=False, repr=False)

    @property
    def weights(self) -> dict[str, float]:
        """Group name to weight."""
        return dict(zip(self.groups, self.vector, strict=True))

    def interval(
        self, level: float = 0.95, samples: int = 2000, seed: int = 0
    ) -> tuple[float, float]:
        """Percentile bootstrap interval of `miou` over videos, as (low, high); (nan, nan) below two videos."""
        return (
            (math.nan, math.nan)
            if self.scores is None
            else self.scores.interval(level, samples, seed)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values ready for `json.dump`; None where a score is nan. The ensemble is not part of it."""
        return {
            "method": self.method,
            "weights": self.weights,
            "miou": _plain(self.miou),
            "convention": self.convention,
            "interval": None if self.scores is None else [_plain(end) for end in self.interval()],
            "held_out": None if self.held_out is None else _plain(self.held_out),
            "certificate": None if self.certificate is None else dict(self.certificate),
            "notes": dict(self.notes),
            "history": [[list(trial.weights), _plain(trial.miou)] for trial in self.history],
        }


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
