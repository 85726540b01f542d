"""Held-out scores against the same worked out step by step."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.metrics import miou
from fusion.search.exact.climb import Exact
from fusion.search.folds import hold_out, split_videos, validated
from fusion.search.greedy import Greedy
from fusion.search.grid import Grid
from fusion.search.method import Problem
from tests.search.simulated import videos


@pytest.mark.parametrize(("count", "folds"), [(6, 3), (7, 3), (3, 5), (2, 2)])
def test_folds_share_the_videos_out(count, folds):
    names = [f"v{i}" for i in range(count)]
    parts = split_videos(names, folds, seed=4)
    assert sorted(video for part in parts for video in part) == names
    assert len(parts) == min(folds, count)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts == split_videos(names, folds, seed=4)


@pytest.mark.parametrize("method", [Grid(), Greedy()])
def test_held_out_videos_are_scored_by_weights_found_without_them(method):
    condensed = videos()
    held = hold_out(Problem(condensed, "all", 1), method, folds=3)
    total = np.zeros((3, 3), np.int64)
    for fold, weights in zip(held.folds, held.weights, strict=True):
        rest = condensed.subset([video for video in condensed.videos if video not in fold])
        assert method.search(Problem(rest, "all", 1)).vector == weights
        total += condensed.subset(fold).confusions([weights])[0]
    assert held.miou == miou(total, "all")
    assert held.uniform.miou == condensed.miou([[1, 1, 1]], "all")[0]
    assert list(held.scores.confusions) == list(condensed.videos)


def test_options_reach_the_method():
    held = hold_out(Problem(videos()), Exact(climbs=0, gap=None), folds=2)
    assert len(held.weights) == 2


def test_one_video_cannot_be_held_out():
    condensed = videos(1)
    with pytest.raises(InputError, match="1 video; holding out needs at least 2"):
        hold_out(Problem(condensed), Greedy())
    with pytest.raises(InputError, match="folds: got 1"):
        hold_out(Problem(videos(3)), Greedy(), folds=1)


def test_validated_results_have_interval_and_held_out_score():
    weighed, method = Problem(videos()), Greedy(steps=4)
    found = method.search(weighed)
    plain = validated(weighed, found, method)
    assert plain.held_out is None
    assert plain.interval() == weighed.scores(found.vector).interval()
    full = validated(weighed, found, method, folds=3)
    assert full.held_out == hold_out(weighed, method, folds=3).miou
    assert full.to_json()["held_out"] == full.held_out
