"""What is kept of a search claims scores; here they are counted again from the pixels.

A claim that the pixels do not bear out is an error that names the file, both numbers and what to
do. What goes on from a claim goes on from what was counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fusion.errors import CorruptStoreError
from fusion.search.method import Problem
from fusion.search.result import Trial

SAME = 1e-9  # scores of the same counts, summed by other machines
SHOWN = 3  # weights that an error shows


def same(told: float, counted: float) -> bool:
    """Whether two scores are of the same counts."""
    return abs(told - counted) <= SAME or (math.isnan(told) and math.isnan(counted))


def checked(problem: Problem, told: Sequence[Trial], where: object, do: str) -> list[Trial]:
    """The trials as the pixels have them.

    Args:
        problem: whose pixels count.
        told: weights without multipliers, and the scores that a file has of them.
        where: the file.
        do: what is to be done about it, in an error.

    Raises:
        CorruptStoreError: a score that is not that of the pixels.
    """
    counted = problem.trials(trial.weights for trial in told)
    for claim, found in zip(told, counted, strict=True):
        if not same(claim.miou, found.miou):
            raise differing(where, claim.weights, claim.miou, found.miou, do)
    return counted


def differing(
    where: object, weights: Sequence[float], told: float, counted: float, do: str
) -> CorruptStoreError:
    """The error of a score that is not that of the pixels."""
    shown = ", ".join(f"{weight:.6g}" for weight in weights[:SHOWN])
    of = f"weights {shown}{', ...' if len(weights) > SHOWN else ''}"
    got = f"says {told:.9g} of {of}, the pixels give {counted:.9g}"
    return CorruptStoreError(f"{where}: {got}: damaged or edited; {do}")


def vector(value: Any, groups: int) -> tuple[float, ...]:
    """Weights as a file has them; ValueError where they are none of so many groups."""
    numbers = isinstance(value, list) and all(type(each) in (int, float) for each in value)
    if not numbers or len(value) != groups:
        raise ValueError(f"{value!r:.60} are no weights of {groups} groups")
    if not all(0 <= each < math.inf for each in value) or not any(value):
        raise ValueError(f"weights {value!r:.60}")
    return tuple(map(float, value))


def number(value: Any, low: float = -math.inf, kind: Any = (int, float)) -> Any:
    """A number as a file has it; ValueError for another type, or below `low`."""
    if isinstance(value, bool) or not isinstance(value, kind) or value < low:
        raise ValueError(f"{value!r:.60} is no number that can be there")
    return value
