"""Scores on videos that a search did not see: it runs again without each fold, scored there.

Searched weights look best on the data they were searched on: the paper's own gained 2.6 points of
mIoU on val and 0.3 on test. Videos, not pixels or frames, are what is held out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fusion.errors import InputError
from fusion.folds import dealt
from fusion.metrics import Scores
from fusion.progress import Progress, silent
from fusion.search.method import Method, Problem


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
    problem: Problem, method: Method, folds: int, *, progress: Progress = silent
) -> Scores:
    """Scores of every video under the weights that a method finds on the other folds' videos.

    InputError: fewer than two folds or videos.
    """
    condensed, inner = problem.condensed, method.inner()
    folded = split_videos(condensed.videos, folds, problem.seed)
    matrices: dict[str, np.ndarray] = {}
    for held in progress(folded, "folds", len(folded)):
        rest = problem.subset([video for video in condensed.videos if video not in held])
        found = condensed.subset(held).confusion(inner.search(rest).vector)
        matrices.update(zip(held, found, strict=True))
    # folds come shuffled; a bootstrap must not depend on that
    in_order = {video: matrices[video] for video in condensed.videos}
    return Scores(in_order, condensed.classes, problem.convention)
