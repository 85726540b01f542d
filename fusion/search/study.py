"""Optuna on the condensed set: TPE by default; a study in SQLite (or any storage URL) that resumes and that several processes share."""

from __future__ import annotations

from typing import Any

import optuna as optuna_library

from fusion.contested import Condensed
from fusion.errors import InputError
from fusion.search.result import Progress, SearchResult, Trial, best_trial, untracked

SAMPLERS = ("tpe", "cmaes", "gp", "random")
HIGHEST = 2.0  # as the grid: weights relative to the first group's 1


def optuna(
    condensed: Condensed,
    *,
    convention: str = "vspw",
    progress: Progress | None = None,
    seed: int = 0,
    trials: int = 200,
    sampler: str = "tpe",
    storage: str | None = None,
    study: str = "segfusion",
    digest: str | None = None,
) -> SearchResult:
    """Optimises the weights of all groups but the first, each in [0, 2]; the first is 1.

    trials: complete trials that the study shall hold in all, earlier runs and other processes included. storage: an Optuna URL such
    as "sqlite:///results/study.db"; default in memory. digest: what the data are; a stored study of other data is refused with an
    InputError. A trial that fails or gives NaN counts as failed and the search goes on.
    """
    if sampler not in SAMPLERS or trials < 1:
        raise InputError(
            f"optuna: sampler {sampler!r}, {trials} trials; choose one of {SAMPLERS} and at least 1 trial"
        )
    optuna_library.logging.set_verbosity(optuna_library.logging.ERROR)
    opened = _open(storage, study, _sampler(sampler, seed), digest)
    free = condensed.groups[1:]

    def objective(trial: optuna_library.Trial) -> float:
        weights = [1.0, *(trial.suggest_float(name, 0.0, HIGHEST) for name in free)]
        trial.set_user_attr("weights", weights)
        return float(condensed.miou([weights], convention)[0])

    for start in (
        dict.fromkeys(free, 1.0),
        dict.fromkeys(free, 0.0),
    ):  # uniform, and the first group alone
        opened.enqueue_trial(start, skip_if_exists=True)
    remaining = trials - len(_complete(opened))
    for _ in (progress or untracked)(range(remaining), "optuna", remaining):
        if len(_complete(opened)) >= trials:  # other processes add to the study as well
            break
        opened.optimize(objective, n_trials=1, catch=(ArithmeticError, RuntimeError, ValueError))
    history = tuple(
        Trial(tuple(t.user_attrs["weights"]), float(t.value or 0.0)) for t in _complete(opened)
    )
    if not history:
        raise InputError(
            f"optuna: none of {len(opened.trials)} trials gave a score; check that the labels hold pixels that are not void"
        )
    best = best_trial(history)
    failed = sum(t.state == optuna_library.trial.TrialState.FAIL for t in opened.trials)
    return SearchResult(
        "optuna",
        condensed.groups,
        best.weights,
        best.miou,
        convention,
        history,
        notes={"failed_trials": failed},
    )


def _complete(study: optuna_library.Study) -> list[Any]:
    return study.get_trials(
        deepcopy=False, states=[optuna_library.trial.TrialState.COMPLETE]
    )  # a NaN counts as failed


def _sampler(name: str, seed: int) -> optuna_library.samplers.BaseSampler:
    if name == "tpe":
        return optuna_library.samplers.TPESampler(seed=seed)
    if name == "random":
        return optuna_library.samplers.RandomSampler(seed=seed)
    try:
        return (
            optuna_library.samplers.CmaEsSampler(seed=seed)
            if name == "cmaes"
            else optuna_library.samplers.GPSampler(seed=seed)
        )
    except ImportError as error:
        raise InputError(
            f"optuna: sampler {name!r} needs a package that is not installed ({error}); install it or use 'tpe'"
        ) from error


def _open(
    storage: str | None, name: str, sampler: optuna_library.samplers.BaseSampler, digest: str | None
) -> optuna_library.Study:
    try:
        study = optuna_library.create_study(
            storage=storage,
            study_name=name,
            sampler=sampler,
            direction="maximize",
            load_if_exists=True,
        )
    except Exception as error:  # any storage backend's own errors
        raise InputError(
            f"optuna: storage {storage!r} cannot be opened ({error}); give a URL such as sqlite:///study.db"
        ) from error
    known = study.user_attrs.get("digest")
    if known is None and not study.trials:
        study.set_user_attr("digest", digest)
    elif known != digest:
        raise InputError(
            f"optuna: study {name!r} in {storage} is of other stores, labels or groups; give another --storage or --study"
        )
    return study
