"""What an epoch has: by hand, and beside LVIS' equation."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from fusion.models.data.order import Epochs, repeat_factors


def epochs(sizes, repeats=None, take=1):
    ones = np.ones(len(sizes))
    return Epochs(np.array(sizes), ones if repeats is None else np.array(repeats), take)


def test_plain_epochs_are_permutations_as_they_always_were():
    """The order of earlier releases, which their runs go on with."""
    for seed, epoch in ((0, 0), (3, 7)):
        expected = np.random.default_rng([seed, 0, epoch]).permutation(50)
        np.testing.assert_array_equal(epochs([1] * 50).frames(seed, epoch), expected)


def test_groups_come_as_often_as_they_should():
    """2.5 times is two or three times an epoch, 2.5 on average; epochs have one length."""
    made = epochs([1, 1, 1], [1.0, 2.5, 1.5])
    assert len(made) == 5
    total = Counter()
    for epoch in range(400):
        frames = made.frames(1, epoch)
        assert len(frames) == 5
        counts = Counter(frames.tolist())
        assert counts[0] == 1
        assert counts[1] in (2, 3)
        assert counts[2] in (1, 2)
        total.update(counts)
    assert total[1] / 400 == pytest.approx(2.5, abs=0.1)
    assert total[2] / 400 == pytest.approx(1.5, abs=0.1)


def test_frames_of_a_video_are_spread_over_it():
    """Three of nine frames: one of each third. A video of two frames has some twice."""
    made = epochs([9, 2], take=3)
    assert len(made) == 6
    seen = set()
    for epoch in range(60):
        frames = sorted(made.frames(0, epoch).tolist())
        first = [frame for frame in frames if frame < 9]
        assert [frame // 3 for frame in first] == [0, 1, 2]
        assert set(frames[3:]) == {9, 10}
        seen.update(first)
    assert seen == set(range(9))


def test_repeat_factors_by_hand():
    """Class 0 is everywhere, 1 in a quarter, 2 in one of 16 groups, 3 nowhere; t = 1/4."""
    present = np.zeros((16, 4), bool)
    present[:, 0] = True
    present[:4, 1] = present[3, 2] = True
    expected = np.ones(16)
    expected[3] = np.sqrt((1 / 4) / (1 / 16))
    np.testing.assert_allclose(repeat_factors(present, 1 / 4), expected)
    np.testing.assert_allclose(repeat_factors(present, 0.0), np.ones(16))
    expected[:4] = [np.sqrt(4 * 0.5)] * 3 + [np.sqrt(16 * 0.5)]
    np.testing.assert_allclose(repeat_factors(present, 1 / 2), expected)
