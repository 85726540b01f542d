"""Weight search on cached logits: condense the split once, then let a method ask for as many weightings as it likes.

stores + labels -> condense_ensemble -> Condensed -> method(condensed, ...) -> validated SearchResult
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fusion.contested.build import condense_ensemble, data_digest
from fusion.errors import InputError
from fusion.search.result import SearchResult
from fusion.search.verdict import validated

if TYPE_CHECKING:
    from fusion.ensemble import Ensemble
    from fusion.labels import Labels

__all__ = ["METHODS", "SearchResult", "condense_ensemble", "data_digest", "search"]

OVER = ("groups", "models")


class _Methods(Mapping[str, Any]):
    """Name -> function, each loaded when it is first asked for: nobody pays for Optuna who does not use it."""

    homes: ClassVar = {
        "grid": "fusion.search.grid",
        "optuna": "fusion.search.study",
        "greedy": "fusion.search.greedy",
        "exact": "fusion.search.exact",
    }

    def __getitem__(self, name: str) -> Any:
        if name not in self.homes:
            raise InputError(f"method: got {name!r}; choose one of {list(self.homes)}")
        return getattr(importlib.import_module(self.homes[name]), name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.homes)

    def __len__(self) -> int:
        return len(self.homes)


METHODS: Mapping[str, Any] = _Methods()


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

    method: "grid", "optuna", "greedy" or "exact", each in its module of fusion.search; options are its own. over: "groups" (default)
    or "models", every store by itself (default of greedy). folds: at least 2 also searches without each fold of videos and scores
    it, as `held_out`. stride, cache: as in `condense_ensemble`. progress: title of a bar on stderr.
    The result's `ensemble` is the input with the found weights, and its `miou` exactly what that ensemble's `evaluate` gives (with
    stride 1). Raises InputError for an unknown method or option, and all that reading stores and labels raises.
    """
    run = METHODS[method]
    over = over or ("models" if method == "greedy" else "groups")
    known = set(inspect.signature(run).parameters) - {"condensed", "progress"}
    unknown = sorted(set(options) - known)
    if unknown or over not in OVER:
        raise InputError(
            f"search: over {over!r}, options {unknown} unknown to {method!r}; choose one of {OVER}, options {sorted(known)}"
        )
    searched = ensemble.singles() if over == "models" else ensemble
    condensed = condense_ensemble(
        searched, truth, scheduler=scheduler, progress=progress, stride=stride, cache=cache
    )
    if method == "optuna":
        options.setdefault("digest", data_digest(searched, truth, stride))
    found = run(condensed, convention=convention, seed=seed, **options)
    found = validated(
        condensed,
        found,
        run if folds else None,
        folds=folds,
        seed=seed,
        **fold_options(method, options),
    )
    return replace(found, ensemble=searched.with_weights(found.weights))


def fold_options(method: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A method's options inside a fold, where other data must neither resume the whole search's study or state nor be certified."""
    if method == "optuna":
        return {
            name: value
            for name, value in options.items()
            if name not in ("storage", "study", "digest")
        }
    if method == "exact":
        return {
            **{name: value for name, value in options.items() if name != "state"},
            "gap": None,
            "climbs": 1,
        }
    return dict(options)
