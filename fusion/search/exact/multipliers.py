"""Class multipliers by exact line searches, and weights and multipliers in turn.

label = argmax_c b_c F_c: mIoU rewards a class's union, argmax does not, so rare classes gain from
b > 1. Along the logarithm of one multiplier a pixel flips at one place at most, where b_c F_c meets
the best other class: one sorted pass gives the objective at *every* b_c, and the middle of the best
stretch is kept (Och 2003's line search, in one coordinate of log b). As with weights a sweep in
float64 only promises: the float32 of fusion decides.

Many rounds of all classes are needed, so the climb starts on a sample of the pixels and ends on all
of them. Multipliers lie in [1 / reach, reach]. C classes, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fusion.contested import Condensed
from fusion.kernels import sweep
from fusion.kernels.native.pool import workers
from fusion.search.exact.line import LEAST_FLIPS, best_on_segment, coordinates, pairs
from fusion.search.method import Problem
from fusion.search.result import Trial, best_trial

NARROWEST = 1e-4  # of a logarithm: what lies between is no choice that other pixels would confirm
ROUNDS = 20  # of all classes; a handful is usual
TURNS = 4  # of weights and multipliers
SAMPLE = 1 << 19  # contested pixels to climb on
NEAR = 0.1  # logarithm to either side that is left to see on all pixels

Vector = NDArray[np.float64]


def best_multiplier(
    problem: Problem, trial: Trial, moving: int, low: float, high: float
) -> tuple[float, float]:
    """(objective, multiplier) in the middle of the best stretch of one class's multiplier.

    trial: weights [G] and multipliers [C], of which the moving class's does not matter. low, high:
    ends of its logarithm; where memory does not hold all flips, the halves are swept in turn. The
    objective is that of the float64 sweep, -1 where no stretch is wide enough.
    """
    condensed, factors = problem.condensed, np.array(trial.multipliers, np.float64)
    weights = np.asarray(condensed.normalised([trial.weights])[0], np.float64)
    wanted = problem.objective
    base = condensed.base_per_video if wanted.per_case else condensed.base[None]
    room = max(LEAST_FLIPS, condensed.budget.flips // (sweep.FLIP.itemsize * workers()))
    given, found = (weights, factors, moving, low, high, room, len(base)), []
    for pixels in condensed.batches(wanted.per_case):
        found.append(sweep.class_flips(pixels, *given))
        if not found[-1].complete and high - low > 4 * NARROWEST:
            middle = (low + high) / 2
            halves = ((low, middle), (middle, high))
            return max(best_multiplier(problem, trial, moving, *half) for half in halves)
    joined = sweep.joined(found, len(factors), len(base))
    data = joined, wanted.cells(condensed.rows_per_video), base
    value, left, right = sweep.scan(*data, low, high, NARROWEST)
    return value, math.exp((left + right) / 2)


def climb_classes(problem: Problem, start: Trial, reach: float, near: float = math.inf) -> Trial:
    """Class after class from an evaluated trial, until a round changes nothing.

    near: how far a logarithm may move at a time.
    """
    best, end = start, math.log(reach)
    for _ in range(ROUNDS):
        before = best
        for moving in range(len(problem.condensed.classes)):
            assert best.multipliers is not None
            now = math.log(best.multipliers[moving])
            low, high = max(-end, now - near), min(end, now + near)
            value, multiplier = best_multiplier(problem, best, moving, low, high)
            if value > best.miou:
                changed = [*best.multipliers[:moving], multiplier, *best.multipliers[moving + 1 :]]
                best = best_trial([best, *problem.trials([best.weights], [changed])])
        if best == before:
            break
    return best


def climb_weights(problem: Problem, start: Trial) -> Trial:
    """Steepest of the groups' segments, then of pairs, under a trial's multipliers."""
    best, rng, multipliers = start, np.random.default_rng(problem.seed), start.multipliers
    assert multipliers is not None
    for segments in (coordinates, pairs):
        before = None
        while best != before and len(problem.groups) > 1:
            weights = np.array(problem.condensed.normalised([best.weights])[0], np.float64)
            ends = segments(weights / weights.sum(), rng)
            lines = [best_on_segment(problem, *pair, multipliers=multipliers) for pair in ends]
            promising = [line.middle for line in lines if line.miou > best.miou]
            before = best
            found = problem.trials(promising, [multipliers] * len(promising))
            best = best_trial([best, *found])
    return best


def multipliers_for(
    wide: Condensed, problem: Problem, weights: Sequence[float], *, whole: bool = True
) -> Trial:
    """The best multipliers that line searches find under weights [G] that stand still.

    wide: the pixels, condensed for the reach of the multipliers. whole: ends on all pixels; else on
    the sample, whose score is then the trial's.
    """
    fused = replace(problem, condensed=wide.fused(weights))
    ones = [[1.0] * len(wide.classes)]
    sample = replace(fused, condensed=fused.condensed.thinned(SAMPLE))
    found = climb_classes(sample, sample.trials([(1.0,)], ones)[0], wide.reach)
    if whole and sample.condensed is not fused.condensed:
        found = fused.trials([(1.0,)], [found.multipliers or ()])[0]
        found = climb_classes(fused, found, wide.reach, NEAR)
    return Trial(tuple(weights), found.miou, found.multipliers)


def in_turn(wide: Condensed, problem: Problem, weights: Sequence[float]) -> Trial:
    """Multipliers for the weights, weights for the multipliers, until neither moves.

    On the sample; from there multipliers end on all pixels, which score the trial.
    """
    sample = replace(problem, condensed=wide.thinned(SAMPLE))
    ones = [[1.0] * len(wide.classes)]
    best = sample.trials([weights], ones)[0]
    for _ in range(TURNS):
        before = best
        fused = sample.fused(best.weights)
        moved = climb_classes(fused, Trial((1.0,), best.miou, best.multipliers), wide.reach)
        best = climb_weights(sample, Trial(best.weights, moved.miou, moved.multipliers))
        if best.miou <= before.miou:
            break
    assert best.multipliers is not None
    fused = replace(problem, condensed=wide.fused(best.weights))
    found = fused.trials([(1.0,)], [best.multipliers])[0]
    if fused.condensed.contested > SAMPLE:
        found = climb_classes(fused, found, wide.reach, NEAR)
    return Trial(best.weights, found.miou, found.multipliers)
