"""Intervals over videos, against the formula as a loop, SciPy's t, and what they promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from fusion.errors import InputError
from fusion.metrics import CONVENTIONS, Gain, Scores, bias_corrected
from fusion.metrics.intervals import (
    difference_interval,
    indistinguishable,
    interval,
    prediction_interval,
    standard_error,
    student,
)
from fusion.metrics.objectives import OBJECTIVES, counts, objective
from tests.metrics.oracles import names, random_matrices, slow_miou


def slow_interval(values, without, level, spread=1.0):
    """value -+ t se, se from what is left without each unit."""
    error = slow_error(without) * spread
    t = stats.t.ppf((1 + level) / 2, len(without) - 1)
    return values - t * error, values + t * error


def slow_error(without):
    center = sum(without) / len(without)
    return math.sqrt((len(without) - 1) / len(without) * sum((x - center) ** 2 for x in without))


def left_out(found, convention, units):
    """The score without each unit, one after the other."""
    kept = [
        [m for v, m in found.items() if units[v] != unit] for unit in sorted(set(units.values()))
    ]
    return [slow_miou(sum(matrices), convention) for matrices in kept]


def pair(seed, videos, classes):
    """Two sets of matrices of the same targets."""
    found, other = (random_matrices(seed + s, videos, classes, absent=(2,)) for s in (0, 99))
    for video, matrix in other.items():
        mine = found[video]
        matrix[:] = np.diag(mine.sum(axis=1)) if video == "video_0" else np.roll(mine, 1, axis=1)
    return found, other


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("of_unit", [1, 3])
def test_intervals_are_their_formula(convention, of_unit):
    found, other = pair(5, 8, 4)
    units = {video: f"drive {k // of_unit}" for k, video in enumerate(found)}
    scores, rival = Scores(found, names(4), convention), Scores(other, names(4), convention)
    mine, theirs = (left_out(each, convention, units) for each in (found, other))
    angles = [math.asin(math.sqrt(x)) for x in mine]
    point = math.asin(math.sqrt(scores.miou))
    for given, spread in ((None, 1.0), (8, math.sqrt(2)), (2, math.sqrt(5))):
        ends = slow_interval(point, angles, 0.9, spread)
        expected = [math.sin(min(max(end, 0.0), math.pi / 2)) ** 2 for end in ends]
        ask = scores.prediction_interval if given else scores.interval
        more = {"videos": given} if given else {}
        np.testing.assert_allclose(ask(level=0.9, units=units, **more), expected, rtol=1e-12)
    whole = scores.prediction_interval(level=0.9, units=units)
    assert whole == scores.prediction_interval(8, 0.9, units=units)
    paired = slow_interval(scores.miou - rival.miou, np.subtract(mine, theirs).tolist(), 0.9)
    found = scores.difference_interval(rival, 0.9, units=units)
    np.testing.assert_allclose(found, paired, rtol=1e-9)
    stacked = (np.stack([each.confusions[v] for v in units]) for each in (scores, rival))
    assert found == difference_interval(*stacked, convention, 0.9, units=np.arange(8) // of_unit)
    if of_unit == 1:
        assert scores.interval(0.9) == scores.interval(0.9, units=units)
    matrices = np.stack(list(scores.confusions.values()))
    index = [k // of_unit for k in range(8)]
    error = standard_error(matrices, convention, units=index)
    assert error == pytest.approx(slow_error(mine), rel=1e-12)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 8, 17, 40, 341])
@pytest.mark.parametrize("share", [0.5, 0.6, 0.95, 0.975, 0.9995])
def test_students_quantile_is_scipys(freedom, share):
    assert student(share, freedom) == pytest.approx(stats.t.ppf(share, freedom), rel=1e-9, abs=1e-9)


def test_a_gain_worked_out_by_hand():
    """Dataset scores without each video: 1/2, 3/4 of one class; se = |3/4 - 1/2| / 2, t(1) 12.7."""
    mine = np.array([[[3, 1], [0, 0]], [[2, 2], [0, 0]]])
    other = np.array([[[2, 2], [0, 0]], [[2, 2], [0, 0]]])
    gain = Gain.between(mine, other, "vspw", over="the other")
    assert (gain.value, gain.units) == (5 / 8 - 4 / 8, 2)
    half = 12.706204736 * 0.125
    assert gain.interval == pytest.approx((0.125 - half, 0.125 + half), rel=1e-9)
    assert not gain.distinguishable
    said = "gain over the other: +12.50 mIoU, interval -146.33 to +171.33: not distinguishable"
    assert str(gain) == f"{said} from zero"
    same = Gain.between(mine, other, objective("dice", [0]), "it")
    assert str(same).startswith("gain over it: +")
    assert " dice(0), interval" in str(same)
    alone = Gain.between(mine[:1], other[:1])
    assert "with one video nothing says whether it is more" in str(alone)
    assert not alone.distinguishable
    known = [Gain(0.0, ends, "it", 9).distinguishable for ends in ((-0.2, 0.1), (-0.2, -0.1))]
    assert known == [False, True]
    certain = Gain.between(np.tile(mine[:1], (3, 1, 1)), np.tile(other[:1], (3, 1, 1)))
    assert certain.distinguishable
    assert certain.interval == pytest.approx((0.25, 0.25))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_intervals_hold_their_score_and_stay_in_0_to_1(name):
    """Whatever lives in few videos: rare classes, empty videos, all right, all wrong."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        videos, classes = int(rng.integers(2, 7)), int(rng.integers(1, 5))
        found = rng.integers(0, 99, (videos, classes, classes))
        found *= rng.random((videos, classes, 1)) < rng.choice([0.2, 0.9])
        kept = rng.choice(3)
        found = found * (np.eye(classes, dtype=int) if kept == 0 else 1)
        found = found * (1 - np.eye(classes, dtype=int)) if kept == 1 else found
        for level in (0.5, 0.95, 0.999):
            score = objective(name).of(found)
            for low, high in (interval(found, name, level), prediction_interval(found, name, 3)):
                assert math.isnan(low) == math.isnan(high)
                assert math.isnan(low) or 0 <= low <= score <= high <= 1
            low, high = difference_interval(found, found[::-1], name, level)
            assert math.isnan(low) or low <= score - objective(name).of(found[::-1]) <= high


def test_more_new_videos_are_foreseen_better():
    found = np.stack(list(random_matrices(0, 6, 3).values()))
    width = [high - low for low, high in (prediction_interval(found, videos=n) for n in (1, 6, 99))]
    low, high = interval(found)
    assert width[0] > width[1] > width[2] > high - low > 0
    low, far = (prediction_interval(found, videos=10**9)[0], interval(found)[0])
    assert low == pytest.approx(far, abs=1e-6)


def test_clips_of_one_drive_are_worth_one():
    """Three copies of each video say no more than one does, once they are one unit."""
    found = np.stack(list(random_matrices(3, 5, 3).values()))
    copies, units = np.repeat(found, 3, axis=0), np.repeat(np.arange(5), 3).tolist()
    together = interval(copies, units=units)
    assert together == pytest.approx(interval(found), abs=1e-14)
    narrow = interval(copies)
    assert narrow[1] - narrow[0] < 0.6 * (together[1] - together[0])


def test_interval_of_one_unit_is_unknown():
    scores = Scores(random_matrices(0, 1, 3), names(3))
    assert np.isnan(scores.interval()).all()
    assert np.isnan(scores.prediction_interval()).all()
    assert np.isnan(scores.difference_interval(scores)).all()
    scores = Scores(random_matrices(0, 4, 3), names(3))
    one = dict.fromkeys(scores.confusions, "the same drive")
    assert np.isnan(scores.interval(units=one)).all()
    assert math.isnan(standard_error(np.ones((1, 2, 2), int)))


def test_a_class_of_one_video_alone_says_nothing():
    found = np.stack(list(random_matrices(0, 5, 3).values()))
    found[1:, 2] = 0
    assert np.isnan(interval(found, objective("vspw", [2]))).all()
    assert not np.isnan(interval(found, objective("vspw"))).any()


def test_a_void_video_does_not_widen_the_interval():
    found = random_matrices(0, 5, 3)
    padded = {**found, "a void one": np.zeros((3, 3), dtype=np.int64)}
    one, other = (Scores(given, names(3)) for given in (found, padded))
    assert one.interval() == other.interval()
    assert one.prediction_interval() == other.prediction_interval()
    assert one.prediction_interval(2) == other.prediction_interval(2)
    assert one.gain(one).units == other.gain(other).units == 5


def test_intervals_refuse():
    found = random_matrices(0, 3, 3)
    scores = Scores(found, names(3))
    with pytest.raises(InputError, match="level is 95"):
        scores.interval(95)
    with pytest.raises(InputError, match="videos is 0"):
        scores.prediction_interval(0)
    with pytest.raises(InputError, match="units: video 'video_1' has no unit"):
        scores.interval(units={"video_0": "a", "video_2": "b"})
    with pytest.raises(InputError, match="units: got 2 for 3 videos"):
        interval(np.stack(list(found.values())), units=[0, 1])
    with pytest.raises(InputError, match="'video_2' is in one of the two only"):
        scores.difference_interval(Scores({k: found[k] for k in list(found)[:2]}, names(3)))
    with pytest.raises(InputError, match="'video_0' was scored against other targets"):
        scores.difference_interval(Scores({k: m + 1 for k, m in found.items()}, names(3)))


def slow_bias_corrected(matrices, name, samples, seed, units):
    """Draws of units as loops: the best of those drawn, scored on those not drawn."""
    distinct = sorted(set(units))
    draws = np.random.default_rng(seed).integers(0, len(distinct), (samples, len(distinct)))
    found = []
    for draw in draws.tolist():
        drawn = [v for u in draw for v in range(len(units)) if units[v] == distinct[u]]
        rest = [v for v in range(len(units)) if distinct.index(units[v]) not in draw]
        if rest:
            scores = [objective(name).of(config[drawn]) for config in matrices]
            found.append(objective(name).of(matrices[int(np.argmax(scores))][rest]))
    return np.mean(found), np.quantile(found, [0.05, 0.95])


@pytest.mark.parametrize("name", ["vspw", "case-dice-nnunet", "case-dice-monai"])
@pytest.mark.parametrize("units", [[0, 1, 2, 3, 4, 5], [7, 7, 1, 1, 3, 3]])
def test_bias_correction_equals_loops(name, units):
    rng = np.random.default_rng(2)
    right = rng.integers(0, 50, (9, 6, 3))
    matrices = right[..., None] * np.eye(3, dtype=int)
    for a, b in itertools.permutations(range(3), 2):
        matrices[..., a, b] = (50 - right[..., a]) // 2
    matrices[..., 0] += 50 - matrices.sum(axis=-1)
    inter, rows, columns = counts(matrices)
    stacked = np.stack([inter, columns], axis=2).transpose(1, 0, 2, 3)
    given = stacked, rows[0], name, 60, 3
    estimate, ends = bias_corrected(*given, units=units, level=0.9)
    expected, quantiles = slow_bias_corrected(matrices, name, 60, 3, units)
    assert estimate == pytest.approx(expected, rel=1e-12)
    assert ends == pytest.approx(quantiles, rel=1e-12)


@pytest.mark.parametrize("name", ["vspw", "fwiou", "case-dice-nnunet", "case-dice-monai"])
@pytest.mark.parametrize("units", [None, [7, 7, 1, 1, 3, 3], [0, 0, 0, 0, 0, 0]])
def test_what_chance_cannot_tell_apart_is_what_gains_say(name, units):
    rng = np.random.default_rng(4)
    right = rng.integers(0, 30, (6, 3)) + rng.integers(0, 20, (12, 1, 1))
    right = np.minimum(right + rng.integers(0, 4, (12, 6, 3)), 50)
    matrices = right[..., None] * np.eye(3, dtype=int)
    for a in range(3):
        matrices[..., a, (a + 1) % 3] = 50 - right[..., a]
    matrices[:, 2] = 0  # a video without a scored pixel
    inter, rows, columns = counts(matrices)
    stacked = np.stack([inter, columns], axis=2).transpose(1, 0, 2, 3)
    found = indistinguishable(stacked, stacked[:, 5], rows[0], name, units=units)
    gains = [Gain.between(each, matrices[5], name, units=units) for each in matrices]
    assert found.tolist() == [not gain.distinguishable for gain in gains]
    assert found[5]
    assert found.all() == (units == [0] * 6)


def test_bias_correction_takes_back_what_choosing_of_equals_won():
    """Sixty configurations of one quality: the best looks better, and is not."""
    rng = np.random.default_rng(0)
    right = rng.binomial(100, rng.beta(6, 4, (10, 60)))
    counted = np.stack([right, np.full_like(right, 100)], axis=2)[..., None]
    rows = np.full((10, 1), 100)
    counted[:, :, 1] = right[..., None]  # wrong pixels are void, predicted nothing
    pooled = right.sum(axis=0) / 1000
    estimate, (low, high) = bias_corrected(counted, rows, samples=400)
    assert pooled.max() > 0.64
    assert abs(estimate - 0.6) < 0.02
    assert low < estimate < high


def test_bias_correction_of_one_video_is_unknown_and_no_sample_refused():
    counted, rows = np.ones((1, 3, 2, 2), int), np.ones((1, 2), int)
    estimate, ends = bias_corrected(counted, rows)
    assert np.isnan([estimate, *ends]).all()
    with pytest.raises(InputError, match="samples is 0"):
        bias_corrected(counted, rows, samples=0)
