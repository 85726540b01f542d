"""The error of a held-out gain counts that every video has helped choose in the other folds."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fusion.search.folds import FOUND, GROUP, UNIFORM, hold_out
from fusion.search.grid import Grid
from fusion.search.method import Problem
from fusion.search.verdict import Verdict
from tests.search.simulated import videos


@pytest.mark.parametrize("folds", [2, 5])
def test_gains_are_widened_by_what_choices_share(folds):
    condensed = videos(8)
    units = {video: video for video in condensed.videos}
    held = hold_out(Problem(condensed), Grid(), folds)
    plain = held.scores.gain(held.contenders[UNIFORM], units=units)
    gain = Verdict(held, units).gain
    factor = math.sqrt(1 + (folds - 1) / folds)
    assert gain.value == plain.value
    assert gain.error == pytest.approx(factor * plain.error)
    for wide, narrow in zip(gain.interval, plain.interval, strict=True):
        assert wide - gain.value == pytest.approx(factor * (narrow - gain.value))
    assert held.gain(FOUND, FOUND, units).interval == (0, 0)


def test_predictions_have_the_spread_of_the_search():
    condensed = videos(8)
    held = hold_out(Problem(condensed), Grid(), 4)
    root, wanted = (lambda share: math.asin(math.sqrt(share))), held.scores
    low, high = (root(end) - root(held) for end in held.prediction_interval(4))
    plain = [root(end) - root(held) for end in wanted.interval()]
    factor = math.sqrt(1 + 3 / 4 + 8 / 4)
    assert (low, high) == pytest.approx([factor * end for end in plain])
    found = Problem(condensed).result("grid", Problem(condensed).trials([[1, 1, 1]]))
    assert replace(found, held_out=held).prediction_interval(4) == held.prediction_interval(4)


def test_what_is_recommended_beats_uniform_weights_by_the_same_interval():
    for seed in range(6):
        condensed = videos(8, seed=seed, best=1.5)
        verdict = Verdict(hold_out(Problem(condensed), Grid(), 4), {v: v for v in condensed.videos})
        gain = verdict.held.gain(verdict.recommended, UNIFORM, verdict.units)
        assert verdict.recommended == UNIFORM or gain.interval[0] > 0
    assert GROUP in verdict.held.contenders
