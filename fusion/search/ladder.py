"""The ladder of the paper's Table 3 for one's own models: group after group, then references."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fusion.metrics import Scores
from fusion.search.method import Problem
from fusion.search.result import PAPER

Rungs = dict[str, dict[str, Scores]]  # what is fused -> split -> its scores there
PAPERS = ("strong", "weak", "auxiliary")  # groups that equation 1 is about
MOST_ROWS = 6  # single models are no ladder


def formula(groups: Sequence[str], weights: Sequence[float]) -> str:
    """P_strong + 1.4 P_weak, without groups of weight 0; only their number where they are many."""
    if len(groups) > MOST_ROWS:
        return f"weights found, {sum(weight > 0 for weight in weights)} of {len(groups)}"
    used = [(name, weight) for name, weight in zip(groups, weights, strict=True) if weight > 0]
    return " + ".join(f"P_{n}" if w == 1 else f"{w:.4g} P_{n}" for n, w in used)


def group_rungs(splits: Mapping[str, Problem], weights: Sequence[float] | None) -> Rungs:
    """Rows P_1, P_1 + w_2 P_2, ... on every split; groups of weight 0 add no row.

    None: no weights were searched, and references are all there is.

    References close the ladder: equal weights and, for the paper's groups, its own.
    """
    groups = next(iter(splits.values())).groups
    steps: list[list[float]] = []
    if weights is not None:
        counts = [count for count, weight in enumerate(weights, start=1) if weight > 0]
        steps = [[*weights[:count], *[0.0] * (len(groups) - count)] for count in counts]
        if len(groups) > MOST_ROWS:
            steps = [list(weights)]
    rows = [(formula(groups, step), step) for step in steps]
    references = {"uniform weights": [1.0] * len(groups)}
    if groups == PAPERS:  # for others equation 1 says nothing
        references[f"the paper's weights: {formula(groups, PAPER)}"] = list(PAPER)
    # a reference that is among the steps has its row already
    rows += [(name, row) for name, row in references.items() if row not in steps]
    return {name: {s: p.scores(row) for s, p in splits.items()} for name, row in rows}
