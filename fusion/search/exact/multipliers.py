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
from dataclasses import dataclass, replace

import numpy as np

from fusion.contested import Condensed
from fusion.kernels import sweep
from fusion.kernels.native.pool import workers
from fusion.metrics.objectives import Objective
from fusion.search.exact.line import LEAST_FLIPS, best_on_segment, coordinates, pairs
from fusion.search.method import SAMPLE, Problem
from fusion.search.result import Trial, best_trial

REACH = 4.0
NARROWEST = 1e-4  # of a logarithm: what lies between is no choice that other pixels would confirm
ROUNDS = 20  # of all classes; a handful is usual
LEAST = 1e-5  # gain of a round that is worth another
TURNS = 4  # of weights and multipliers
NEAR = 0.1  # logarithm to either side that is left to see on all pixels

Multipliers = tuple[float, ...]


@dataclass(frozen=True)
class Line:
    """The best stretch of one class's multiplier: its middle, and the score that a sweep promises.

    The score is -1 where no stretch is wide enough.
    """

    score: float
    multiplier: float


@dataclass(frozen=True)
class Classes:
    """Multipliers of fused pixels: what a climb over the classes moves on.

    pixels: of one group, condensed for `reach`. wanted: what is maximised. sample: candidates to
    climb on.
    """

    pixels: Condensed
    wanted: Objective
    reach: float
    sample: int = SAMPLE

    def score(self, multipliers: Sequence[float]) -> float:
        """As fusion in float32 gives it."""
        return float(self.pixels.miou([[1.0]], self.wanted, multipliers)[0])

    def line(self, multipliers: Sequence[float], moving: int, low: float, high: float) -> Line:
        """The best of a class's multiplier, the others standing still.

        low, high: ends of its logarithm; where memory does not hold all flips, the halves are
        swept in turn.
        """
        apart, factors = self.wanted.per_case, np.array(multipliers, np.float64)
        base = self.pixels.base_per_video if apart else self.pixels.base[None]
        room = max(LEAST_FLIPS, self.pixels.budget.flips // (sweep.FLIP.itemsize * workers()))
        given, found = (np.ones(1), factors, moving, low, high, room, len(base)), []
        for parts in self.pixels.batches(apart):
            found.append(sweep.class_flips(parts, *given))
            if not found[-1].complete and high - low > 4 * NARROWEST:
                middle = (low + high) / 2
                halves = [
                    self.line(multipliers, moving, *half)
                    for half in ((low, middle), (middle, high))
                ]
                return max(halves, key=lambda half: half.score)
        cells = self.wanted.cells(self.pixels.rows_per_video)
        joined = sweep.joined(found, len(factors), len(base))
        score, left, right = sweep.scan(joined, cells, base, low, high, NARROWEST)
        return Line(score, math.exp((left + right) / 2))

    def climb(self, start: Sequence[float], near: float = math.inf) -> tuple[float, Multipliers]:
        """Class after class until a round gains next to nothing: the score, and the multipliers.

        near: how far a logarithm may move at a time. Within a round the sweeps' promises are
        believed, then the float32 of fusion decides whether the round was one upwards.
        """
        best, end = (self.score(start), tuple(start)), math.log(self.reach)
        for _ in range(ROUNDS):
            promised, moved = best
            for moving in self.pixels.moving:
                now = math.log(moved[moving])
                line = self.line(moved, moving, max(-end, now - near), min(end, now + near))
                if line.score > promised:
                    promised = line.score
                    moved = (*moved[:moving], line.multiplier, *moved[moving + 1 :])
            reached = self.score(moved)
            before, best = best[0], max(best, (reached, moved), key=lambda found: found[0])
            if best[0] < before + LEAST:
                break
        return best

    def search(self, start: Sequence[float] | None, *, thorough: bool) -> tuple[float, Multipliers]:
        """Climbs on a sample, then, where it is to be thorough, on all pixels nearby."""
        start = [1.0] * len(self.pixels.classes) if start is None else start
        sample = replace(self, pixels=self.pixels.thinned(self.sample))
        found = sample.climb(start)
        if sample.pixels is self.pixels:
            return found
        return self.climb(found[1], NEAR) if thorough else (self.score(found[1]), found[1])


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


def multiplied(problem: Problem, weights: Sequence[float], *, thorough: bool = True) -> Trial:
    """The best trial with multipliers that climbs from several starts lead to.

    Where the problem has wide pixels, weights [G] move as well, in turn with the multipliers and
    on a sample of the pixels: weights that are best alone lean on one group, with multipliers the
    others count, so equal weights are a start too. Multipliers end on all pixels, unless `thorough`
    is off as inside folds; all pixels score the trial.
    """
    reach, start = problem.reach or REACH, None
    if problem.wide is not None and len(problem.groups) > 1:
        few = problem.wide.thinned(problem.sample)
        sample = replace(problem, condensed=few, wide=few)
        points = dict.fromkeys([tuple(weights), (1.0,) * len(problem.groups)])
        found = [in_turn(sample, w, b, reach) for w in points for b in openings(sample, w, reach)]
        # what looks best on a sample need not be
        tried = [each.multipliers or () for each in found]
        best = best_trial(problem.trials([each.weights for each in found], tried))
        weights, start = best.weights, best.multipliers
    pixels = problem.reaching.fused(weights, reach)
    classes = Classes(pixels, problem.objective, reach, problem.sample)
    score, multipliers = classes.search(start, thorough=thorough)
    return Trial(tuple(weights), score, multipliers)


def openings(problem: Problem, weights: Sequence[float], reach: float) -> list[Multipliers]:
    """Multipliers to climb from: ones, and for each class the root of its targets over predictions.

    The second raises what argmax predicts too rarely, as prior correction does.
    """
    total = problem.condensed.confusion(weights).sum(axis=0)
    ratio = np.sqrt(np.maximum(total.sum(axis=1), 1) / np.maximum(total.sum(axis=0), 1))
    bounded, wide = np.clip(ratio, 1 / reach, reach).tolist(), problem.wide
    moving = range(len(bounded)) if wide is None else wide.moving
    raised = tuple(b if place in moving else 1.0 for place, b in enumerate(bounded))
    return [(1.0,) * len(total), raised]


def in_turn(
    problem: Problem, weights: Sequence[float], multipliers: Multipliers, reach: float
) -> Trial:
    """Multipliers for the weights, weights for the multipliers, until neither moves."""
    best = problem.trials([weights], [multipliers])[0]
    for _ in range(TURNS):
        before = best
        classes = Classes(problem.condensed.fused(best.weights, reach), problem.objective, reach)
        score, multipliers = classes.climb(best.multipliers or multipliers)
        best = climb_weights(problem, Trial(best.weights, score, multipliers))
        if best.miou <= before.miou:
            break
    return best
