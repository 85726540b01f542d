"""Intervals over videos, against a bootstrap as a loop."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.metrics import CONVENTIONS, Scores
from tests.metrics.oracles import names, random_matrices, slow_miou


def slow_bootstrap(found, convention, samples, seed, level):
    keys = sorted(found)
    draws = np.random.default_rng(seed).integers(0, len(keys), size=(samples, len(keys)))
    values = [slow_miou(sum(found[keys[i]] for i in draw), convention) for draw in draws.tolist()]
    return values, np.percentile(values, [50 * (1 - level), 50 * (1 + level)])


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_interval_equals_a_loop(convention):
    found, other = random_matrices(5, 8, 4, absent=(2,)), random_matrices(6, 8, 4, absent=(2,))
    for video, matrix in other.items():  # the same targets in both
        mine = found[video]
        matrix[:] = np.diag(mine.sum(axis=1)) if video == "video_0" else np.roll(mine, 1, axis=1)
    scores, rival = Scores(found, names(4), convention), Scores(other, names(4), convention)
    mine, expected = slow_bootstrap(found, convention, 200, 7, 0.9)
    np.testing.assert_allclose(scores.interval(0.9, 200, 7), expected, rtol=1e-12)
    theirs, _ = slow_bootstrap(other, convention, 200, 7, 0.9)
    paired = np.percentile(np.subtract(mine, theirs), [5, 95])
    np.testing.assert_allclose(scores.difference_interval(rival, 0.9, 200, 7), paired, rtol=1e-9)
    low, high = scores.interval()
    assert low <= scores.miou <= high


def test_interval_of_one_video_is_unknown():
    scores = Scores(random_matrices(0, 1, 3), names(3))
    assert np.isnan(scores.interval()).all()
    assert np.isnan(scores.difference_interval(scores)).all()


def test_a_void_video_does_not_widen_the_interval():
    found = random_matrices(0, 5, 3)
    padded = {**found, "a void one": np.zeros((3, 3), dtype=np.int64)}
    one, other = (Scores(given, names(3)).interval(samples=50) for given in (found, padded))
    assert one == other


def test_intervals_refuse():
    found = random_matrices(0, 3, 3)
    scores = Scores(found, names(3))
    with pytest.raises(InputError, match="level is 95"):
        scores.interval(95)
    with pytest.raises(InputError, match="samples is 0"):
        scores.interval(samples=0)
    with pytest.raises(InputError, match="'video_2' is in one of the two only"):
        scores.difference_interval(Scores({k: found[k] for k in list(found)[:2]}, names(3)))
    with pytest.raises(InputError, match="'video_0' was scored against other targets"):
        scores.difference_interval(Scores({k: m + 1 for k, m in found.items()}, names(3)))
