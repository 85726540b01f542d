"""Gains and the one-standard-error rule against the same worked out step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fusion.metrics import miou
from fusion.search.method import Problem
from fusion.search.result import Trial
from fusion.search.verdict import gain, one_standard_error, verdict_lines
from tests.search.simulated import videos


def test_scores_are_those_of_the_condensed_set():
    condensed = videos()
    found = Problem(condensed, "union").scores([1, 2, 3])
    assert found.miou == condensed.miou([[1, 2, 3]], "union")[0]
    assert list(found.confusions) == list(condensed.videos)


def test_one_standard_error_prefers_the_simplest_within_it():
    condensed = videos(best=0.6)  # groups of about equal quality: uniform weights are hard to beat
    best = Trial((1.0, 1.0, 1.2), float(condensed.miou([[1.0, 1.0, 1.2]])[0]))
    chosen = one_standard_error(Problem(condensed), best)
    assert chosen.trial.weights == (1.0, 1.0, 1.0)
    assert chosen.trial.miou == condensed.miou([[1, 1, 1]])[0] >= best.miou - chosen.standard_error
    assert "uniform weights" in chosen.rule
    order = {
        "first alone": [1.0, 0.0, 0.0],
        "last alone": [0.0, 0.0, 1.0],
        "uniform": [1.0, 1.0, 1.0],
    }
    wide = one_standard_error(Problem(condensed), best, simpler=order)
    qualified = [
        name
        for name, w in order.items()
        if condensed.miou([w])[0] >= best.miou - wide.standard_error
    ]
    assert wide.trial.weights == tuple(order[qualified[0]])


def test_one_standard_error_keeps_the_best_where_it_is_clear_or_unknown():
    condensed = videos(best=6.0)
    best = Trial((0.0, 0.0, 1.0), float(condensed.miou([[0, 0, 1]])[0]))
    chosen = one_standard_error(Problem(condensed), best, simpler={"first alone": [1.0, 0.0, 0.0]})
    assert chosen.trial == best
    assert "nothing simpler" in chosen.rule
    one = one_standard_error(Problem(videos(1)), best)
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
    error = one_standard_error(Problem(condensed), Trial((1.0, 1.0, 1.0), 0.5)).standard_error
    assert error == pytest.approx(np.std(drawn), rel=0.1)


def test_gains_in_words():
    condensed = videos(best=6.0)
    uniform, last, first = (Problem(condensed).scores(w) for w in ([1, 1, 1], [0, 0, 1], [1, 0, 0]))
    better = gain(last, first)
    assert better.miou == last.miou - first.miou
    assert better.interval == last.difference_interval(first)
    assert better.distinguishable
    assert "distinguishable from zero" in better.sentence()
    none = gain(uniform, uniform)
    assert not none.distinguishable
    assert "not distinguishable" in none.sentence("itself")
    alone = Problem(condensed).subset(["v0"]).scores([1, 1, 1])
    unknown = gain(alone, alone)
    assert not unknown.distinguishable
    assert "one video" in unknown.sentence()


def test_the_verdict_in_sentences():
    weighed = Problem(videos(best=6.0), seed=2)
    found = weighed.result("grid", weighed.trials([[0, 0, 1]]), held_out=0.5)
    scores, uniform = (weighed.scores(w) for w in ([0, 0, 1], [1, 1, 1]))
    low, high = scores.interval(seed=2)
    assert verdict_lines(weighed, found) == [
        f"95 % interval over 6 videos: {100 * low:.2f} to {100 * high:.2f}",
        "held-out mIoU, searched on the other folds' videos: 50.00",
        f"one-standard-error rule: {one_standard_error(weighed, found.history[0]).rule}",
        gain(scores, uniform, seed=2).sentence(),
    ]
    one = weighed.subset(["v1"])
    lines = verdict_lines(one, one.result("grid", one.trials([[0, 0, 1]])))
    assert lines[0].startswith("one video: no interval and no held-out score")
    assert len(lines) == 3
