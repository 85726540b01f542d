"""Greedy ensemble selection with replacement: add, again and again, the model that helps most.

Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004, for mIoU. A model's weight
is how often it was chosen; the best point of the trajectory is returned, so later harmful steps do
no damage. Meant for a condensed set whose groups are single models; it works on any groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fusion.errors import InputError
from fusion.search.method import ALONE, Method, Problem, Workspace, option
from fusion.search.result import SearchResult, Trial, best_trial

PATIENCE = 10  # steps without a new best after which more copies only average what is there


@dataclass(frozen=True)
class Greedy(Method):
    """Counts of M models, each step choosing among all M additions; the first model wins ties.

    steps: models chosen at most, at least 1; the search also ends after ten steps without a new
    best. history: the trajectory, one trial a step.
    """

    name: ClassVar = "greedy"
    about: ClassVar = "over single models"
    over: ClassVar = "models"

    steps: int = option("--steps", 50, "models chosen at most", {"type": int})

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"greedy: steps is {self.steps}; give at least 1")

    def search(self, problem: Problem, workspace: Workspace = ALONE) -> SearchResult:
        counts, additions = np.zeros(len(problem.groups)), np.eye(len(problem.groups))
        trajectory: list[Trial] = []
        for step in workspace.progress(range(self.steps), self.name, self.steps):
            trajectory.append(best_trial(problem.trials(counts + additions)))
            counts = np.array(trajectory[-1].weights)
            if trajectory.index(best_trial(trajectory)) + PATIENCE <= step:
                break
        return problem.result(self.name, trajectory)
