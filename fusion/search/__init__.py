"""Weight search on cached logits: condense the split once, then let a method ask for as many weightings as it likes.

stores + labels -> condense_ensemble -> Condensed -> method(condensed, ...) -> SearchResult
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fusion.contested import Builder, Condensed, condense
from fusion.errors import InputError
from fusion.kernels.contested import Block, merged
from fusion.kernels.reference import ignore_label
from fusion.metrics import map_videos
from fusion.search.result import SearchResult

if TYPE_CHECKING:
    from fusion.ensemble import HierarchicalEnsemble
    from fusion.labels import Labels


class _Methods(Mapping[str, Any]):
    """Name -> function, each loaded when it is first asked for: nobody pays for Optuna who does not use it."""

    homes: ClassVar = {"grid": "fusion.search.grid", "optuna": "fusion.search.optuna"}

    def __getitem__(self, name: str) -> Any:
        if name not in self.homes:
            raise InputError(f"method: got {name!r}; choose one of {list(self.homes)}")
        return getattr(importlib.import_module(self.homes[name]), name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.homes)

    def __len__(self) -> int:
        return len(self.homes)


METHODS: Mapping[str, Any] = _Methods()


@dataclass(frozen=True)
class CondenseVideo:
    """The task of one video: its pixels without the scores that no weighting needs."""

    ensemble: HierarchicalEnsemble
    truth: Labels

    def __call__(self, video: str) -> Block:
        ensemble, classes = self.ensemble, len(self.ensemble.classes)
        frames = ensemble.labelled_frames(self.truth, video)
        blocks = []
        target = np.empty(0, np.uint8)
        for frame, (first, end), fused in ensemble.stream(video, frames, ("group_means",)):
            if first == 0:
                target = ensemble.target(self.truth, video, frame)
            assert fused.group_means is not None
            means = fused.group_means.cpu().numpy()
            blocks.append(condense(means, target[first:end], classes, ignore=ignore_label(classes), video=video))
        return merged(blocks)


def condense_ensemble(
    ensemble: HierarchicalEnsemble, truth: Labels, *, scheduler: str = "threads", progress: str | None = None
) -> Condensed:
    """Condenses the labelled frames of an ensemble's videos: group means are computed here, once, whatever is searched afterwards.

    The result does not depend on the ensemble's weights. scheduler: as in `HierarchicalEnsemble.evaluate`.
    """
    videos = ensemble.scored_videos(truth)
    builder = Builder(tuple(ensemble.groups), ensemble.classes)
    for video, block in map_videos(CondenseVideo(ensemble, truth), videos, scheduler=scheduler, progress=progress).items():
        builder.append(video, block)
    return builder.finish(ensemble.memory)


def data_digest(ensemble: HierarchicalEnsemble, truth: Labels) -> str:
    """sha256 of all that a search's scores depend on: stores, labels, groups, resize, temperatures; not of weights or paths."""
    videos = ensemble.scored_videos(truth)
    temperature = dict(zip(ensemble.stores, ensemble.temperatures, strict=True))
    groups = {name: [(s.digest(videos), temperature[s]) for s in stores] for name, stores in ensemble.groups.items()}
    document = [groups, list(groups), ensemble.resize, truth.digest(videos)]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def search(
    ensemble: HierarchicalEnsemble,
    truth: Labels,
    method: str = "grid",
    *,
    convention: str = "vspw",
    scheduler: str = "threads",
    seed: int = 0,
    progress: str | None = None,
    **options: Any,
) -> SearchResult:
    """Group weights that maximise mIoU on `truth`.

    method: "grid" (`fusion.search.grid`) or "optuna" (`fusion.search.optuna`); options are the method's own. progress: title of a
    bar on stderr. The result's `ensemble` is the input with the found weights; its `miou` is exactly what that ensemble's
    `evaluate` gives. Raises InputError for an unknown method or option, and all that reading stores and labels raises.
    """
    run = METHODS[method]
    condensed = condense_ensemble(ensemble, truth, scheduler=scheduler, progress=progress)
    if method == "optuna":
        options.setdefault("digest", data_digest(ensemble, truth))
    try:
        found = run(condensed, convention=convention, seed=seed, **options)
    except TypeError as error:
        raise InputError(f"search: method {method!r} does not take these options ({error}); see fusion.search.{method}") from error
    return replace(found, ensemble=ensemble.with_weights(found.weights))
