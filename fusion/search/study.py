"""Optuna: TPE by default; a study that resumes and that several processes share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from fusion.errors import FusionError, InputError
from fusion.search.method import ALONE, Data, Method, Problem, Workspace, option
from fusion.search.result import SearchResult

if TYPE_CHECKING:
    import optuna

SAMPLERS = {"tpe": "TPE", "cmaes": "CmaEs", "gp": "GP", "random": "Random"}
URL = (
    "journal:FILE, sqlite:///FILE or postgresql://USER@HOST/NAME; several processes may share one "
    "(default sqlite:///OUT/study.db); trusted like a program, as Optuna unpickles what is in it"
)
STUDY = "study.db"
HIGHEST = 2.0  # as the grid: weights relative to the first group's 1


@dataclass(frozen=True)
class Optuna(Method):
    """Optimises the weights of all groups but the first, each in [0, 2]; the first is 1.

    Args:
        trials: complete trials that the study shall hold in all, earlier runs and other processes
            included. A trial that fails or gives NaN counts as failed and the search goes on.
        sampler: "tpe", "cmaes", "gp" or "random".
        storage: an Optuna URL such as "sqlite:///results/study.db" or "postgresql://...", or
            "journal:results/study.log"; default study.db in the workspace's folder, or in memory.
            A study of other data is refused with an InputError. It is trusted like a program:
            Optuna unpickles what its sampler "cmaes" keeps there.
        study: its name in the storage.
    """

    name: ClassVar = "optuna"
    about: ClassVar = "any number of groups"

    trials: int = option("--trials", 200, "trials in all", {"type": int})
    sampler: str = option("--sampler", "tpe", "tpe, cmaes, gp or random")
    storage: str | None = option("--storage", None, URL)
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

        from fusion.search.journal_file import uncovered
        from fusion.search.storage import named, shown
        from fusion.search.trials import Trials

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        where = self._storage(workspace.folder)
        with named(where), uncovered():
            study = self._open(problem.data, workspace, problem.groups[1:])
            trials = Trials(study, problem, f"{shown(where)}, study {self.study!r}")
            remaining = self.trials - len(trials.complete())
            for _ in workspace.progress(range(remaining), self.name, remaining):
                if len(trials.complete()) >= self.trials:  # other processes add to it as well
                    break
                trials.one_more(HIGHEST)
            history, notes = trials.complete(), trials.notes()
        if not history:
            why = f" (the last: {trials.failure})" if trials.failure else ""
            got = f"none of {len(study.trials)} trials gave a score{why}"
            raise InputError(f"optuna: {got}; check that the labels hold pixels that are not void")
        return problem.result(self.name, history, notes=notes)

    def check(self, data: Data, workspace: Workspace) -> None:
        from fusion.search.storage import named

        folder = workspace.folder
        if self.storage or (folder and (folder / STUDY).exists()):
            with named(self._storage(folder)):
                self._open(data, workspace)

    def effort(self, groups: Sequence[str]) -> int:
        return self.trials

    def _storage(self, folder: Path | None) -> str | None:
        """Where the study is; None in memory."""
        return self.storage or (f"sqlite:///{folder / STUDY}" if folder else None)

    def _open(
        self, data: Data, workspace: Workspace, asked: Sequence[str] | None = None
    ) -> optuna.Study:
        """One process at a time: databases are made once, and belong to the first one's data.

        asked: groups, for which trials that all searches begin with are asked for.
        """
        import optuna

        from fusion.search.storage import Seeded, alone, close_dead, opened, shown, unopened

        folder, storage = workspace.folder, self._storage(workspace.folder)
        try:
            kind = getattr(optuna.samplers, f"{SAMPLERS[self.sampler]}Sampler")
            sampler = Seeded(kind, data.seed)
        except ImportError as error:
            got = f"sampler {self.sampler!r} needs a package that is not installed ({error})"
            raise InputError(f"optuna: {got}; install it or use 'tpe'") from error
        how: dict[str, Any] = {"study_name": self.study, "direction": "maximize"}
        with alone(storage, folder):
            try:
                where = opened(storage)
                study = optuna.create_study(
                    storage=where, sampler=sampler, load_if_exists=True, **how
                )
            except FusionError:
                raise
            except Exception as error:  # any storage backend's own errors
                raise unopened(storage, error) from error
            wanted = {"digest": data.digest, "convention": data.convention}
            known = {key: study.user_attrs[key] for key in wanted if key in study.user_attrs}
            if not known and not study.trials:
                for item in wanted.items():
                    study.set_user_attr(*item)
            elif {**wanted, "digest": None, **known} != wanted:
                got = f"study {self.study!r} in {shown(storage)} is of other stores, labels or"
                do = "give another storage= or study="
                raise InputError(f"optuna: {got} groups, or another convention; {do}")
            if asked is not None:
                close_dead(study)
                for weight in (1.0, 0.0):  # uniform, and the first group alone
                    study.enqueue_trial(dict.fromkeys(asked, weight), skip_if_exists=True)
        return study
