"""Grid search as in the paper (Table 3: alpha, beta)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fusion.errors import InputError
from fusion.search.method import ALONE, Method, Problem, Workspace, option
from fusion.search.result import SearchResult
from fusion.text import parse_assignments

Range = tuple[float, float, float]  # first, last, step

RANGE: Range = (0.0, 2.0, 0.1)  # alpha and beta of equation 1, both ends included: 21 values each
BATCH = 64
MOST_POINTS = 1_000_000
RANGES = {"action": "append", "metavar": "GROUP=FIRST:LAST:STEP"}


def parse_ranges(texts: Sequence[str]) -> dict[str, Range]:
    """GROUP=FIRST:LAST:STEP, as the command line says it."""
    found = {}
    for name, text in parse_assignments(texts, "--range").items():
        try:
            first, last, step = map(float, text.split(":"))
        except ValueError:
            do = "give FIRST:LAST:STEP, such as 0:2:0.1"
            raise InputError(f"--range: got {text!r}; {do}") from None
        found[name] = first, last, step
    return found


@dataclass(frozen=True)
class Grid(Method):
    """Every point of a grid of group weights; the first of equally good points wins.

    ranges: group -> (first, last, step), default 0 to 2 in steps of 0.1 for every group but the
    first, which is 1. Raises InputError for unknown groups, bad ranges, more than a million points.
    """

    name: ClassVar = "grid"
    about: ClassVar = "alpha and beta as in the paper"

    ranges: Mapping[str, Range] | None = option(
        "--range", None, "axis of a group (default 0:2:0.1)", RANGES, parse_ranges
    )

    def effort(self, groups: Sequence[str]) -> int:
        return math.prod(len(axis) for axis in grid_axes(groups, self.ranges or {}))

    def search(self, problem: Problem, workspace: Workspace = ALONE) -> SearchResult:
        axes = grid_axes(problem.groups, self.ranges or {})
        points = np.array(list(itertools.product(*axes)), np.float64)
        points = points[points.any(axis=1)]
        starts = range(0, len(points), BATCH)
        history = []
        for first in workspace.progress(starts, self.name, len(starts)):
            history += problem.trials(points[first : first + BATCH])
        return problem.result(self.name, history)


def grid_axes(groups: Sequence[str], ranges: Mapping[str, Range]) -> list[list[float]]:
    """The values of every group's axis, in the order of the groups."""
    unknown = sorted(set(ranges) - set(groups))
    if unknown:
        known = f"the groups are {list(groups)}"
        raise InputError(f"grid: range for unknown group {unknown[0]!r}; {known}")
    axes, points = [], 1
    for position, name in enumerate(groups):
        first, last, step = ranges.get(name, RANGE if position else (1.0, 1.0, 1.0))
        if not (0 <= first <= last and step > 0 and math.isfinite(last)):
            do = "give first:last:step with 0 <= first <= last, step > 0"
            raise InputError(f"grid: range of {name!r} is {first}:{last}:{step}; {do}")
        steps = (last - first) / step + 1e-9
        points *= math.floor(min(steps, MOST_POINTS)) + 1
        if points > MOST_POINTS:  # before any is made
            got = f"more than {MOST_POINTS} points over {len(groups)} groups, with {name!r}"
            do = "use larger steps, or the method 'optuna' or 'exact'"
            raise InputError(f"grid: {got} {first:g}:{last:g}:{step:g}; {do}")
        # 0.1 * 3 prints as 0.3
        axes.append([round(first + k * step, 12) for k in range(math.floor(steps) + 1)])
    return axes
