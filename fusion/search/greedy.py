"""Greedy ensemble selection with replacement: add, again and again, the model that helps the mean most.

Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004, for mIoU. A model's weight is how often it was chosen; the
best point of the trajectory is returned, so later harmful steps do no damage. Meant for a condensed set whose groups are single
models; it works on any groups.
"""

from __future__ import annotations

import numpy as np

from fusion.contested import Condensed
from fusion.errors import InputError
from fusion.search.result import Progress, SearchResult, Trial, best_trial, untracked

PATIENCE = 10  # steps without a new best after which more copies only average what is there


def greedy(
    condensed: Condensed,
    *,
    convention: str = "vspw",
    progress: Progress | None = None,
    seed: int = 0,
    steps: int = 50,
) -> SearchResult:
    """Counts of M models, each step choosing among all M additions; the first model wins ties.

    steps: models chosen at most; the search also ends after ten steps without a new best. seed is not used. history: the trajectory,
    one trial per step. InputError: steps below 1.
    """
    if steps < 1:
        raise InputError(f"greedy: steps is {steps}; give at least 1")
    counts = np.zeros(len(condensed.groups))
    additions = np.eye(len(counts))
    trajectory: list[Trial] = []
    for step in (progress or untracked)(range(steps), "greedy", steps):
        scores = np.nan_to_num(condensed.miou(counts + additions, convention), nan=-1.0)
        chosen = int(scores.argmax())
        counts = counts + additions[chosen]
        score = float(scores[chosen])
        trajectory.append(Trial(tuple(counts.tolist()), score if score >= 0 else float("nan")))
        if trajectory.index(best_trial(trajectory)) + PATIENCE <= step:
            break
    best = best_trial(trajectory)
    return SearchResult(
        "greedy", condensed.groups, best.weights, best.miou, convention, tuple(trajectory)
    )
