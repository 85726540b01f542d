"""Is the gain real? Intervals, paired gains and the one-standard-error rule, over videos.

A gain over plainer weights is put beside what another draw of videos would do. Scores are
fractions, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fusion.metrics import Scores, intervals
from fusion.search.method import Problem
from fusion.search.result import SearchResult, Trial
from fusion.text import percent


def standard_error(problem: Problem, weights: Sequence[float]) -> float:
    """Of the score under weights [G], by the jackknife over videos; nan with fewer than two."""
    return intervals.standard_error(problem.condensed.confusion(weights), problem.objective)


def one_standard_error(problem: Problem, best: Trial) -> str:
    """Whether equal weights, the simplest, are within one standard error of the best, in words.

    Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3.
    """
    error = standard_error(problem, best.weights)
    if math.isnan(error):
        return f"{len(problem.condensed.videos)} videos: no standard error, the best weights stay"
    within = f"within one standard error ({percent(error)}) of the best ({percent(best.miou)})"
    uniform = problem.uniform.score
    if uniform >= best.miou - error:
        return f"uniform weights ({percent(uniform)}) are {within}"
    return f"nothing simpler is {within}"


def gain(mine: Scores, other: Scores, over: str = "uniform weights") -> str:
    """The score of `mine` minus that of `other` on the same videos: is it more than chance?

    It is where its paired interval leaves out zero; never with fewer than two videos.
    """
    return str(mine.gain(other, over))


def verdict_lines(problem: Problem, found: SearchResult) -> list[str]:
    """What the number is worth on other videos, in sentences."""
    mine = found.scores or problem.scores(found.vector)
    low, high = mine.interval()
    lines = [f"95 % interval over {len(mine.confusions)} videos: {percent(low)} to {percent(high)}"]
    if math.isnan(low):
        lines = ["one video: no interval and no held-out score; label more videos"]
    if found.held_out is not None:
        what = "held-out mIoU, searched on the other folds' videos"
        lines.append(f"{what}: {percent(found.held_out)}")
    rule = one_standard_error(problem, Trial(found.vector, found.miou))
    worth = gain(mine, problem.uniform)
    return [*lines, f"one-standard-error rule: {rule}", worth]
