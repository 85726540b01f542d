"""Is the gain real? Intervals, paired gains and the one-standard-error rule, over videos.

Videos, not pixels or frames, are what is resampled: a gain over plainer weights is put beside what
another draw of videos would do.

G groups, V videos. Scores are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusion.metrics import Scores
from fusion.metrics.bootstrap import resampled_miou
from fusion.search.method import Problem
from fusion.search.result import SearchResult, Trial
from fusion.text import percent


@dataclass(frozen=True)
class Choice:
    """Weights chosen by a rule.

    trial: the weights and their mIoU. standard_error: of the best mIoU. rule: a sentence for a
    report.
    """

    trial: Trial
    standard_error: float
    rule: str


def one_standard_error(
    problem: Problem,
    best: Trial,
    *,
    simpler: Mapping[str, Sequence[float]] | None = None,
    samples: int = 2000,
) -> Choice:
    """The simplest weights whose mIoU is within one standard error of the best.

    Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3.

    Args:
        best: the weights [G] found, with their mIoU.
        simpler: name -> weights [G], simplest first; default the uniform ones.
        samples: of the bootstrap over videos that gives the standard error; with one video it is
            not known, and the best stays.
    """
    named = {"uniform weights": [1.0] * len(problem.groups)} if simpler is None else simpler
    scored = [m for m in problem.condensed.confusion(best.weights) if m.any()]
    if len(scored) < 2:
        videos = f"{len(problem.condensed.videos)} videos"
        return Choice(best, math.nan, f"{videos}: no standard error, the best weights stay")
    # videos without a scored pixel tell nothing, and would be drawn like others
    drawn = resampled_miou(np.stack(scored), problem.convention, samples, problem.seed)
    error = float(np.nanstd(drawn, ddof=1))
    within = f"within one standard error ({percent(error)}) of the best ({percent(best.miou)})"
    for name, trial in zip(named, problem.trials(list(named.values())), strict=True):
        if trial.miou >= best.miou - error:
            return Choice(trial, error, f"{name} ({percent(trial.miou)}) are {within}")
    return Choice(best, error, f"nothing simpler is {within}")


@dataclass(frozen=True)
class Gain:
    """The gain of one weight vector over another on the same videos, with its paired interval."""

    miou: float
    interval: tuple[float, float]

    @property
    def distinguishable(self) -> bool:
        """Whether the interval leaves out zero; never with fewer than two videos."""
        return self.interval[0] > 0 or self.interval[1] < 0

    def sentence(self, over: str = "uniform weights") -> str:
        said = f"gain over {over}: {100 * self.miou:+.2f} mIoU"
        if math.isnan(self.interval[0]):
            return f"{said}; with one video nothing says whether it is more than chance"
        low, high = (f"{100 * end:+.2f}" for end in self.interval)
        verdict = "" if self.distinguishable else "not "
        return f"{said}, interval {low} to {high}: {verdict}distinguishable from zero"


def gain(
    mine: Scores, other: Scores, level: float = 0.95, samples: int = 2000, seed: int = 0
) -> Gain:
    """mIoU of `mine` minus mIoU of `other`, both of the same videos."""
    return Gain(mine.miou - other.miou, mine.difference_interval(other, level, samples, seed))


def verdict_lines(problem: Problem, found: SearchResult) -> list[str]:
    """What the number is worth on other videos, in sentences."""
    mine = problem.scores(found.vector) if found.scores is None else found.scores
    low, high = mine.interval(seed=problem.seed)
    if math.isnan(low):
        lines = ["one video: no interval and no held-out score; label more videos"]
    else:
        over = f"95 % interval over {len(mine.confusions)} videos"
        lines = [f"{over}: {percent(low)} to {percent(high)}"]
    if found.held_out is not None:
        held = percent(found.held_out)
        lines.append(f"held-out mIoU, searched on the other folds' videos: {held}")
    rule = one_standard_error(problem, Trial(found.vector, found.miou)).rule
    worth = gain(mine, problem.uniform, seed=problem.seed).sentence()
    return [*lines, f"one-standard-error rule: {rule}", worth]
