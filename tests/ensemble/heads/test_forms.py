"""Every form of head by its contract."""

from __future__ import annotations

import numpy as np

from fusion.ensemble.heads import HEADS
from fusion.ensemble.heads.log import Log
from fusion.ensemble.heads.lowrank import LowRank
from fusion.ensemble.heads.mix import Mix
from tests.ensemble.heads.contract import CLASSES, UNITS, HeadContract


class TestLog(HeadContract):
    kind = Log


class TestLowRank(HeadContract):
    kind = LowRank

    def test_it_can_leave_its_start(self):
        """Were both factors zero, no gradient would ever move them."""
        start = LowRank.start(3, 20, None)
        assert start["right"].shape == (20, 16)
        np.testing.assert_allclose(start["right"].T @ start["right"], np.eye(16), atol=1e-6)
        assert not start["left"].any()
        again = LowRank.start(3, 20, None)
        assert all(np.array_equal(array, again[name]) for name, array in start.items())


class TestMix(HeadContract):
    kind = Mix


def test_forms_are_listed_the_smallest_first():
    assert list(HEADS) == ["log", "lowrank", "mix"]
    sizes = [kind.start(len(UNITS), len(CLASSES), None) for kind in HEADS.values()]
    small = [sum(array.size for array in each.values()) for each in sizes]
    assert small[0] < min(small[1:])
