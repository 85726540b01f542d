"""Is the gain real? Intervals, held-out scores, contributions and the one-standard-error rule, from per-video confusion matrices.

Searched weights look best on the data they were searched on: the paper's own gained 2.6 points of mIoU on val and 0.3 on test. So a
search is scored on videos that it did not see, and its gain over plainer weights is put beside what another draw of videos would do.
Videos, not pixels or frames, are what is resampled and held out.

G groups, V videos, C classes. Scores are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fusion.contested import Condensed
from fusion.errors import InputError
from fusion.metrics import Scores
from fusion.metrics.bootstrap import resampled_miou
from fusion.search.result import Progress, SearchResult, Trial, untracked

Method = Callable[..., SearchResult]


def scores(condensed: Condensed, weights: Sequence[float], convention: str = "vspw") -> Scores:
    """Per-video scores of one weight vector [G]; they have the intervals and paired intervals."""
    return Scores(
        dict(zip(condensed.videos, condensed.confusion(weights), strict=True)),
        condensed.classes,
        convention,
    )


@dataclass(frozen=True)
class HeldOut:
    """Scores of every video under the weights that were searched without it.

    scores: all videos pooled. uniform: the same videos under equal weights. folds: the held-out videos of each fold. weights: of each
    fold, in the order of the groups.
    """

    scores: Scores
    uniform: Scores
    folds: tuple[tuple[str, ...], ...]
    weights: tuple[tuple[float, ...], ...]

    @property
    def miou(self) -> float:
        return self.scores.miou


def split_videos(videos: Sequence[str], folds: int, seed: int = 0) -> tuple[tuple[str, ...], ...]:
    """Videos shuffled by the seed and dealt to folds as even as can be; at most one fold per video.

    InputError: fewer than two folds, or fewer than two videos.
    """
    if len(videos) < 2:
        raise InputError(
            f"folds: {len(videos)} video; holding out needs at least 2, label more videos or search without folds"
        )
    if folds < 2:
        raise InputError(f"folds: got {folds}; give at least 2")
    order = np.random.default_rng(seed).permutation(len(videos))
    number = min(folds, len(videos))
    return tuple(
        tuple(videos[index] for index in sorted(order[fold::number])) for fold in range(number)
    )


def hold_out(
    condensed: Condensed,
    method: Method,
    *,
    folds: int = 5,
    convention: str = "vspw",
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> HeldOut:
    """Runs a method once per fold on the other folds' videos, and scores the fold with what it found.

    method, options: any search method and its own options. InputError: fewer than two folds or videos.
    """
    parts = split_videos(condensed.videos, folds, seed)
    found: list[tuple[float, ...]] = []
    matrices: dict[str, Any] = {}
    for held in (progress or untracked)(parts, "folds", len(parts)):
        rest = condensed.subset([video for video in condensed.videos if video not in held])
        found.append(method(rest, convention=convention, seed=seed, **options).vector)
        matrices.update(zip(held, condensed.subset(held).confusion(found[-1]), strict=True))
    pooled = Scores(
        {video: matrices[video] for video in condensed.videos}, condensed.classes, convention
    )
    return HeldOut(
        pooled, scores(condensed, [1.0] * len(condensed.groups), convention), parts, tuple(found)
    )


def contributions(
    condensed: Condensed, weights: Sequence[float], convention: str = "vspw"
) -> dict[str, float]:
    """What each group or model adds: mIoU under the weights minus mIoU with that one's weight set to 0, the others as they are.

    nan for the only one that has weight: nothing is left to compare with.
    """
    whole = np.asarray(weights, np.float64)
    without = np.where(np.eye(len(whole), dtype=bool), 0.0, whole)
    usable = without.sum(axis=1) > 0
    miou = condensed.miou(np.concatenate([whole[None], without[usable]]), convention)
    added = np.full(len(whole), math.nan)
    added[usable] = miou[0] - miou[1:]
    return dict(zip(condensed.groups, added.tolist(), strict=True))


@dataclass(frozen=True)
class Choice:
    """Weights chosen by a rule. trial: the weights and their mIoU. standard_error: of the best mIoU. rule: a sentence for a report."""

    trial: Trial
    standard_error: float
    rule: str


def one_standard_error(
    condensed: Condensed,
    best: Trial,
    *,
    simpler: Mapping[str, Sequence[float]] | None = None,
    convention: str = "vspw",
    samples: int = 2000,
    seed: int = 0,
) -> Choice:
    """The simplest weights whose mIoU is within one standard error of the best (Breiman et al., CART, 1984, section 3.4.3).

    simpler: name -> weights [G], simplest first; default the uniform ones. The standard error is the bootstrap's, over videos. With
    one video it is not known, and the best stays.
    """
    named = simpler if simpler is not None else {"uniform weights": [1.0] * len(condensed.groups)}
    matrices = np.stack(
        [m for m in condensed.confusion(best.weights) if m.any()] or [np.zeros((1, 1), np.int64)]
    )
    if len(matrices) < 2:
        return Choice(
            best,
            math.nan,
            f"{len(condensed.videos)} videos: no standard error, the best weights stay",
        )
    error = float(np.nanstd(resampled_miou(matrices, convention, samples, seed), ddof=1))
    found = condensed.miou(list(named.values()), convention).tolist() if named else []
    for (name, weights), miou in zip(named.items(), found, strict=True):
        if miou >= best.miou - error:
            text = f"{name} ({100 * miou:.2f}) are within one standard error ({100 * error:.2f}) of the best ({100 * best.miou:.2f})"
            return Choice(Trial(tuple(map(float, weights)), miou), error, text)
    return Choice(
        best,
        error,
        f"nothing simpler is within one standard error ({100 * error:.2f}) of the best ({100 * best.miou:.2f})",
    )


@dataclass(frozen=True)
class Gain:
    """The gain of one weight vector over another on the same videos, with its paired bootstrap interval."""

    miou: float
    interval: tuple[float, float]

    @property
    def distinguishable(self) -> bool:
        """Whether the interval leaves out zero; never with fewer than two videos."""
        return self.interval[0] > 0 or self.interval[1] < 0

    def sentence(self, over: str = "uniform weights") -> str:
        if math.isnan(self.interval[0]):
            return f"gain over {over}: {100 * self.miou:+.2f} mIoU; with one video nothing says whether it is more than chance"
        low, high = (f"{100 * end:+.2f}" for end in self.interval)
        verdict = (
            "distinguishable from zero" if self.distinguishable else "not distinguishable from zero"
        )
        return f"gain over {over}: {100 * self.miou:+.2f} mIoU, interval {low} to {high}: {verdict}"


def gain(
    mine: Scores, other: Scores, level: float = 0.95, samples: int = 2000, seed: int = 0
) -> Gain:
    """mIoU of `mine` minus mIoU of `other`, both of the same videos."""
    return Gain(mine.miou - other.miou, mine.difference_interval(other, level, samples, seed))


def validated(
    condensed: Condensed,
    result: SearchResult,
    method: Method | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
    **options: Any,
) -> SearchResult:
    """The result with its per-video scores and, where a method is given, its held-out mIoU by folds of videos."""
    held = None
    if method is not None:
        held = hold_out(
            condensed, method, folds=folds, convention=result.convention, seed=seed, **options
        ).miou
    return replace(
        result, scores=scores(condensed, result.vector, result.convention), held_out=held
    )
