"""The method that chooses a method: what we would run ourselves.

Up to four groups get an exact search with a certificate. Single models are many: greedy selection,
whose counts are coarse but hold out well, then exact line searches from its best point.

Weights are the lower rungs of a ladder: uniform, weights, class multipliers, heads. Heads have
hundreds or thousands of parameters, so they are tried only where folds can judge them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from fusion.search.exact.climb import Exact
from fusion.search.learned.method import MAX_MODELS, Learned
from fusion.search.learned.prune import check_most
from fusion.search.method import ALONE, Facts, Method, Problem, Workspace, option
from fusion.search.result import SearchResult

FEW = 4  # groups
FEWEST_UNITS = 8  # of a split whose folds can tell a larger form from luck
EVIDENCE = 20  # labelled pixels for a parameter of the smallest head
LEAST = 1e-4  # of mIoU: steps below it cost seconds each and do not hold out


@dataclass(frozen=True)
class Auto(Exact):
    """Exact up to four groups, else greedy and exact line searches from there; with multipliers.

    The options are those of `Exact`, and `max_models` of `Learned`. notes: "auto" says what was
    done, and why.
    """

    name: ClassVar = "auto"
    about: ClassVar = (
        "exact for up to four groups, else greedy, then exact; with class multipliers; then, where "
        "folds can judge it, learned"
    )
    multiplies: ClassVar = True
    goes_beyond: ClassVar = True

    max_models: int | None = option("--max-models", None, MAX_MODELS, {"type": int, "metavar": "N"})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_most(self.max_models, self.name)

    def search(self, problem: Problem, workspace: Workspace = ALONE) -> SearchResult:
        groups = len(problem.groups)
        if groups <= FEW:
            found = Exact.search(self, problem, workspace)
            why = f"{groups} groups: exact line searches"
        else:
            coarse = replace(self, climbs=1, gap=None, least=LEAST)
            found = Exact.search(coarse, problem, workspace)
            why = f"{groups} groups: greedy selection, then exact line searches from its best"
        return replace(found, method=self.name, notes={**found.notes, "auto": why})

    def beyond(self, facts: Facts) -> tuple[Method | None, str]:
        parameters = (facts.models + 1) * facts.classes
        if not facts.folds:
            return None, "no heads without folds to judge them"
        if facts.units < FEWEST_UNITS:
            return None, f"no heads for {facts.units} units (below {FEWEST_UNITS})"
        if facts.pixels < EVIDENCE * parameters:
            few = f"{facts.pixels} labelled pixels for {parameters} parameters"
            return None, f"no heads: {few} of the smallest"
        if not facts.fusable:
            needs = "resize='probabilities', mean='arithmetic', classes that exclude each other"
            return None, f"no heads: they need {needs}"
        why = "then heads over single models, on the same folds"
        return Learned(max_models=self.max_models), why
