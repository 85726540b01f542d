"""Greedy ensemble selection with replacement: add, again and again, the model that helps most.

Caruana et al., "Ensemble Selection from Libraries of Models", ICML 2004, for mIoU. A model's weight
is how often it was chosen; the best point of the trajectory is returned, so later harmful steps do
no damage. Against overfitting: a start from the best models together (2004), and selections among
random halves of the models, averaged ("Getting the Most Out of Ensemble Selection", ICDM 2006).
Meant for pixels whose groups are single models; it works on any groups.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.search.method import ALONE, Method, Problem, Workspace, option
from fusion.search.result import SearchResult, Trial, best_trial, rank

PATIENCE = 10  # steps without a new best after which more copies only average what is there
INT = {"type": int}


@dataclass(frozen=True)
class Greedy(Method):
    """Counts of M models, each step choosing among all M additions; the first model wins ties.

    Args:
        steps: models chosen at most, at least 1; with bags, in each.
        patience: steps without a new best after which the search ends.
        start: the best models, this many, begin together; 1 begins with the best one.
        bags: selections, each among a random half of the models, whose shares are averaged; 1 is
            one selection among all.

    history: the trajectory, one trial a step; with bags the average alone.
    """

    name: ClassVar = "greedy"
    about: ClassVar = "over single models"
    over: ClassVar = "models"

    steps: int = option("--steps", 50, "models chosen at most", INT)
    patience: int = option("--patience", PATIENCE, "steps without a new best before it ends", INT)
    start: int = option("--start", 1, "number of best models that begin together", INT)
    bags: int = option("--bags", 1, "selections among random halves of the models, averaged", INT)

    def __post_init__(self) -> None:
        for name in ("steps", "patience", "start", "bags"):
            if getattr(self, name) < 1:
                got = f"{name} is {getattr(self, name)}"
                raise InputError(f"greedy: {got}; give at least 1")

    def search(self, problem: Problem, workspace: Workspace = ALONE) -> SearchResult:
        models = len(problem.groups)
        if self.bags == 1:
            steps = workspace.progress(range(self.steps), self.name, self.steps)
            return problem.result(self.name, self._select(problem, range(models), steps))
        rng, total = np.random.default_rng(problem.seed), np.zeros(models)
        for _ in workspace.progress(range(self.bags), self.name, self.bags):
            bag = rng.permutation(models)[: (models + 1) // 2]
            found = best_trial(self._select(problem, sorted(bag.tolist()), range(self.steps)))
            total += np.divide(found.weights, sum(found.weights))
        return problem.result(self.name, problem.trials([total / self.bags]))

    def _select(self, problem: Problem, models: Iterable[int], steps: Iterable[int]) -> list[Trial]:
        """The trajectory of one selection among some of the models."""
        additions = np.eye(len(problem.groups))[list(models)]
        counts, trajectory = np.zeros(len(problem.groups)), list[Trial]()
        for step in steps:
            tried = problem.trials(counts + additions)
            trajectory.append(best_trial(tried))
            counts = np.array(trajectory[-1].weights)
            if step == 0 and self.start > 1:
                counts = best_together(tried, self.start)
                trajectory += problem.trials([counts])
            if trajectory.index(best_trial(trajectory)) + self.patience < len(trajectory):
                break
        return trajectory


def best_together(singles: list[Trial], number: int) -> NDArray[np.float64]:
    """One of each of the best single models, the first of equals first."""
    ranked = sorted(singles, key=lambda trial: -rank(trial.miou))
    return np.sum([trial.weights for trial in ranked[:number]], axis=0)
