"""Segments of weights and the best piece of one: mIoU at every weighting between two, from one pass over the contested pixels.

Along w(s) = (1 - s) start + s end mIoU is piecewise constant with as many pieces as labels flip (Och 2003's line search for translation
error, here on mIoU). Pieces come from float64 sweeps; whoever uses one evaluates its middle in the float32 of fusion.

G groups. Weights in here have sum 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.contested import Condensed
from fusion.kernels import sweep
from fusion.kernels.contested.cpu import workers
from fusion.metrics.objectives import objective

NARROWEST = 1e-6  # of a segment: float32 weights and scores cannot be trusted to stay inside a narrower piece

Vector = NDArray[np.float64]
Segments = Iterator[tuple[Vector, Vector]]


@dataclass(frozen=True)
class Piece:
    """The best piece low < s < high of a segment w(s) = (1 - s) start + s end. miou: as the sweep computes it, before float32."""

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
    condensed: Condensed,
    start: ArrayLike,
    end: ArrayLike,
    convention: str = "vspw",
    *,
    narrowest: float = NARROWEST,
) -> Piece:
    """The piece with the highest mIoU between two weight vectors [G], both of sum 1; of equal ones the widest.

    Pieces narrower than `narrowest` (as a share of the segment) are passed over; miou is -1 where all are.
    """
    ends = np.asarray(start, np.float64), np.asarray(end, np.float64)
    return _best_in_stretch(condensed, ends, convention, narrowest, (0.0, 1.0))


def _best_in_stretch(
    condensed: Condensed,
    ends: tuple[Vector, Vector],
    convention: str,
    narrowest: float,
    stretch: tuple[float, float],
) -> Piece:
    """Where memory does not hold all flips of a stretch, its halves are swept one after the other."""
    low, high = stretch
    room = max(1 << 12, condensed.budget.flips // (sweep.FLIP.itemsize * workers()))
    shares, held = [], 0
    for parts in condensed.batches():
        found = sweep.flips(parts, ends, len(condensed.classes), low, high, room)
        held += len(found.flips)
        shares.append(found)
        if (not found.complete or held > room * workers()) and high - low > 4 * narrowest:
            middle = (low + high) / 2
            halves = [
                _best_in_stretch(condensed, ends, convention, narrowest, half)
                for half in ((low, middle), (middle, high))
            ]
            return max(halves, key=lambda piece: piece.miou)
    flips = sweep.joined(shares, len(condensed.classes))
    counted = objective(convention).init(condensed.rows)
    miou, left, right = sweep.scan(
        flips, condensed.rows, condensed.base, counted, low, high, narrowest
    )
    return Piece(*ends, left, right, miou)


def coordinates(weights: Vector, rng: np.random.Generator) -> Segments:
    """Each group's share of the whole from none to all, the others in proportion."""
    for vertex in np.eye(len(weights)):
        without = np.where(vertex == 1, 0.0, weights)
        if without.sum() > 0:
            yield without / without.sum(), vertex


def pairs(weights: Vector, rng: np.random.Generator) -> Segments:
    """Two groups trade their weights, the others stand still; at most 2 G of the pairs, drawn."""
    every = [
        pair
        for pair in itertools.combinations(range(len(weights)), 2)
        if weights[list(pair)].sum() > 0
    ]
    for index in rng.permutation(len(every))[: 2 * len(weights)]:
        one, other = every[index]
        start, end = weights.copy(), weights.copy()
        start[[one, other]] = weights[one] + weights[other], 0.0
        end[[one, other]] = 0.0, weights[one] + weights[other]
        yield start, end


def directions(weights: Vector, rng: np.random.Generator) -> Segments:
    """G random directions, each from edge to edge of the simplex; from a corner too they lead inside."""
    for _ in range(len(weights) if len(weights) > 1 else 0):
        step = rng.dirichlet(np.ones(len(weights))) - weights
        reach = -weights / step
        low, high = reach[step > 0].max(), reach[step < 0].min()
        yield _on_simplex(weights + low * step), _on_simplex(weights + high * step)


def _on_simplex(weights: Vector) -> Vector:
    positive = np.maximum(weights, 0.0)
    return positive / positive.sum()
