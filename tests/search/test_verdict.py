"""Gains and the one-standard-error rule against the same worked out step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fusion.metrics import miou
from fusion.search.method import Problem
from fusion.search.verdict import gain, one_standard_error, standard_error, verdict_lines
from tests.search.simulated import videos


def test_scores_are_those_of_the_condensed_set():
    condensed = videos()
    found = Problem(condensed, "union").scores([1, 2, 3])
    assert found.miou == condensed.miou([[1, 2, 3]], "union")[0]
    assert list(found.confusions) == list(condensed.videos)


def test_one_standard_error_prefers_uniform_weights_within_it():
    # groups of about equal quality: uniform weights are hard to beat
    weighed = Problem(videos(best=0.6))
    (best,) = weighed.trials([[1.0, 1.0, 1.2]])
    error, uniform = standard_error(weighed, best.weights), weighed.uniform.miou
    assert uniform >= best.miou - error
    within = f"within one standard error ({100 * error:.2f}) of the best ({100 * best.miou:.2f})"
    found = one_standard_error(weighed, best)
    assert found == f"uniform weights ({100 * uniform:.2f}) are {within}"


def test_one_standard_error_keeps_the_best_where_it_is_clear_or_unknown():
    weighed = Problem(videos(30, best=6.0))  # many: a small error
    (best,) = weighed.trials([[0.0, 0.0, 1.0]])
    assert weighed.uniform.miou < best.miou - standard_error(weighed, best.weights)
    assert one_standard_error(weighed, best).startswith("nothing simpler is within one")
    one = Problem(videos(1))
    assert one_standard_error(one, best).endswith("no standard error, the best weights stay")
    assert math.isnan(standard_error(one, best.weights))


def test_standard_error_is_that_of_leaving_out_each_video():
    condensed = videos()
    matrices = condensed.confusion([1, 1, 1])
    without = [miou(np.delete(matrices, v, axis=0).sum(axis=0)) for v in range(6)]
    error = standard_error(Problem(condensed), (1.0, 1.0, 1.0))
    assert error == pytest.approx(np.std(without) * np.sqrt(5), rel=1e-12)


def test_verdicts_are_about_the_objective():
    weighed = Problem(videos(30, best=6.0), "case-dice-nnunet")
    (best,) = weighed.trials([[0, 0, 1]])
    mine, uniform = weighed.scores(best.weights), weighed.uniform
    assert best.miou == pytest.approx(mine.score, abs=1e-15)
    assert one_standard_error(weighed, best).startswith("nothing simpler is within one")
    said = gain(mine, uniform)
    assert f"{100 * (mine.score - uniform.score):+.2f} case-dice-nnunet, interval" in said


def test_gains_in_words():
    condensed = videos(best=6.0)
    uniform, last, first = (Problem(condensed).scores(w) for w in ([1, 1, 1], [0, 0, 1], [1, 0, 0]))
    low, high = (f"{100 * end:+.2f}" for end in last.difference_interval(first))
    said = f"gain over the first: {100 * (last.miou - first.miou):+.2f} mIoU, interval {low} to"
    assert gain(last, first, "the first") == f"{said} {high}: distinguishable from zero"
    assert gain(first, last).endswith(": distinguishable from zero")
    assert "to +0.00: not distinguishable" in gain(uniform, uniform)
    alone = Problem(condensed).subset(["v0"]).scores([1, 1, 1])
    assert "one video nothing says" in gain(alone, alone)


def test_the_verdict_in_sentences():
    weighed = Problem(videos(best=6.0), seed=2)
    found = weighed.result("grid", weighed.trials([[0, 0, 1]]), held_out=0.5)
    scores, uniform = (weighed.scores(w) for w in ([0, 0, 1], [1, 1, 1]))
    low, high = scores.interval()
    assert verdict_lines(weighed, found) == [
        f"95 % interval over 6 videos: {100 * low:.2f} to {100 * high:.2f}",
        "held-out mIoU, searched on the other folds' videos: 50.00",
        f"one-standard-error rule: {one_standard_error(weighed, found.history[0])}",
        gain(scores, uniform),
    ]
    one = weighed.subset(["v1"])
    lines = verdict_lines(one, one.result("grid", one.trials([[0, 0, 1]])))
    assert lines[0].startswith("one video: no interval and no held-out score")
    assert len(lines) == 3
