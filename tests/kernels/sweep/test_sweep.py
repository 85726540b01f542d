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
from fusion.kernels.native.pool import workers
from fusion.kernels.sweep import ALWAYS, NEVER, WHEN_PREDICTED, Cells, cpu, naive
from tests.contested.cases import condensed_of, probabilities, some_targets
from tests.kernels.contested.contract import broken


def whole_of(condensed: Condensed) -> sweep.Undecided:
    (parts,) = condensed.batches()
    right, predicted = condensed.base
    nothing = np.zeros_like(right)
    return sweep.Undecided(sweep.every_pixel(parts.runs), right, predicted - right, nothing)


def plain(rows: np.ndarray, counted: np.ndarray) -> Cells:
    """One case, one group, every weight 1: mIoU."""
    shape = (1, len(rows))
    return Cells(rows[None], counted[None], np.ones(shape), np.zeros(shape, int), np.ones(1))


def some_cells(rng: np.random.Generator, rows: np.ndarray, outers: int) -> Cells:
    """Cells that count at random, of random weight, in random groups."""
    counted = rng.integers(0, 3, rows.shape).astype(np.uint8)
    weights = rng.choice([1.0, 0.3, 7.0], rows.shape)
    shares, outer = rng.choice([1.0, 0.1, 5.0], outers), rng.integers(0, outers, rows.shape)
    return Cells(rows, counted, weights, outer, shares, dice=bool(rng.integers(2)))


@given(
    groups=st.integers(2, 4),
    classes=st.integers(2, 6),
    levels=st.sampled_from([0, 4]),
    apart=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_compiled_and_naive_are_the_same(groups, classes, levels, apart, seed):
    rng = np.random.default_rng(seed)
    means = probabilities(groups, classes, 60, seed, levels, agree=1.0)
    condensed = condensed_of(means, some_targets(classes, 60, seed), 2)
    (parts,) = condensed.batches(apart)
    cases = 2 if apart else 1
    base = condensed.base_per_video if apart else condensed.base[None]
    rows = condensed.rows_per_video if apart else condensed.rows[None]
    ends = tuple(rng.dirichlet(np.ones(groups), 2))
    factors = np.exp(rng.normal(size=classes)) if seed % 2 else None
    given = (ends, classes, 0.1, 0.9, 1 << 20, cases, factors)
    fast, slow = (way.flips(parts, *given) for way in (cpu, naive))
    assert fast.complete
    assert np.array_equal(fast.flips, slow.flips)
    assert np.array_equal(fast.statistics, slow.statistics)
    ordered = slow.flips[np.argsort(slow.flips["at"], kind="stable")]
    statistics = slow.statistics + base
    for outers in (1, 1, 2, 5):
        given = some_cells(rng, rows, outers), statistics.copy(), (0.1, 0.9), 1e-6
        twin = naive.scan(ordered, *given)
        found = cpu.scan(ordered, *given)  # writes to the statistics
        assert found == pytest.approx(twin, abs=1e-11)  # the compiled loop updates running sums
    corners, whole = rng.dirichlet(np.ones(groups), groups), whole_of(condensed)
    bounds = [way.bound(parts, whole, corners, classes) for way in (cpu, naive)]
    for name in ("ids", "right", "wrong", "gain"):
        assert np.array_equal(*(getattr(bound, name) for bound in bounds)), name


@given(
    groups=st.integers(1, 4),
    classes=st.integers(1, 6),
    levels=st.sampled_from([0, 4]),
    seed=st.integers(0, 2**31),
)
def test_flips_to_a_class_compiled_and_naive_are_the_same(groups, classes, levels, seed):
    rng = np.random.default_rng(seed)
    means = probabilities(groups, classes, 60, seed, levels, agree=1.0)
    condensed = condensed_of(means, some_targets(classes, 60, seed), 2, reach=4.0)
    cases = 1 + seed % 2
    (parts,) = condensed.batches(per_video=cases == 2)
    weights, factors = rng.dirichlet(np.ones(groups)), np.exp(rng.normal(size=classes))
    for moving in range(classes):
        given = (parts, weights, factors, moving, -1.0, 1.0)
        fast, slow = (way.class_flips(*given, 1 << 20, cases) for way in (cpu, naive))
        assert fast.complete
        for name in ("target", "from", "to", "case"):
            assert np.array_equal(fast.flips[name], slow.flips[name])
        # the logarithms are two libraries'
        np.testing.assert_allclose(fast.flips["at"], slow.flips["at"], rtol=0, atol=1e-14)
        assert np.array_equal(fast.statistics, slow.statistics)
        if len(slow.flips) > workers():  # then some thread has two
            assert not any(way.class_flips(*given, 1, cases).complete for way in (cpu, naive))


def test_class_flips_refuse_classes_that_do_not_exist():
    _, parts = two_pixels()
    for moving in (-1, 3):
        with pytest.raises(ValueError, match=rf"class {moving} where there are 3"):
            sweep.class_flips(parts, np.ones(2) / 2, np.ones(3), moving, -1.0, 1.0, 9)
    with pytest.raises(ValueError, match=r"multipliers \[2\]; expected 3"):
        sweep.flips(parts, tuple(np.eye(2)), 3, 0.0, 1.0, 9, multipliers=np.ones(2))


def test_flips_of_apart_cases_are_those_of_all_together():
    condensed = condensed_of(probabilities(3, 5, 900, agree=0.5), some_targets(5, 900), 3)
    ends = tuple(np.random.default_rng(0).dirichlet(np.ones(3), 2))
    (whole,), (apart,) = condensed.batches(), condensed.batches(per_video=True)
    together = sweep.flips(whole, ends, 5, 0.0, 1.0, 1 << 20)
    found = sweep.flips(apart, ends, 5, 0.0, 1.0, 1 << 20, 3)
    assert np.array_equal(found.statistics.sum(axis=0), together.statistics[0])
    assert len(found.flips) == len(together.flips) > 100
    assert set(together.flips["case"].tolist()) == {0}
    for case, video in enumerate(condensed.videos):
        (alone,) = condensed.subset([video]).batches()
        single = sweep.flips(alone, ends, 5, 0.0, 1.0, 1 << 20)
        mine = found.flips[found.flips["case"] == case].copy()
        mine["case"] = 0
        assert np.array_equal(np.sort(mine), np.sort(single.flips))
        assert np.array_equal(found.statistics[case], single.statistics[0])
    with pytest.raises(ValueError, match="a run of case 2, 2 cases; 65536 at most"):
        sweep.flips(apart, ends, 5, 0.0, 1.0, 9, 2)
    with pytest.raises(ValueError, match="65537 cases; 65536 at most"):
        sweep.flips(apart, ends, 5, 0.0, 1.0, 9, (1 << 16) + 1)


@pytest.mark.parametrize("way", [cpu, naive])
def test_a_group_without_members_leaves_the_outer_mean(way):
    """One case scores 1/2; the other has no targets and a class that one pixel is, then is not."""
    rows = np.array([[2, 0], [0, 0]])
    counted = np.array([[ALWAYS, NEVER], [NEVER, WHEN_PREDICTED]], np.uint8)
    weights, outer = np.array([[0.1, 1.0], [1.0, 0.3]]), np.array([[0, 0], [1, 1]])
    cells = Cells(rows, counted, weights, outer, np.array([0.7, 0.9]))
    statistics = np.array([[[1, 0], [1, 1]], [[0, 0], [0, 1]]])
    flips = np.array([(0.4, 0, 1, 0, 1), (0.6, 0, 0, 1, 1)], sweep.FLIP)
    mean, *ends = way.scan(flips, cells, statistics.copy(), (0.0, 1.0), 0.0)
    assert mean == pytest.approx(0.5, abs=1e-15)
    assert ends == [0.4, 0.6]
    mean, *ends = way.scan(flips[:0], cells, statistics, (0.0, 1.0), 0.0)
    assert mean == pytest.approx(0.5 * 0.7 / (0.7 + 0.9), abs=1e-15)


@pytest.mark.parametrize("way", [cpu, naive])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_no_group_left_is_zero_whatever_rounding_left_of_their_weights(way, order):
    rows = np.array([[3, 0], [7, 0], [2, 0]])
    counted = np.array([[WHEN_PREDICTED, NEVER]] * 3, np.uint8)
    outer = np.array([[0, 0], [1, 1], [2, 2]])
    cells = Cells(rows, counted, np.ones((3, 2)), outer, np.array([0.1, 0.2, 0.3]))
    statistics = np.array([[[1, 0], [1, 0]]] * 3)
    flips = [(0.01 * (k + 1), 0, 0, 1, case) for k, case in enumerate(order)]
    given = np.array(flips, sweep.FLIP), cells, statistics, (0.0, 1.0), 0.5
    assert way.scan(*given) == (0.0, 0.03, 1.0)


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
    cells = plain(condensed.rows, np.array([ALWAYS, ALWAYS, third], np.uint8))

    def best(low: float, high: float) -> float:
        flips = sweep.flips(parts, ends, 3, low, high, 9)
        return sweep.scan(flips, cells, condensed.base[None], low, high, 0.0)[0]

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
        few = way.flips(parts, (ends[0], ends[1]), 5, 0.0, 1.0, 3, 1, None)
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


def test_scan_refuses_lengths_classes_and_cases_that_do_not_fit():
    condensed, parts = two_pixels()
    found = sweep.flips(parts, tuple(np.eye(2)), 3, 0.0, 1.0, 9)
    base, cells = condensed.base[None], plain(condensed.rows, np.ones(3, np.uint8))
    assert sweep.scan(found, cells, base, 0.0, 1.0, 0.0)[0] > 0
    short = plain(condensed.rows[:2], np.ones(2, np.uint8))
    for bad in ((short, base), (cells, base[..., :2]), (cells, base[[0, 0]])):
        with pytest.raises(ValueError, match=r"expected 1 cases and [23] classes"):
            sweep.scan(found, *bad, 0.0, 1.0, 0.0)
    for name, said in (("target", "class"), ("from", "class"), ("to", "class"), ("case", "case")):
        flips, most = found.flips.copy(), 1 if name == "case" else 3
        flips[name] = most
        bad = sweep.Flips(flips, found.statistics, True)
        with pytest.raises(ValueError, match=f"a flip of {said} {most} where there are {most}"):
            sweep.scan(bad, cells, base, 0.0, 1.0, 0.0)


def test_cells_that_do_not_fit_together_are_refused():
    rows, ones = np.ones((2, 3), int), np.ones((2, 3))
    with pytest.raises(ValueError, match=r"weights \[3, 2\], rows \[2, 3\]"):
        Cells(rows, ones, ones.T, rows, np.ones(2))
    with pytest.raises(ValueError, match="a group of 1 with 1 shares"):
        Cells(rows, ones, ones, rows, np.ones(1))


def test_slack_grows_with_the_groups():
    assert [sweep.slack(g) * 2**24 for g in (1, 3)] == [5, 7]
    assert list(itertools.islice(sweep.every_pixel([]), 1)) == []


@pytest.mark.parametrize("number", [0, 1, 1000, 70_000])
def test_flips_are_ordered_as_they_came(number):
    """Places of all sizes and signs, the smallest numbers, both zeros; equal ones keep order."""
    rng = np.random.default_rng(number)
    flips = np.zeros(number, sweep.FLIP)
    flips["at"] = rng.choice([rng.random(number), 10.0 ** -rng.integers(0, 300, number)])
    flips["at"] *= rng.choice([-1.0, 1.0], number)
    flips["at"][::7] = rng.choice([0.0, -0.0, 5e-324, -5e-324, 0.5, -0.5, 1.0], len(flips[::7]))
    flips["target"] = np.arange(number)
    before = flips.copy()
    expected = flips[np.argsort(flips["at"], kind="stable")]
    assert np.array_equal(cpu.ordered(flips), expected)
    assert np.array_equal(naive.ordered(flips)["at"], expected["at"])
    assert np.array_equal(flips, before)
