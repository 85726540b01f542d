"""Optuna: TPE by default; a study that resumes and that several processes share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

from fusion.errors import InputError
from fusion.files import locked
from fusion.search.method import ALONE, Data, Method, Problem, Workspace, option
from fusion.search.result import SearchResult, Trial

if TYPE_CHECKING:
    import optuna

SAMPLERS = {"tpe": "TPE", "cmaes": "CmaEs", "gp": "GP", "random": "Random"}
URL = "storage URL (default sqlite:///OUT/study.db)"
ERRORS = (ArithmeticError, RuntimeError, ValueError)  # of a trial, after which others may do
STUDY = "study.db"
HIGHEST = 2.0  # as the grid: weights relative to the first group's 1


@dataclass(frozen=True)
class Optuna(Method):
    """Optimises the weights of all groups but the first, each in [0, 2]; the first is 1.

    Args:
        trials: complete trials that the study shall hold in all, earlier runs and other processes
            included. A trial that fails or gives NaN counts as failed and the search goes on.
        sampler: "tpe", "cmaes", "gp" or "random".
        storage: an Optuna URL such as "sqlite:///results/study.db"; default study.db in the
            workspace's folder, or in memory. A study of other data is refused with an InputError.
        study: its name in the storage.
    """

    name: ClassVar = "optuna"
    about: ClassVar = "any number of groups"

    trials: int = option("--trials", 200, "trials in all", {"type": int})
    sampler: str = option("--sampler", "tpe", "tpe, cmaes, gp or random")
    storage: str | None = option("--storage", None, f"{URL}; several processes may share one")
    study: str = option("--study", "segfusion", "name of the study in the storage")

    def __post_init__(self) -> None:
        if self.sampler not in SAMPLERS or self.trials < 1:
            got = f"sampler {self.sampler!r}, {self.trials} trials"
            do = f"choose one of {tuple(SAMPLERS)} and at least 1 trial"
            raise InputError(f"optuna: {got}; {do}")

    def inner(self) -> Self:
        return replace(self, storage=None, study=type(self).study)

    def search(self, problem: Problem, workspace: Workspace = ALONE) -> SearchResult:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study, free = self._open(problem.data, workspace), problem.groups[1:]
        states = optuna.trial.TrialState
        # a trial that gave NaN counts as failed
        complete = partial(study.get_trials, deepcopy=False, states=[states.COMPLETE])

        def objective(trial: optuna.Trial) -> float:
            weights = [1.0, *(trial.suggest_float(name, 0.0, HIGHEST) for name in free)]
            trial.set_user_attr("weights", weights)
            return problem.trials([weights])[0].miou

        for weight in (1.0, 0.0):  # uniform, and the first group alone
            study.enqueue_trial(dict.fromkeys(free, weight), skip_if_exists=True)
        remaining = self.trials - len(complete())
        for _ in workspace.progress(range(remaining), self.name, remaining):
            if len(complete()) >= self.trials:  # other processes add to the study as well
                break
            study.optimize(objective, n_trials=1, catch=ERRORS)
        history = [Trial(tuple(t.user_attrs["weights"]), float(t.value or 0)) for t in complete()]
        if not history:
            got = f"none of {len(study.trials)} trials gave a score"
            raise InputError(f"optuna: {got}; check that the labels hold pixels that are not void")
        failed = sum(t.state == states.FAIL for t in study.trials)
        return problem.result(self.name, history, notes={"failed_trials": failed})

    def check(self, data: Data, workspace: Workspace) -> None:
        folder = workspace.folder
        if self.storage or (folder and (folder / STUDY).exists()):
            self._open(data, workspace)

    def effort(self, groups: Sequence[str]) -> int:
        return self.trials

    def _open(self, data: Data, workspace: Workspace) -> optuna.Study:
        """One process at a time: databases are made once, and belong to the first one's data."""
        import optuna

        folder, storage = workspace.folder, self.storage
        if folder and not storage:
            storage = f"sqlite:///{folder / STUDY}"
        try:
            kind = getattr(optuna.samplers, f"{SAMPLERS[self.sampler]}Sampler")
            how: dict[str, Any] = {"storage": storage, "sampler": kind(seed=data.seed)}
        except ImportError as error:
            got = f"sampler {self.sampler!r} needs a package that is not installed ({error})"
            raise InputError(f"optuna: {got}; install it or use 'tpe'") from error
        how |= {"study_name": self.study, "direction": "maximize", "load_if_exists": True}
        # a shared storage is looked at before the first search makes its folder
        with locked(folder) if folder and folder.is_dir() else nullcontext():
            try:
                study = optuna.create_study(**how)
            except Exception as error:  # any storage backend's own errors
                got = f"storage {storage!r} cannot be opened ({error})"
                do = "give a URL such as sqlite:///study.db"
                raise InputError(f"optuna: {got}; {do}") from error
            wanted = {"digest": data.digest, "convention": data.convention}
            known = {key: study.user_attrs[key] for key in wanted if key in study.user_attrs}
            if not known and not study.trials:
                for item in wanted.items():
                    study.set_user_attr(*item)
            elif {**wanted, "digest": None, **known} != wanted:
                got = f"study {self.study!r} in {storage} is of other stores, labels or groups"
                do = "give another storage= or study="
                raise InputError(f"optuna: {got}, or another convention; {do}")
        return study
