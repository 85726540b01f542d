"""The trials of a study: drawn and scored here, or read from a storage and counted again.

A study's numbers are those of whoever can write to it. What this process has not counted itself it
counts before it goes on from it; samplers draw from the same numbers, so that is when a study is
opened, and after every trial of another process.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import optuna

from fusion.errors import CorruptStoreError, StoreError
from fusion.search import storage
from fusion.search.claims import checked, vector
from fusion.search.method import Problem
from fusion.search.result import Trial

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

WEIGHTS = "weights"  # of a trial, in its attributes
SCORED = "scored by "  # of a study: a process, and how many trials it has completed
DO = "delete that study, or give another storage= or study="
States = optuna.trial.TrialState


class Trials:
    """Complete trials of a study, as the pixels have them.

    Args:
        study: whose first group has weight 1, and every other one a parameter of its name.
        problem: whose pixels count.
        where: the study, for errors.

    Raises:
        CorruptStoreError: the study says what the pixels do not, or has lost trials.
    """

    def __init__(self, study: optuna.Study, problem: Problem, where: str) -> None:
        self.study, self.problem, self.where = study, problem, where
        self._owner = storage.owner()
        self.failure = ""  # of the last trial that failed here
        self._known: dict[int, Trial] = {}  # by number
        self._scored_here = 0
        every, complete = study.get_trials(deepcopy=False), 0
        told = [n for key, n in study.user_attrs.items() if key.startswith(SCORED)]
        for trial in every:
            complete += trial.state == States.COMPLETE
            scored = trial.values is not None or storage.SCORE in trial.user_attrs
            if scored and trial.state not in (States.COMPLETE, States.RUNNING):
                raise self._damaged(f"trial {trial.number} has a score and is not complete")
        numbers = [trial.number for trial in every]
        if numbers != list(range(len(every))) or complete < sum(map(int, told)):
            raise self._damaged("trials are missing")

    def complete(self) -> list[Trial]:
        """All of them, in their order."""
        every = self.study.get_trials(deepcopy=False, states=[States.COMPLETE])
        fresh = [trial for trial in every if trial.number not in self._known]
        if fresh:
            counted = checked(self.problem, [self._told(t) for t in fresh], self.where, DO)
            self._known |= {t.number: found for t, found in zip(fresh, counted, strict=True)}
        return [self._known[trial.number] for trial in every]

    def one_more(self, highest: float) -> None:
        """Draws weights up to `highest` and scores them; what fails counts as failed."""
        trial = self.study.ask()
        try:
            found = self._scored(trial, highest)
        except BaseException:
            with contextlib.suppress(Exception):  # else the next run closes it
                self.study.tell(trial, state=States.FAIL, skip_if_finished=True)
                storage.ask_again(self.study, trial.number)
            raise
        if found is None or math.isnan(found.miou):
            self.study.tell(trial, state=States.FAIL, skip_if_finished=True)
            return
        self._known[trial.number] = found
        trial.set_user_attr(storage.SCORE, found.miou)  # whoever finds it unfinished goes by that
        self.study.tell(trial, found.miou, skip_if_finished=True)
        self._scored_here += 1
        self.study.set_user_attr(
            SCORED + "/".join(map(str, self._owner.values())), self._scored_here
        )

    def notes(self) -> dict[str, Any]:
        """How many failed, of all that were tried, and why the last of this run did."""
        failed = self.study.get_trials(deepcopy=False, states=[States.FAIL])
        why = {"failure": self.failure} if self.failure else {}
        return {"failed_trials": len(failed), **why}

    def _scored(self, trial: optuna.Trial, highest: float) -> Trial | None:
        trial.set_user_attr(storage.OWNER, self._owner)
        free = self.problem.groups[1:]
        weights = [1.0, *(trial.suggest_float(name, 0.0, highest) for name in free)]
        trial.set_user_attr(WEIGHTS, weights)
        try:
            (found,) = self.problem.trials([weights])
        except StoreError:  # no other weights do better on a store that cannot be read
            raise
        except Exception as error:
            said = str(error).partition("\n")[0]
            self.failure = f"{type(error).__name__}: {said}"
            return None
        if math.isnan(found.miou):
            self.failure = "its score is no number"
        return found

    def _told(self, trial: FrozenTrial) -> Trial:
        """A trial as the study has it."""
        groups = self.problem.groups
        try:
            weights = vector(trial.user_attrs[WEIGHTS], len(groups))
            drawn = (1.0, *(trial.params[name] for name in groups[1:]))
        except (KeyError, ValueError) as error:
            raise self._damaged(f"trial {trial.number} has no weights ({error})") from error
        if weights != drawn or len(trial.params) != len(groups) - 1:
            raise self._damaged(f"trial {trial.number} was drawn with other weights than it has")
        return Trial(weights, math.nan if trial.value is None else trial.value)

    def _damaged(self, what: str) -> CorruptStoreError:
        return CorruptStoreError(f"{self.where}: {what}: damaged or edited; {DO}")
