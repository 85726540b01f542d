"""Weight search on cached logits: read a split once, then try as many weightings as one likes.

    stores + labels -> contested pixels, or maps of many models -> Method.search(Problem)
    -> SearchResult, validated by folds of videos

A `Run` (fusion.search.run) is what `search` and the command `python -m fusion.search` both drive.
"""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from fusion.arguments import checked
from fusion.contested.build import condense_ensemble, data_digest
from fusion.ensemble import Ensemble
from fusion.errors import InputError
from fusion.folds import Units
from fusion.labels import Labels
from fusion.metrics.evaluation import objective_of
from fusion.metrics.objectives import Classes, Objective
from fusion.search.method import OVER
from fusion.search.postprocessing.tune import Tuning
from fusion.search.registry import METHODS
from fusion.search.result import SearchResult
from fusion.search.run import Run
from fusion.search.selection import read_reach
from fusion.search.temperatures import fit_temperatures, warn_at_bounds

__all__ = ["METHODS", "SearchResult", "condense_ensemble", "data_digest", "fit_temperatures"]
__all__ += ["search"]

FIT = "fit"


@checked
def search(
    ensemble: Ensemble,
    truth: Labels,
    method: str = "grid",
    *,
    over: str | None = None,
    temperatures: str | None = None,
    tune: str | None = None,
    folds: int | None = None,
    units: str | Units = "videos",
    objective: str | Objective | None = None,
    classes: Classes | None = None,
    multipliers: bool | float | tuple[float, float] | None = None,
    convention: str | Objective = "vspw",
    scheduler: str = "threads",
    seed: int = 0,
    stride: int = 1,
    cache: str | Path | None = None,
    progress: str | None = None,
    **options: Any,
) -> SearchResult:
    """Weights, and multipliers, that maximise mIoU or another objective on `truth`.

    Args:
        method: "auto", "grid", "optuna", "greedy" or "exact", each a class of METHODS.
        over: "groups" (default) or "models", every store by itself (default of greedy).
        temperatures: "fit" first fits one to every model (`fit_temperatures`), which the found
            ensemble then has; default: those that the ensemble has. They are fitted on all videos,
            so `held_out` is a little kind to them.
        tune: "postprocess" also chooses what is done after fusion (`fusion.postprocess`), on the
            same folds, for the recommended ensemble; "postprocess:vc8" and "postprocess:vc16" do so
            by video consistency, where the score falls by no more than one standard error and 0.2
            points. Pictures: `images` of the ensemble. Its own postprocessing plays no part.
        folds: everything is chosen again without each fold, which then judges it: `held_out`,
            `gain`, `recommended`. Default five where there are two units; 0 for none.
        units: what is held out together: "videos", "frames", "blocks:N", or a regular expression
            whose match in a video's name is the same for those that belong together.
        objective: a name in `fusion.metrics.objectives`, or an `Objective`; default `convention`.
        classes: those that the objective is over, by name or id; or class to weight.
        multipliers: whether a multiplier b_c for each class is found as well, within [1/r, r]: r,
            or (lowest, highest), or True for 4. They are kept only if they hold out. Default: with
            "auto". Of independent channels they are thresholds, from 1 / (1 + r) to r / (1 + r),
            and True is 99: from 0.01 to 0.99.
        convention: as `objective`, the older name.
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
    if temperatures not in (None, FIT):
        raise InputError(f"temperatures: got {temperatures!r}; give {FIT!r}, or None for the given")
    if unknown or over not in OVER:
        got = f"over {over!r}, options {unknown} unknown to {method!r}"
        raise InputError(f"search: {got}; choose one of {OVER}, options {known}")
    chosen = kind(**options)  # checks their values before anything is read
    wanted = objective_of(ensemble, objective or convention, classes)
    run = Run(ensemble.plain(), truth, convention=wanted, stride=stride, seed=seed)
    spans = units if isinstance(units, Units) else Units.parse(units)
    reach = read_reach(kind, ensemble, multipliers)
    run = replace(run, folds=folds, units=spans, reach=reach, scheduler=scheduler)
    run = replace(run, cache=cache, title=progress)
    if temperatures == FIT:
        warn_at_bounds(run.fits)
        run = run.fitted()
    run = run.over(over)
    tuning = None if tune is None else Tuning.parse(tune, run)
    found = run.search(chosen)
    return found if tuning is None else tuning.tuned(found)
