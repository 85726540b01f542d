"""The ladder of the paper's Table 3 for one's own models: best single model, first group, then each group added in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusion.contested import Condensed
from fusion.metrics import Scores
from fusion.search.result import PAPER
from fusion.search.verdict import scores

MOST_ROWS = 6  # single models are no ladder


@dataclass(frozen=True)
class Rung:
    """One row: what is fused, and its scores on each split."""

    name: str
    scores: Mapping[str, Scores]


def formula(groups: Sequence[str], weights: Sequence[float]) -> str:
    """P_strong + 1.4 P_weak, groups of weight 0 left out; only their number where they are too many to read."""
    if len(groups) > MOST_ROWS:
        return f"weights found, {sum(weight > 0 for weight in weights)} of {len(groups)}"
    terms = [
        f"P_{name}" if weight == 1 else f"{weight:.4g} P_{name}"
        for name, weight in zip(groups, weights, strict=True)
        if weight > 0
    ]
    return " + ".join(terms)


def group_rungs(
    splits: Mapping[str, Condensed], weights: Sequence[float], convention: str
) -> list[Rung]:
    """Rows P_1, P_1 + w_2 P_2, ... on every split; groups of weight 0 add no row, references close the ladder: equal
    weights and, for three groups, the paper's."""
    groups = next(iter(splits.values())).groups
    steps = [
        [*weights[:count], *[0.0] * (len(groups) - count)]
        for count in range(1, len(groups) + 1)
        if weights[count - 1] > 0
    ]
    if len(groups) > MOST_ROWS:
        steps = [list(weights)]
    rungs = [Rung(formula(groups, step), _scores(splits, step, convention)) for step in steps]
    references = {"uniform weights": [1.0] * len(groups)}
    if len(groups) == len(PAPER):
        references[f"the paper's weights: {formula(groups, PAPER)}"] = list(PAPER)
    for name, reference in references.items():
        if reference not in steps:
            rungs.append(Rung(name, _scores(splits, reference, convention)))
    return rungs


def _scores(
    splits: Mapping[str, Condensed], weights: Sequence[float], convention: str
) -> dict[str, Scores]:
    return {split: scores(condensed, weights, convention) for split, condensed in splits.items()}
