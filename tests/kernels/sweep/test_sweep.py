"""Flips, intervals and bounds: compiled against naive loops, answers by hand, refusals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.contested import Condensed
from fusion.kernels import sweep
from fusion.kernels.contested.layout import Parts
from fusion.kernels.native import build
from fusion.kernels.sweep import ALWAYS, NEVER, WHEN_PREDICTED, cpu, naive
from tests.contested.cases import condensed_of, probabilities, some_targets
from tests.kernels.contested.contract import broken


def whole_of(condensed: Condensed) -> sweep.Undecided:
    (parts,) = condensed.batches()
    right, predicted = condensed.base
    nothing = np.zeros_like(right)
    return sweep.Undecided(sweep.every_pixel(parts.runs), right, predicted - right, nothing)


@given(
    groups=st.integers(2, 4),
    classes=st.integers(2, 6),
    levels=st.sampled_from([0, 4]),
    seed=st.integers(0, 2**31),
)
def test_compiled_and_naive_are_the_same(groups, classes, levels, seed):
    rng = np.random.default_rng(seed)
    means = probabilities(groups, classes, 60, seed, levels, agree=1.0)
    condensed = condensed_of(means, some_targets(classes, 60, seed), 2)
    (parts,) = condensed.batches()
    ends = tuple(rng.dirichlet(np.ones(groups), 2))
    fast, slow = (way.flips(parts, ends, classes, 0.1, 0.9, 1 << 20) for way in (cpu, naive))
    assert fast.complete
    assert np.array_equal(fast.flips, slow.flips)
    assert np.array_equal(fast.statistics, slow.statistics)
    ordered = slow.flips[np.argsort(slow.flips["at"], kind="stable")]
    statistics = slow.statistics + condensed.base
    for counted in rng.integers(0, 3, (3, classes)).astype(np.uint8):
        given = (condensed.rows, statistics.copy(), counted, (0.1, 0.9), 1e-6)
        found, twin = (
            cpu.scan(ordered, *given),
            naive.scan(ordered, *given[:1], statistics, *given[2:]),
        )
        assert found == pytest.approx(twin, abs=1e-11)  # the compiled loop updates a running sum
    corners, whole = rng.dirichlet(np.ones(groups), groups), whole_of(condensed)
    bounds = [way.bound(parts, whole, corners, classes) for way in (cpu, naive)]
    for name in ("ids", "right", "wrong", "gain"):
        assert np.array_equal(*(getattr(bound, name) for bound in bounds)), name


def two_pixels() -> tuple[Condensed, Parts]:
    """Class 2 has no targets; below half of the second group one pixel is wrongly labelled 2."""
    means = np.zeros((2, 3, 2), np.float32)
    means[:, :, 0] = [[0.25, 0.0, 0.75], [0.75, 0.0, 0.25]]
    means[:, 1, 1] = 1.0
    condensed = condensed_of(means, np.array([0, 1], np.uint8), 1)
    (parts,) = condensed.batches()
    return condensed, parts


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("ends", [([1, 0], [0, 1]), ([0, 1], [1, 0])])
@pytest.mark.parametrize(
    ("third", "worse"), [(NEVER, 1 / 2), (WHEN_PREDICTED, 1 / 3), (ALWAYS, 1 / 3)]
)
def test_a_class_joins_and_leaves_the_mean(ends, third, worse, slow, monkeypatch):
    if slow:
        monkeypatch.setattr(build, "library", lambda: None)
    condensed, parts = two_pixels()
    ends = tuple(np.array(ends, np.float64))
    counted = np.array([ALWAYS, ALWAYS, third], np.uint8)

    def best(low: float, high: float) -> float:
        flips = sweep.flips(parts, ends, 3, low, high, 9)
        return sweep.scan(flips, condensed.rows, condensed.base, counted, low, high, 0.0)[0]

    right, wrong = ((0.5, 1.0), (0.0, 0.5)) if ends[0][1] == 0 else ((0.0, 0.5), (0.5, 1.0))
    members = 3 if third == ALWAYS else 2
    assert best(0.0, 1.0) == best(*right) == pytest.approx(2 / members)
    assert best(*wrong) == pytest.approx(worse)


def test_pixels_that_tie_in_float32_stay_open():
    """Class 1 leads by so little that float32 rounds it away and class 0 wins the tie."""
    small_step = np.float32(2.0**-25)
    means = np.array([[[0.5], [0.5 - small_step]], [[0.5 - small_step], [0.5]]], np.float32)
    condensed = condensed_of(means, np.array([1], np.uint8), 1)
    (parts,) = condensed.batches()
    corners = np.array([[0.46, 0.54], [0.25, 0.75]])
    assert condensed.confusions([[0.46, 0.54]])[0].tolist() == [[0, 0], [1, 0]]
    assert len(sweep.bound(parts, whole_of(condensed), corners).ids) == condensed.contested == 1


def test_little_room_is_said():
    condensed = condensed_of(probabilities(2, 5, 4000, agree=0.5), some_targets(5, 4000), 1)
    (parts,) = condensed.batches()
    ends = np.eye(2)
    everything = sweep.flips(parts, (ends[0], ends[1]), 5, 0.0, 1.0, 1 << 20)
    for way in (cpu, naive):
        few = way.flips(parts, (ends[0], ends[1]), 5, 0.0, 1.0, 3)
        assert everything.complete
        assert not few.complete


@pytest.mark.parametrize("slow", [False, True])
def test_pixels_that_are_not_what_they_say_are_refused(slow, monkeypatch):
    if slow:
        monkeypatch.setattr(build, "library", lambda: None)
    condensed = condensed_of(probabilities(2, 5, 900, agree=0.5), some_targets(5, 900), 1)
    (parts,), whole = condensed.batches(), whole_of(condensed)
    (_, run), *_ = (pair for pair in parts.runs if pair[1].pixels % 16 and pair[1].pixels > 16)
    ends = np.eye(2)
    for bad in broken(run, 2, 5).values():
        with pytest.raises(ValueError, match="contested pixels, run 0: "):
            sweep.flips(Parts([(0, bad)]), (ends[0], ends[1]), 5, 0.0, 1.0, 99)
        with pytest.raises(ValueError, match="contested pixels, run 0: "):
            sweep.bound(Parts([(0, bad)]), whole, ends)
    with pytest.raises(ValueError, match=r"corners \[2, 3\]"):
        sweep.bound(parts, whole, np.ones((2, 3)))


@pytest.mark.parametrize("strange", [-1, 1 << 40, 1 << 62, (1 << 32) - 1, 10**9])
def test_undecided_pixels_that_do_not_exist_are_refused(strange):
    condensed, parts = two_pixels()
    whole = whole_of(condensed)
    bad = sweep.Undecided(np.array([*whole.ids, strange]), whole.right, whole.wrong, whole.gain)
    with pytest.raises(ValueError, match="an undecided pixel is none of these runs"):
        sweep.bound(parts, bad, np.eye(2))


def test_scan_refuses_lengths_and_classes_that_do_not_fit():
    condensed, parts = two_pixels()
    found = sweep.flips(parts, tuple(np.eye(2)), 3, 0.0, 1.0, 9)
    rows, base, counted = condensed.rows, condensed.base, np.ones(3, np.uint8)
    assert sweep.scan(found, rows, base, counted, 0.0, 1.0, 0.0)[0] > 0
    for bad in ((rows[:2], base, counted), (rows, base[:, :2], counted), (rows, base, counted[:2])):
        with pytest.raises(ValueError, match=r"expected [23] classes"):
            sweep.scan(found, *bad, 0.0, 1.0, 0.0)
    for name in ("target", "from", "to"):
        flips = found.flips.copy()
        flips[name] = 3
        bad = sweep.Flips(flips, found.statistics, True)
        with pytest.raises(ValueError, match="a flip of class 3 where there are 3"):
            sweep.scan(bad, rows, base, counted, 0.0, 1.0, 0.0)


def test_slack_grows_with_the_groups():
    assert [sweep.slack(g) * 2**24 for g in (1, 3)] == [5, 7]
    assert list(itertools.islice(sweep.every_pixel([]), 1)) == []


@pytest.mark.parametrize("number", [0, 1, 1000, 70_000])
def test_flips_are_ordered_as_they_came(number):
    """Places of all sizes, the smallest number and both zeros; equal ones keep their order."""
    rng = np.random.default_rng(number)
    flips = np.zeros(number, sweep.FLIP)
    flips["at"] = np.where(rng.random(number) < 0.5, rng.random(number), 0.0)
    flips["at"] += 10.0 ** -rng.integers(1, 300, number)
    flips["at"][::7] = rng.choice([0.0, -0.0, 5e-324, 0.5, 1.0], len(flips[::7]))
    flips["target"] = np.arange(number)
    before = flips.copy()
    expected = flips[np.argsort(flips["at"], kind="stable")]
    assert np.array_equal(cpu.ordered(flips), expected)
    assert np.array_equal(naive.ordered(flips)["at"], expected["at"])
    assert np.array_equal(flips, before)
