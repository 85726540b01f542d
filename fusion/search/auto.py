"""The method that chooses a method: what we would run ourselves.

Up to four groups get an exact search with a certificate. Single models are many: greedy selection,
whose counts are coarse but hold out well, then exact line searches from its best point.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from fusion.search.exact.climb import Exact
from fusion.search.method import ALONE, Problem, Workspace
from fusion.search.result import SearchResult

FEW = 4  # groups
LEAST = 1e-4  # of mIoU: steps below it cost seconds each and do not hold out


@dataclass(frozen=True)
class Auto(Exact):
    """Exact up to four groups, else greedy and exact line searches from there; with multipliers.

    The options are those of `Exact`. notes: "auto" says what was done, and why.
    """

    name: ClassVar = "auto"
    about: ClassVar = "exact for up to four groups, else greedy, then exact; with class multipliers"
    multiplies: ClassVar = True

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
