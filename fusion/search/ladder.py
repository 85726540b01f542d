"""The ladder of the paper's Table 3 for one's own models: group after group, then references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusion.metrics import Scores
from fusion.search.method import Problem
from fusion.search.result import PAPER

MOST_ROWS = 6  # single models are no ladder


@dataclass(frozen=True)
class Rung:
    """One row: what is fused, and its scores on each split."""

    name: str
    scores: Mapping[str, Scores]


def formula(groups: Sequence[str], weights: Sequence[float]) -> str:
    """P_strong + 1.4 P_weak, without groups of weight 0; only their number where they are many."""
    if len(groups) > MOST_ROWS:
        return f"weights found, {sum(weight > 0 for weight in weights)} of {len(groups)}"
    return " + ".join(
        f"P_{name}" if weight == 1 else f"{weight:.4g} P_{name}"
        for name, weight in zip(groups, weights, strict=True)
        if weight > 0
    )


def group_rungs(splits: Mapping[str, Problem], weights: Sequence[float]) -> list[Rung]:
    """Rows P_1, P_1 + w_2 P_2, ... on every split; groups of weight 0 add no row.

    References close the ladder: equal weights and, for three groups, the paper's.
    """
    groups = next(iter(splits.values())).groups
    steps = [
        [*weights[:count], *[0.0] * (len(groups) - count)]
        for count in range(1, len(groups) + 1)
        if weights[count - 1] > 0
    ]
    if len(groups) > MOST_ROWS:
        steps = [list(weights)]
    rows = [(formula(groups, step), step) for step in steps]
    references = {"uniform weights": [1.0] * len(groups)}
    if len(groups) == len(PAPER):
        references[f"the paper's weights: {formula(groups, PAPER)}"] = list(PAPER)
    # a reference that is among the steps has its row already
    rows += [(name, row) for name, row in references.items() if row not in steps]
    return [
        Rung(name, {split: problem.scores(row) for split, problem in splits.items()})
        for name, row in rows
    ]
