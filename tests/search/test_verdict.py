"""Held-out scores, contributions, gains and the one-standard-error rule against the same worked out step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fusion.contested import Builder, Condensed, condense
from fusion.errors import InputError
from fusion.metrics import miou
from fusion.search import verdict as validation
from fusion.search.exact.climb import exact
from fusion.search.greedy import greedy
from fusion.search.grid import grid
from fusion.search.result import Trial


def videos(count: int = 6, groups: int = 3, seed: int = 0, best: float = 2.0) -> Condensed:
    """Videos of different difficulty; the last group is the best by far where `best` is high."""
    rng = np.random.default_rng(seed)
    builder = Builder([f"g{g}" for g in range(groups)], ["a", "b", "c"])
    for video in range(count):
        targets = rng.integers(0, 3, 300).astype(np.uint8)
        logits = rng.normal(size=(groups, 3, 300)) * 2
        logits[:, targets, np.arange(300)] += np.linspace(0.5, best, groups)[:, None] * rng.uniform(
            0.5, 1.5
        )
        means = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
        builder.append(f"v{video}", condense(means, targets, 3, ignore=255))
    return builder.finish()


def test_scores_are_those_of_the_condensed_set():
    condensed = videos()
    found = validation.scores(condensed, [1, 2, 3], "union")
    assert found.miou == condensed.miou([[1, 2, 3]], "union")[0]
    assert list(found.confusions) == list(condensed.videos)


@pytest.mark.parametrize(("count", "folds"), [(6, 3), (7, 3), (3, 5), (2, 2)])
def test_folds_share_the_videos_out(count, folds):
    names = [f"v{i}" for i in range(count)]
    parts = validation.split_videos(names, folds, seed=4)
    assert sorted(video for part in parts for video in part) == names
    assert len(parts) == min(folds, count)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts == validation.split_videos(names, folds, seed=4)


@pytest.mark.parametrize("method", [grid, greedy])
def test_held_out_videos_are_scored_by_weights_found_without_them(method):
    condensed = videos()
    held = validation.hold_out(condensed, method, folds=3, convention="all", seed=1)
    total = np.zeros((3, 3), np.int64)
    for fold, weights in zip(held.folds, held.weights, strict=True):
        rest = condensed.subset([video for video in condensed.videos if video not in fold])
        assert method(rest, convention="all", seed=1).vector == weights
        total += condensed.subset(fold).confusions([weights])[0]
    assert held.miou == miou(total, "all")
    assert held.uniform.miou == condensed.miou([[1, 1, 1]], "all")[0]
    assert list(held.scores.confusions) == list(condensed.videos)


def test_options_reach_the_method():
    held = validation.hold_out(videos(), exact, folds=2, climbs=0, gap=None)
    assert len(held.weights) == 2


def test_one_video_cannot_be_held_out():
    condensed = videos(1)
    with pytest.raises(InputError, match="1 video; holding out needs at least 2"):
        validation.hold_out(condensed, greedy)
    with pytest.raises(InputError, match="folds: got 1"):
        validation.hold_out(videos(3), greedy, folds=1)


def test_contributions_by_hand():
    condensed = videos()
    added = validation.contributions(condensed, [1.0, 2.0, 3.0])
    whole = condensed.miou([[1, 2, 3]])[0]
    assert added == {
        "g0": whole - condensed.miou([[0, 2, 3]])[0],
        "g1": whole - condensed.miou([[1, 0, 3]])[0],
        "g2": whole - condensed.miou([[1, 2, 0]])[0],
    }
    assert max(added, key=added.__getitem__) == "g2"
    alone = validation.contributions(condensed, [0.0, 1.0, 0.0])
    assert math.isnan(alone["g1"])
    assert alone["g0"] == 0.0


def test_one_standard_error_prefers_the_simplest_within_it():
    condensed = videos(best=0.6)  # groups of about equal quality: uniform weights are hard to beat
    best = Trial((1.0, 1.0, 1.2), float(condensed.miou([[1.0, 1.0, 1.2]])[0]))
    chosen = validation.one_standard_error(condensed, best)
    assert chosen.trial.weights == (1.0, 1.0, 1.0)
    assert chosen.trial.miou == condensed.miou([[1, 1, 1]])[0] >= best.miou - chosen.standard_error
    assert "uniform weights" in chosen.rule
    order = {
        "first alone": [1.0, 0.0, 0.0],
        "last alone": [0.0, 0.0, 1.0],
        "uniform": [1.0, 1.0, 1.0],
    }
    wide = validation.one_standard_error(condensed, best, simpler=order)
    qualified = [
        name
        for name, w in order.items()
        if condensed.miou([w])[0] >= best.miou - wide.standard_error
    ]
    assert wide.trial.weights == tuple(order[qualified[0]])


def test_one_standard_error_keeps_the_best_where_it_is_clear_or_unknown():
    condensed = videos(best=6.0)
    best = Trial((0.0, 0.0, 1.0), float(condensed.miou([[0, 0, 1]])[0]))
    chosen = validation.one_standard_error(
        condensed, best, simpler={"first alone": [1.0, 0.0, 0.0]}
    )
    assert chosen.trial == best
    assert "nothing simpler" in chosen.rule
    one = validation.one_standard_error(videos(1), best)
    assert one.trial == best
    assert math.isnan(one.standard_error)


def test_standard_error_is_the_spread_of_resampled_scores():
    condensed = videos()
    matrices = condensed.confusion([1, 1, 1])
    rng = np.random.default_rng(5)
    drawn = [
        miou(matrices[rng.integers(0, len(matrices), len(matrices))].sum(axis=0))
        for _ in range(4000)
    ]
    error = validation.one_standard_error(condensed, Trial((1.0, 1.0, 1.0), 0.5)).standard_error
    assert error == pytest.approx(np.std(drawn), rel=0.1)


def test_gains_in_words():
    condensed = videos(best=6.0)
    uniform, last, first = (
        validation.scores(condensed, w) for w in ([1, 1, 1], [0, 0, 1], [1, 0, 0])
    )
    better = validation.gain(last, first)
    assert better.miou == last.miou - first.miou
    assert better.interval == last.difference_interval(first)
    assert better.distinguishable
    assert "distinguishable from zero" in better.sentence()
    none = validation.gain(uniform, uniform)
    assert not none.distinguishable
    assert "not distinguishable" in none.sentence("itself")
    alone = validation.scores(condensed.subset(["v0"]), [1, 1, 1])
    unknown = validation.gain(alone, alone)
    assert not unknown.distinguishable
    assert "one video" in unknown.sentence()


def test_validated_results_have_interval_and_held_out_score():
    condensed = videos()
    found = greedy(condensed, steps=4)
    plain = validation.validated(condensed, found)
    assert plain.held_out is None
    assert plain.interval() == validation.scores(condensed, found.vector).interval()
    full = validation.validated(condensed, found, greedy, folds=3, steps=4)
    assert full.held_out == validation.hold_out(condensed, greedy, folds=3, steps=4).miou
    assert full.to_json()["held_out"] == full.held_out
