"""Grid search as in the paper: the first group's weight is 1, every further group's runs over a range (Table 3: alpha, beta)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from fusion.contested import Condensed
from fusion.errors import InputError
from fusion.search.result import Progress, SearchResult, Trial, best_trial, untracked

RANGE = (0.0, 2.0, 0.1)  # alpha and beta of equation 1, both ends included: 21 values each
BATCH = 64
MOST_POINTS = 1_000_000


def grid(
    condensed: Condensed,
    *,
    convention: str = "vspw",
    progress: Progress | None = None,
    seed: int = 0,
    ranges: Mapping[str, tuple[float, float, float]] | None = None,
) -> SearchResult:
    """Every point of a grid of group weights; the first of equally good points wins.

    ranges: group -> (first, last, step), default 0 to 2 in steps of 0.1 for every group but the first, which is 1. seed is not
    used. Raises InputError for unknown groups, bad ranges and more than a million points.
    """
    axes = grid_axes(condensed.groups, ranges or {})
    points = np.array(list(itertools.product(*axes)), np.float64)
    points = points[points.any(axis=1)]
    batches = [points[first : first + BATCH] for first in range(0, len(points), BATCH)]
    miou = np.concatenate(
        [
            condensed.miou(batch, convention)
            for batch in (progress or untracked)(batches, "grid", len(batches))
        ]
    )
    history = [
        Trial(tuple(point), float(score))
        for point, score in zip(points.tolist(), miou, strict=True)
    ]
    best = best_trial(history)
    return SearchResult(
        "grid", condensed.groups, best.weights, best.miou, convention, tuple(history)
    )


def grid_axes(
    groups: Sequence[str], ranges: Mapping[str, tuple[float, float, float]]
) -> list[list[float]]:
    """The values of every group's axis, in the order of the groups."""
    unknown = sorted(set(ranges) - set(groups))
    if unknown:
        raise InputError(
            f"grid: range for unknown group {unknown[0]!r}; the groups are {list(groups)}"
        )
    axes = []
    for position, name in enumerate(groups):
        first, last, step = ranges.get(name, RANGE if position else (1.0, 1.0, 1.0))
        if not (0 <= first <= last and step > 0 and math.isfinite(last)):
            raise InputError(
                f"grid: range of {name!r} is {first}:{last}:{step}; give first:last:step with 0 <= first <= last, step > 0"
            )
        count = math.floor((last - first) / step + 1e-9) + 1
        axes.append([round(first + k * step, 12) for k in range(count)])  # 0.1 * 3 prints as 0.3
    points = math.prod(len(axis) for axis in axes)
    if points > MOST_POINTS:
        raise InputError(
            f"grid: {points} points over {len(groups)} groups; use larger steps, or the method 'optuna' or 'exact'"
        )
    return axes
