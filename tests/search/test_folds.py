"""Held-out scores against the same worked out step by step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.metrics import miou
from fusion.search.exact.climb import Exact
from fusion.search.folds import hold_out, split_videos
from fusion.search.greedy import Greedy
from fusion.search.grid import Grid
from fusion.search.method import Problem
from fusion.search.run import Run
from tests.search.simulated import videos


@pytest.mark.parametrize(("count", "folds"), [(6, 3), (7, 3), (3, 5), (2, 2)])
def test_folds_share_the_videos_out(count, folds):
    names = [f"v{i}" for i in range(count)]
    parts = split_videos(names, folds, seed=4)
    assert sorted(video for part in parts for video in part) == names
    assert len(parts) == min(folds, count)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts == split_videos(names, folds, seed=4)


@pytest.mark.parametrize("method", [Grid(), Greedy(), Exact(climbs=1, gap=None)])
def test_held_out_videos_are_scored_by_weights_found_without_them(method):
    condensed = videos()
    held = hold_out(Problem(condensed, "all", 1), method, 3)
    total = np.zeros((3, 3), np.int64)
    for fold in split_videos(condensed.videos, 3, seed=1):
        rest = condensed.subset([video for video in condensed.videos if video not in fold])
        weights = method.search(Problem(rest, "all", 1)).vector
        for video, matrix in zip(fold, condensed.subset(fold).confusion(weights), strict=True):
            assert np.array_equal(held.confusions[video], matrix)
            total += matrix
    assert held.miou == miou(total, "all")
    assert list(held.confusions) == list(condensed.videos)


def test_one_video_cannot_be_held_out():
    condensed = videos(1)
    with pytest.raises(InputError, match="1 video; holding out needs at least 2"):
        hold_out(Problem(condensed), Greedy(), 5)
    with pytest.raises(InputError, match="folds: got 1"):
        hold_out(Problem(videos(3)), Greedy(), 1)


def test_results_have_interval_and_held_out_score(ensemble, truth):
    run, method = Run(ensemble, truth), Greedy(steps=4)
    plain, full = run.search(method), replace(run, folds=3).search(method)
    assert plain.held_out is None
    assert plain.interval() == full.interval() == run.problem.scores(plain.vector).interval()
    assert full.held_out == hold_out(run.problem, method, 3).miou
    assert full.to_json()["held_out"] == full.held_out
