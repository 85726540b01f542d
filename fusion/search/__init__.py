"""Weight search on cached logits: read a split once, then try as many weightings as one likes.

    stores + labels -> contested pixels, or maps of many models -> Method.search(Problem)
    -> SearchResult, validated by folds of videos

A `Run` (fusion.search.run) is what `search` and the command `python -m fusion.search` both drive.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from fusion.contested.build import condense_ensemble, data_digest
from fusion.ensemble import Ensemble
from fusion.errors import InputError
from fusion.labels import Labels
from fusion.search.method import OVER
from fusion.search.registry import METHODS
from fusion.search.result import SearchResult
from fusion.search.run import Run

__all__ = ["METHODS", "SearchResult", "condense_ensemble", "data_digest", "search"]


def search(
    ensemble: Ensemble,
    truth: Labels,
    method: str = "grid",
    *,
    over: str | None = None,
    folds: int = 0,
    convention: str = "vspw",
    scheduler: str = "threads",
    seed: int = 0,
    stride: int = 1,
    cache: str | Path | None = None,
    progress: str | None = None,
    **options: Any,
) -> SearchResult:
    """Weights that maximise mIoU on `truth`.

    Args:
        method: "grid", "optuna", "greedy" or "exact", each a class of METHODS.
        over: "groups" (default) or "models", every store by itself (default of greedy).
        folds: at least 2 also searches without each fold of videos and scores it, as `held_out`.
        convention: which classes the mean is over (docs of `Scores`).
        scheduler: Dask's, "threads", "processes", "synchronous", or a cluster's address.
        seed: of what a method draws, and of the folds.
        stride, cache: as in `condense_ensemble`; maps of many models are not kept.
        progress: title of a bar on stderr.
        options: the method's own, the fields of its class.

    Returns:
        Its `ensemble` is the input with the found weights, and its `miou` exactly what that
        ensemble's `evaluate` gives (with stride 1).

    Raises:
        InputError: an unknown method or option, and all that reading stores and labels raises.
    """
    kind = METHODS[method]
    over = over or kind.over
    known = sorted(field.name for field in fields(kind))
    unknown = sorted(options.keys() - known)
    if unknown or over not in OVER:
        got = f"over {over!r}, options {unknown} unknown to {method!r}"
        raise InputError(f"search: {got}; choose one of {OVER}, options {known}")
    chosen = kind(**options)  # checks their values before anything is read
    run = Run(ensemble, truth, convention=convention, folds=folds, stride=stride, seed=seed)
    run = replace(run, scheduler=scheduler, cache=cache, title=progress)
    return run.over(over).search(chosen)
