"""The objective over the weights of two groups, and which weightings no more than chance tells
from the best.

G groups, V videos, X Y points of the axes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fusion.contested import Maps
from fusion.metrics.intervals import indistinguishable
from fusion.metrics.objectives import Counts
from fusion.report.facts import Plane
from fusion.report.results import Data
from fusion.search.ladder import PAPERS
from fusion.search.method import Problem
from fusion.search.result import PAPER

POINTS, FEWER = 41, 11  # of an axis; over maps every weighting is a pass
REACH = 2.0  # of the axes, as far as a grid search goes
ROOM = 1.25  # times the optimum, where that is further out
LEAST = 1 / 8  # of the heaviest weight: a lighter first group is no measure of the others
COUNTS = 1 << 23  # numbers that are compared at a time


@dataclass(frozen=True)
class Axes:
    """Which groups move. fixed, moving: places of groups; base: the weights found [G]."""

    fixed: int
    moving: tuple[int, ...]
    base: tuple[float, ...]

    @classmethod
    def of(cls, weights: Sequence[float]) -> Axes:
        """The two heaviest beside the first; beside the heaviest where the first is next to none.

        Groups keep their order.
        """
        heaviest = max(range(len(weights)), key=lambda place: weights[place])
        fixed = 0 if weights[0] >= LEAST * weights[heaviest] else heaviest
        rest = [place for place in range(len(weights)) if place != fixed]
        moving = sorted(sorted(rest, key=lambda place: -weights[place])[:2])
        return cls(fixed, tuple(moving), tuple(weight / weights[fixed] for weight in weights))

    def vectors(self, points: Sequence[Sequence[float]]) -> np.ndarray:
        """Weights [B, G] of points [B, 1 or 2]."""
        made = np.tile(np.array(self.base), (len(points), 1))
        made[:, self.moving] = points
        return made


def weight_plane(data: Data, document: Mapping[str, Any]) -> Plane | None:
    """The plane around the weights found, or a line of two groups.

    None where there is no second group, or no weights.

    Args:
        data: the split that was searched.
        document: search.json.
    """
    ensemble = data.split.ensemble
    groups = tuple(ensemble.groups)
    if ensemble.head is not None or len(groups) < 2:
        return None
    axes = Axes.of(list(ensemble.weights.values()))
    multipliers = None if ensemble.multipliers is None else list(ensemble.multipliers.values())
    split = data.split if multipliers is not None else replace(data.split, reach=None)
    problem = split.problem
    many = FEWER if isinstance(problem.condensed, Maps) else POINTS
    x, *more = (axis(axes.base[place], many) for place in axes.moving)
    y = more[0] if more else np.zeros(1)
    points = [point[: len(axes.moving)] for point in ((a, b) for b in y for a in x)]
    vectors = axes.vectors(points)
    best = axes.vectors([[axes.base[place] for place in axes.moving]])
    scores, plausible = scored(problem, vectors, best[0], multipliers)
    found = problem.scores(best[0].tolist(), multipliers).score
    certificate, shape = document["result"]["certificate"], (len(y), len(x))
    names = [groups[place] for place in axes.moving]
    at = [axes.base[place] for place in axes.moving]
    return Plane(
        fixed=groups[axes.fixed],
        axes=(names[0], names[1] if more else ""),
        x=x,
        y=y,
        scores=scores.reshape(shape),
        best=(at[0], at[1] if more else 0.0, found),
        paper=paper(groups, axes),
        plausible=None if plausible is None else plausible.reshape(shape),
        # of weights alone
        certified=certificate["upper_bound"] if certificate and multipliers is None else None,
    )


def axis(best: float, points: int) -> np.ndarray:
    """Weights from 0 to 2, further where the optimum lies outside."""
    return np.linspace(0, REACH if best <= REACH else ROOM * best, points)


def paper(groups: tuple[str, ...], axes: Axes) -> tuple[float, float] | None:
    """Where the paper's weights are, of the paper's groups."""
    if groups != PAPERS:
        return None
    x, y = (PAPER[place] / PAPER[axes.fixed] for place in axes.moving)
    return x, y


def scored(
    problem: Problem, vectors: np.ndarray, best: np.ndarray, multipliers: list[float] | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """The objective [B] of weights [B, G], and whether each is plausible beside the best.

    The second is None below two units, which nothing can be said of.
    """
    pixels = problem.condensed if multipliers is None else problem.reaching
    units = problem.unit_of
    places = {unit: place for place, unit in enumerate(dict.fromkeys(units.values()))}
    index = [places[units[video]] for video in pixels.videos]
    rows, wanted = pixels.rows_per_video, problem.objective

    def counts(some: np.ndarray) -> Counts:
        factors = None if multipliers is None else np.tile(multipliers, (len(some), 1))
        return pixels.statistics(some, factors)

    one, scores, plausible = counts(best[None])[:, 0], [], []
    step = max(1, COUNTS // (2 * rows.size))
    for first in range(0, len(vectors), step):
        mine = counts(vectors[first : first + step])
        inter, columns = np.moveaxis(mine, (2, 0), (0, 2))  # each [B, V, C]
        scores.append(wanted.drawn(inter, rows, columns, np.ones((1, len(rows))))[..., 0])
        plausible.append(indistinguishable(mine, one, rows, wanted, units=index))
    known = len(places) > 1
    return np.concatenate(scores), np.concatenate(plausible) if known else None
