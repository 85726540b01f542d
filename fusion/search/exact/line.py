"""Segments of weights: the objective at every weighting between two, from one pass over pixels.

Along w(s) = (1 - s) start + s end a score is piecewise constant with as many stretches as labels
flip (Och 2003's line search for translation error, here on mIoU or Dice). Stretches come from
float64 sweeps; whoever uses one evaluates its middle in the float32 of fusion.

G groups. Weights in here have sum 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.kernels import sweep
from fusion.kernels.native.pool import workers
from fusion.search.method import Problem

NARROWEST = 1e-6  # of a segment: float32 weights and scores may leave a narrower stretch
LEAST_FLIPS = 1 << 12  # that a thread has room for, however little memory there is

Vector = NDArray[np.float64]
Segments = Iterator[tuple[Vector, Vector]]


@dataclass(frozen=True)
class Stretch:
    """The best stretch low < s < high of a segment w(s) = (1 - s) start + s end.

    miou: the objective as the sweep computes it, before float32; -1 where all stretches are too
    narrow.
    """

    start: Vector
    end: Vector
    low: float
    high: float
    miou: float

    def weights(self, s: float) -> Vector:
        return (1 - s) * self.start + s * self.end

    @property
    def middle(self) -> Vector:
        """The weights furthest from a flip."""
        return self.weights((self.low + self.high) / 2)


def best_on_segment(
    problem: Problem,
    start: ArrayLike,
    end: ArrayLike,
    *,
    narrowest: float = NARROWEST,
    low: float = 0.0,
    high: float = 1.0,
    multipliers: ArrayLike | None = None,
) -> Stretch:
    """The stretch of the best score between two weight vectors [G] of sum 1; the widest of equals.

    narrowest: share of the segment; narrower stretches are passed over. low, high: the part of it
    that is swept; where memory does not hold all flips, its halves one after the other.
    multipliers: [C], of the classes, the same all along.
    """
    ends = np.asarray(start, np.float64), np.asarray(end, np.float64)
    condensed, threads, classes = problem.condensed, workers(), len(problem.condensed.classes)
    wanted = problem.objective
    base = condensed.base_per_video if wanted.per_case else condensed.base[None]
    room = max(LEAST_FLIPS, condensed.budget.flips // (sweep.FLIP.itemsize * threads))
    factors = None if multipliers is None else np.asarray(multipliers, np.float64)
    found, held = [], 0
    for flips in condensed.flips(ends, low, high, room, factors, apart=wanted.per_case):
        found.append(flips)
        held += len(found[-1].flips)
        full = not found[-1].complete or held > room * threads
        if full and high - low > 4 * narrowest:
            how: dict[str, Any] = {"narrowest": narrowest, "multipliers": multipliers}
            half = partial(best_on_segment, problem, *ends, **how)
            middle = (low + high) / 2
            halves = half(low=low, high=middle), half(low=middle, high=high)
            return max(halves, key=lambda stretch: stretch.miou)
    data = sweep.joined(found, classes, len(base)), wanted.cells(condensed.rows_per_video), base
    found.clear()  # of many models they are large
    score, left, right = sweep.scan(*data, low, high, narrowest)
    return Stretch(*ends, left, right, score)


def coordinates(weights: Vector, rng: np.random.Generator) -> Segments:
    """Each group's share of the whole from none to all, the others in proportion."""
    for vertex in np.eye(len(weights)):
        without = np.where(vertex == 1, 0.0, weights)
        if without.sum() > 0:
            yield without / without.sum(), vertex


def pairs(weights: Vector, rng: np.random.Generator) -> Segments:
    """Two groups trade their weights, the others stand still; at most 2 G of the pairs, drawn."""
    two = map(list, itertools.combinations(range(len(weights)), 2))
    every = [pair for pair in two if weights[pair].sum() > 0]
    for index in rng.permutation(len(every))[: 2 * len(weights)]:
        pair, start, end = every[index], weights.copy(), weights.copy()
        both = weights[pair].sum()
        start[pair], end[pair] = (both, 0.0), (0.0, both)
        yield start, end


def directions(weights: Vector, rng: np.random.Generator) -> Segments:
    """G random directions from edge to edge of the simplex; from a corner too they lead inside."""
    for _ in range(len(weights) if len(weights) > 1 else 0):
        step = rng.dirichlet(np.ones(len(weights))) - weights
        reach = -weights / step
        low, high = reach[step > 0].max(), reach[step < 0].min()
        first, last = (np.maximum(weights + s * step, 0.0) for s in (low, high))
        yield first / first.sum(), last / last.sum()
