"""Scores on videos that a search did not see: it runs again without each fold, scored there.

Searched weights look best on the data they were searched on: the paper's own gained 2.6 points of
mIoU on val and 0.3 on test. Videos, not pixels or frames, are what is held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fusion.errors import InputError
from fusion.folds import dealt
from fusion.metrics import Scores
from fusion.progress import Progress, silent
from fusion.search.method import Method, Problem
from fusion.search.result import SearchResult


@dataclass(frozen=True)
class HeldOut:
    """Scores of every video under the weights that were searched without it.

    scores: all videos pooled. uniform: the same videos under equal weights. folds: the held-out
    videos of each fold. weights: of each fold, in the order of the groups.
    """

    scores: Scores
    uniform: Scores
    folds: tuple[tuple[str, ...], ...]
    weights: tuple[tuple[float, ...], ...]

    @property
    def miou(self) -> float:
        return self.scores.miou


def split_videos(videos: Sequence[str], folds: int, seed: int = 0) -> tuple[tuple[str, ...], ...]:
    """Videos shuffled by the seed and dealt to folds as even as can be; at most one fold per video.

    InputError: fewer than two folds, or fewer than two videos.
    """
    if len(videos) < 2:
        do = "holding out needs at least 2, label more videos or search without folds"
        raise InputError(f"folds: {len(videos)} video; {do}")
    if folds < 2:
        raise InputError(f"folds: got {folds}; give at least 2")
    places = dealt(range(len(videos)), min(folds, len(videos)), seed)
    # each fold in the order of the videos
    return tuple(tuple(videos[place] for place in sorted(fold)) for fold in places)


def hold_out(
    problem: Problem, method: Method, *, folds: int = 5, progress: Progress = silent
) -> HeldOut:
    """Runs a method once per fold on the other folds' videos, and scores the fold with the result.

    InputError: fewer than two folds or videos.
    """
    videos, inner = problem.condensed.videos, method.inner()
    parts = split_videos(videos, folds, problem.seed)
    found: list[tuple[float, ...]] = []
    matrices: dict[str, np.ndarray] = {}
    for held in progress(parts, "folds", len(parts)):
        rest = problem.subset([video for video in videos if video not in held])
        found.append(inner.search(rest).vector)
        confusion = problem.condensed.subset(held).confusion(found[-1])
        matrices.update(zip(held, confusion, strict=True))
    # folds come shuffled; a bootstrap must not depend on that
    in_order = {video: matrices[video] for video in videos}
    pooled = Scores(in_order, problem.condensed.classes, problem.convention)
    return HeldOut(pooled, problem.uniform, parts, tuple(found))


def validated(
    problem: Problem,
    found: SearchResult,
    method: Method,
    *,
    folds: int = 0,
    progress: Progress = silent,
) -> SearchResult:
    """The result with its scores per video and, where there are folds, its held-out mIoU."""
    held = hold_out(problem, method, folds=folds, progress=progress).miou if folds else None
    return replace(found, scores=problem.scores(found.vector), held_out=held)
