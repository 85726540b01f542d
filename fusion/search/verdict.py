"""Is the gain real? Intervals, paired gains and the one-standard-error rule, over videos.

A gain over plainer weights is put beside what another draw of videos would do. Scores are
fractions, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fusion.metrics import Scores
from fusion.metrics.intervals import resampled_miou
from fusion.search.method import Problem
from fusion.search.result import SearchResult, Trial
from fusion.text import percent

SAMPLES = 2000  # of a bootstrap


def standard_error(problem: Problem, weights: Sequence[float]) -> float:
    """Of the mIoU under weights [G], by a bootstrap over videos; nan with fewer than two."""
    # videos without a scored pixel tell nothing, and would be drawn like others
    scored = [matrix for matrix in problem.condensed.confusion(weights) if matrix.any()]
    if len(scored) < 2:
        return math.nan
    drawn = resampled_miou(np.stack(scored), problem.convention, SAMPLES, problem.seed)
    return float(np.nanstd(drawn, ddof=1))


def one_standard_error(problem: Problem, best: Trial) -> str:
    """Whether equal weights, the simplest, are within one standard error of the best, in words.

    Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3.
    """
    error = standard_error(problem, best.weights)
    if math.isnan(error):
        return f"{len(problem.condensed.videos)} videos: no standard error, the best weights stay"
    within = f"within one standard error ({percent(error)}) of the best ({percent(best.miou)})"
    uniform = problem.uniform.miou
    if uniform >= best.miou - error:
        return f"uniform weights ({percent(uniform)}) are {within}"
    return f"nothing simpler is {within}"


def gain(mine: Scores, other: Scores, over: str = "uniform weights", seed: int = 0) -> str:
    """mIoU of `mine` minus that of `other` on the same videos, and whether it is more than chance.

    It is where its paired interval leaves out zero; never with fewer than two videos.
    """
    said = f"gain over {over}: {100 * (mine.miou - other.miou):+.2f} mIoU"
    low, high = mine.difference_interval(other, seed=seed)
    if math.isnan(low):
        return f"{said}; with one video nothing says whether it is more than chance"
    verdict = "" if low > 0 or high < 0 else "not "
    ends = f"interval {100 * low:+.2f} to {100 * high:+.2f}"
    return f"{said}, {ends}: {verdict}distinguishable from zero"


def verdict_lines(problem: Problem, found: SearchResult) -> list[str]:
    """What the number is worth on other videos, in sentences."""
    mine = found.scores or problem.scores(found.vector)
    low, high = mine.interval(seed=problem.seed)
    lines = [f"95 % interval over {len(mine.confusions)} videos: {percent(low)} to {percent(high)}"]
    if math.isnan(low):
        lines = ["one video: no interval and no held-out score; label more videos"]
    if found.held_out is not None:
        what = "held-out mIoU, searched on the other folds' videos"
        lines.append(f"{what}: {percent(found.held_out)}")
    rule = one_standard_error(problem, Trial(found.vector, found.miou))
    worth = gain(mine, problem.uniform, seed=problem.seed)
    return [*lines, f"one-standard-error rule: {rule}", worth]
