"""Class multipliers: line searches against every stretch, climbs that never lose, samples."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.contested import Condensed
from fusion.kernels import sweep
from fusion.metrics.objectives import objective
from fusion.search.exact.multipliers import (
    NARROWEST,
    Classes,
    Line,
    climb_weights,
    in_turn,
    multiplied,
    openings,
)
from fusion.search.method import Problem
from tests.contested.cases import condensed_of, probabilities, some_targets
from tests.search.simulated import problem

WANTED = ["vspw", "union", "dice", "case-dice-nnunet"]


def log_ratios(means: np.ndarray, multipliers: np.ndarray, moving: int) -> np.ndarray:
    """Every log b_c at which class `moving` ties with some class of a pixel of means [1, C, P]."""
    scores = means[0].astype(np.float64)
    others = np.delete(multipliers[:, None] * scores, moving, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.log(others / scores[moving])
    return np.unique(at[np.isfinite(at)])


def stretches(at: np.ndarray, low: float, high: float) -> np.ndarray:
    """Middles of the stretches between places that are wide enough to be kept."""
    cuts = np.concatenate([[low], at[(at > low) & (at < high)], [high]])
    return ((cuts[1:] + cuts[:-1]) / 2)[np.diff(cuts) >= NARROWEST]


@pytest.mark.parametrize("wanted", WANTED)
@given(
    classes=st.integers(2, 5),
    levels=st.sampled_from([0, 5]),
    videos=st.integers(1, 3),
    seed=st.integers(0, 2**31),
)
def test_the_best_of_a_line_is_the_best_of_all_its_stretches(wanted, classes, levels, videos, seed):
    rng = np.random.default_rng(seed)
    means = probabilities(1, classes, 40, seed, levels, agree=1.0)
    targets = some_targets(classes, 40, seed)
    targets[targets == classes - 1] = 255  # a class without pixels, which may be predicted
    pixels = condensed_of(means, targets, videos, reach=4.0)
    multipliers, end = np.exp(rng.uniform(-1, 1, classes)), math.log(4.0)
    for moving in range(classes):
        middles = stretches(log_ratios(means, multipliers, moving), -end, end)
        every = np.repeat(multipliers[None], len(middles), axis=0)
        every[:, moving] = np.exp(middles)
        expected = pixels.miou(np.ones((len(every), 1)), wanted, every)
        known = np.nan_to_num(expected, nan=0.0)
        line = Classes(pixels, objective(wanted), 4.0).line(multipliers, moving, -end, end)
        assert line.score == pytest.approx(known.max(), abs=1e-11)
        # its middle is one of the best stretches, and worth what was promised
        there = multipliers.copy()
        there[moving] = line.multiplier
        score = pixels.miou([[1.0]], wanted, there)[0]
        assert np.nan_to_num(score, nan=0.0) == pytest.approx(known.max(), abs=1e-11)


def by_hand(reach: float = 4.0) -> Condensed:
    """Of class 0 at 3/4, 3/5 and 4/7: class 1 wins beyond factors 3, 3/2 and 4/3."""
    first = np.array([0.75, 0.6, 4 / 7], np.float32)
    means = np.stack([first, 1 - first])[None]
    return condensed_of(np.ascontiguousarray(means), np.array([0, 1, 1], np.uint8), reach=reach)


@pytest.mark.parametrize("slow", [False, True])
def test_a_line_worked_out_by_hand(slow, monkeypatch):
    if slow:
        monkeypatch.setattr("fusion.kernels.native.build.library", lambda: None)
    classes, end = Classes(by_hand(), objective("vspw"), 4.0), math.log(4.0)
    line = classes.line([1.0, 1.0], 1, -end, end)
    # all three are right between 3/2 and 3, whose geometric middle is the root of 9/2
    assert line.score == 1.0
    assert line.multiplier == pytest.approx(math.sqrt(4.5), rel=1e-6)
    # the same from the other class: between 1/3 and 2/3
    line = classes.line([1.0, 1.0], 0, -end, end)
    assert (line.score, line.multiplier) == (1.0, pytest.approx(math.sqrt(2 / 9), rel=1e-6))
    # below log 4/3 nothing is of class 1: IoU 1/3 and 0
    line = classes.line([1.0, 1.0], 1, -end, math.log(1.3))
    assert line.score == pytest.approx(1 / 6, abs=1e-15)
    assert line.multiplier == pytest.approx(math.sqrt(1.3 / 4), rel=1e-6)
    # twice as much for class 0 moves everything
    line = classes.line([2.0, 1.0], 1, 0.0, end)
    assert line.multiplier == pytest.approx(math.sqrt(3.0 * 4.0), rel=1e-6)
    assert classes.line([1.0, 1.0], 1, 0.5, 0.5 + NARROWEST / 2).score == -1


def test_the_climb_worked_out_by_hand():
    score, multipliers = Classes(by_hand(), objective("vspw"), 4.0).climb([1.0, 1.0])
    assert score == 1.0
    assert 1.5 < multipliers[1] / multipliers[0] < 3
    # a reach of 1.1 gives at most a factor of 1.21: nothing is gained
    near = Classes(by_hand(1.1), objective("vspw"), 1.1)
    assert near.climb([1.0, 1.0])[0] == near.score([1.0, 1.0])
    assert near.climb([1.0, 1.0])[0] == pytest.approx(1 / 6)


@pytest.mark.parametrize("memory", [0, 4 * 10**9])
def test_with_little_room_halves_are_swept_in_turn(memory, monkeypatch):
    means, targets = probabilities(1, 5, 3000, agree=0.5), some_targets(5, 3000)
    pixels = replace(condensed_of(means, targets, 2, reach=4.0), memory=memory)
    classes, end = Classes(pixels, objective("dice"), 4.0), math.log(4.0)
    expected, calls, original = classes.line([1.0] * 5, 2, -end, end), [], sweep.class_flips

    def scarce(parts, weights, multipliers, moving, low, high, room, cases):
        calls.append((low, high))
        return original(parts, weights, multipliers, moving, low, high, 100, cases)

    monkeypatch.setattr(sweep, "class_flips", scarce)
    found = classes.line([1.0] * 5, 2, -end, end)
    assert len(calls) > 5
    assert found.score == pytest.approx(expected.score, abs=1e-11)
    assert found.multiplier == pytest.approx(expected.multiplier, rel=1e-9)


@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("reach", [1.5, 4.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_climb_never_loses_and_stays_within_reach(wanted, reach, seed):
    rng = np.random.default_rng(seed)
    means, targets = probabilities(1, 5, 600, seed, agree=1.0), some_targets(5, 600, seed)
    pixels = condensed_of(means, targets, 3, reach)
    classes = Classes(pixels, objective(wanted), reach)
    for start in (np.ones(5), reach ** rng.uniform(-1, 1, 5), reach ** rng.choice([-1, 1], 5)):
        score, found = classes.climb(start.tolist())
        assert score == pixels.miou([[1.0]], wanted, found)[0]
        assert score >= pixels.miou([[1.0]], wanted, start)[0]
        assert min(found) >= 1 / reach - 1e-12
        assert max(found) <= reach + 1e-12
        # the top: no line from there leads further up
        end = math.log(reach)
        for moving in range(5):
            line = classes.line(found, moving, -end, end)
            there = (*found[:moving], line.multiplier, *found[moving + 1 :])
            assert line.score <= score + 1e-11 or classes.score(there) <= score
        near = classes.climb(start.tolist(), 1e-3)
        moved = np.abs(np.log(near[1]) - np.log(start))
        assert near[0] >= pixels.miou([[1.0]], wanted, start)[0]
        assert moved.max() <= 20 * 1e-3 + 1e-12


def both(reach: float = 4.0, groups: int = 3, seed: int = 1) -> Problem:
    means, targets = problem(groups, 4, 900, seed)
    wide = condensed_of(means, targets, 3, reach)
    return Problem(condensed_of(means, targets, 3), wide=wide, reach=reach, seed=seed)


@pytest.mark.parametrize("wanted", WANTED)
@pytest.mark.parametrize("groups", [1, 3])
def test_what_is_found_has_the_score_of_its_own_weights_and_multipliers(wanted, groups):
    weighed = replace(both(groups=groups), convention=wanted)
    start = [1.0, 2.0, 0.5][:groups]
    trial = multiplied(weighed, start)
    assert weighed.wide is not None
    scores = weighed.wide.miou([trial.weights], wanted, trial.multipliers)
    assert trial.miou == scores[0]
    assert trial.miou >= weighed.condensed.miou([start], wanted)[0]
    assert max(trial.multipliers) <= 4.0 + 1e-12
    assert min(trial.multipliers) >= 0.25 - 1e-12
    assert multiplied(weighed, start) == trial
    # pixels of one kind, which serve multipliers themselves: the weights stand still
    alone = multiplied(Problem(weighed.wide, wanted, reach=4.0), start)
    assert alone.weights == tuple(start)
    assert alone.miou == weighed.wide.miou([start], wanted, alone.multipliers)[0]


def test_weights_move_under_multipliers_and_are_better_than_still_ones():
    weighed = both()
    assert weighed.wide is not None
    start = weighed.trials([[1.0, 1.0, 1.0]])[0]
    moved = in_turn(
        replace(weighed, condensed=weighed.wide),
        start.weights,
        (1.0,) * len(weighed.condensed.classes),
        4.0,
    )
    still = multiplied(Problem(weighed.wide, reach=4.0), start.weights)
    assert moved.weights != start.weights
    assert moved.miou > still.miou >= start.miou
    assert multiplied(weighed, start.weights).weights == moved.weights
    assert moved.miou == weighed.wide.miou([moved.weights], "vspw", moved.multipliers)[0]


def test_climbs_open_from_ones_and_from_targets_over_predictions():
    """Class 0 has 90 pixels, class 1 ten, class 2 none; all are predicted 0, but one that is 1."""
    means = np.full((1, 3, 100), 0.1, np.float32)
    means[0, 0, :99], means[0, 1, 99] = 0.8, 0.8
    targets = np.array([0] * 90 + [1] * 10, np.uint8)
    weighed = Problem(condensed_of(means, targets, 1, reach=4.0))
    ones, opened = openings(weighed, [1.0], 4.0)
    assert ones == (1.0, 1.0, 1.0)
    assert opened == pytest.approx((math.sqrt(90 / 99), math.sqrt(10), 1.0))
    assert openings(weighed, [1.0], 2.0)[1] == pytest.approx((math.sqrt(90 / 99), 2.0, 1.0))


@pytest.mark.parametrize(
    ("weights", "best"), [((1.0, 0.0, 0.0), 0), ((0.9, 0.1, 0.0), 1), ((0.0, 0.0, 1.0), 2)]
)
def test_the_best_of_all_starts_is_kept(weights, best, monkeypatch):
    weighed, started = both(), []

    def noted(problem, weights, multipliers, reach):
        started.append((tuple(weights), multipliers))
        return in_turn(problem, weights, multipliers, reach)

    monkeypatch.setattr("fusion.search.exact.multipliers.in_turn", noted)
    found, uniform = multiplied(weighed, weights), (1.0, 1.0, 1.0)
    sample = replace(weighed, condensed=weighed.wide)
    expected = [(w, b) for w in (weights, uniform) for b in openings(sample, w, 4.0)]
    assert started == expected
    assert len(set(started)) == 4
    reached = [in_turn(sample, *start, 4.0).miou for start in expected]
    assert reached.index(max(reached)) == best
    assert found.miou >= max(reached)


def test_large_sets_are_climbed_on_a_sample_and_end_on_all_pixels(monkeypatch):
    weighed, seen = both(), []
    whole = multiplied(weighed, [1.0, 1.0, 1.0])
    original = Classes.line

    def counted(classes, *rest):
        seen.append(classes.pixels.contested)
        return original(classes, *rest)

    monkeypatch.setattr(Classes, "line", counted)
    trial = multiplied(replace(weighed, sample=200), [1.0, 1.0, 1.0])
    assert weighed.wide is not None
    assert trial.miou == weighed.wide.miou([trial.weights], "vspw", trial.multipliers)[0]
    assert min(seen) < 400 < max(seen) == weighed.wide.contested
    assert seen == sorted(seen)  # the sample first
    assert trial.miou > weighed.trials([[1.0, 1.0, 1.0]])[0].miou
    assert whole.miou > weighed.trials([[1.0, 1.0, 1.0]])[0].miou


def test_weights_climb_under_the_multipliers_of_their_start():
    weighed = both()
    assert weighed.wide is not None
    wide = replace(weighed, condensed=weighed.wide)
    start = wide.trials([[4.0, 1.0, 0.0]], [[0.5, 1.0, 2.0, 1.5]])[0]
    found = climb_weights(wide, start)
    assert found.multipliers == start.multipliers
    assert found.miou == weighed.wide.miou([found.weights], "vspw", found.multipliers)[0]
    some = np.random.default_rng(0).dirichlet(np.ones(3), 40)
    others = weighed.wide.miou(some, "vspw", [start.multipliers] * 40)
    assert found.miou >= others.max() > start.miou


def test_a_promise_that_float32_does_not_keep_is_not_believed(monkeypatch):
    classes = Classes(by_hand(), objective("vspw"), 4.0)
    start = (1.0, 2.0)
    assert classes.score(start) == 1.0
    monkeypatch.setattr(Classes, "line", lambda *_: Line(2.0, 4.0))
    assert classes.climb(start) == (1.0, start)
