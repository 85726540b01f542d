"""The method that trains a head: form and strength by inner folds, each form from the one below.

    cells of every video -> for every form, smallest first:
        inner folds: a path of strengths on the rest, scored on cells of the fold
        the strength that holds out best -> the fit on all cells
    -> the form that holds out best
    -> fewer models, where that is asked for (fusion.search.learned.prune)
    -> one temperature, fitted to what the inner folds' heads make of what they have not seen

What follows (class multipliers on those same unseen predictions, scores at label resolution,
verdicts) is the rest of the search's, as for weights. U units, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from fusion.ensemble.heads import HEADS, Head
from fusion.errors import InputError
from fusion.search.held import head_name
from fusion.search.learned.prune import again, check_most, pruned
from fusion.search.learned.school import School, Stage, best_of
from fusion.search.method import ALONE, Method, Problem, Workspace, option
from fusion.search.result import SearchResult
from fusion.text import did_you_mean, or_none

MANY = 1 << 16  # parameters of full mixing, beyond which its rank is bounded
AUTO = "auto"
MAX_MODELS = "most models of a head, fewer where that costs less than one standard error"


@dataclass(frozen=True)
class Learned(Method):
    """A head over log-probabilities; `head` of the result, `notes["learned"]` how it was chosen.

    Args:
        head: a form in `fusion.ensemble.heads.HEADS`, or "auto": inner folds choose it.
        surrogate: share of the objective's surrogate (Lovász-softmax or soft Dice) in the loss
            beside cross-entropy.
        max_models: the head keeps so many of them at most, the fewest within one standard error of
            the best of so few; None for all, without a look at fewer.

    Raises:
        InputError: an unknown form, a share that is negative, or no number of models.
    """

    name: ClassVar = "learned"
    about: ClassVar = "a head over log-probabilities: stacking, with class mixing"
    over: ClassVar = "models"
    multiplies: ClassVar = True
    trains: ClassVar = True

    head: str = option("--head", AUTO, f"form of the head: {', '.join(HEADS)}, auto", {})
    surrogate: float = option(
        "--surrogate",
        1.0,
        "share of Lovász-softmax or soft Dice beside cross-entropy",
        {"type": float},
    )
    max_models: int | None = option("--max-models", None, MAX_MODELS, {"type": int, "metavar": "N"})

    def __post_init__(self) -> None:
        if self.head != AUTO and self.head not in HEADS:
            got = f"head: got {self.head!r}{did_you_mean(self.head, [AUTO, *HEADS])}"
            raise InputError(f"learned: {got}")
        if not (math.isfinite(self.surrogate) and self.surrogate >= 0):
            raise InputError(f"learned: surrogate is {self.surrogate}; give a share of at least 0")
        check_most(self.max_models, self.name)

    def search(self, problem: Problem, workspace: Workspace = ALONE) -> SearchResult:
        school, stages = School(problem, self.surrogate), list[Stage]()
        for form in self.forms(len(school.units), len(school.classes)):
            stages.append(school.stage(form, stages[-1] if stages else None, workspace.progress))
        chosen = stages[-1] if self.head != AUTO else best_of(stages)
        notes: dict[str, Any] = {
            "forms": {stage.form.name: stage.to_json() for stage in stages},
            "surrogate": self.surrogate,
            "unseen": school.unseen,
            "curve": [],
        }
        if self.max_models is not None:
            # every form on the models that the chosen one keeps: rungs of one ladder
            count = stages.index(chosen) + 1
            curve = pruned(school, stages[:count], self.max_models, workspace.progress)
            few = curve.fewest(school, self.max_models)
            units, notes["curve"] = few[-1].head.units, curve.to_json()
            if units != school.units:
                stages = [*few, *again(school, stages[count:], units, few[-1])]
                school, chosen = school.only(units), few[-1]
        rungs = {head_name(s.form.name): self._result(school, s, notes) for s in stages}
        return replace(rungs[head_name(chosen.form.name)], rungs=rungs)

    def _result(self, school: School, stage: Stage, told: Mapping[str, Any]) -> SearchResult:
        """A stage, with the temperature that its folds' heads ask for."""
        problem, temperature = school.problem, school.temperature(stage)
        head = stage.head.cooled(temperature)
        crossed = {video: each.cooled(temperature) for video, each in stage.crossed.items()}
        (trial,) = problem.under(head).trials([[1.0]])
        said = {"form": head.name, "strength": stage.strength, "temperature": temperature}
        said["held_out"] = or_none(stage.scores.score) if stage.held_out else None
        more: dict[str, Any] = {"head": head, "crossed": crossed}
        more["notes"] = {"learned": {**said, **told}}
        found = (self.name, (head.name,), trial.weights, trial.miou, problem.objective.name)
        return SearchResult(*found, (trial,), **more)

    def forms(self, units: int, classes: int) -> list[type[Head]]:
        """What is trained, the smallest first: the form asked for stands on those below it."""
        name: str | None = self.head
        if name == AUTO:
            name = "mix" if units * classes**2 <= MANY else "lowrank"
        chain = []
        while name is not None:
            chain.append(HEADS[name])
            name = HEADS[name].below
        return chain[::-1]
