"""Line sweeps against evaluation at every breakpoint, segments on the simplex."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.contested import condense
from fusion.contested.cache import CondensedCache
from fusion.kernels.sweep import cpu as sweep
from fusion.metrics import CONVENTIONS
from fusion.search.exact.line import best_on_segment, coordinates, directions, pairs
from fusion.search.method import Problem
from tests.search.simulated import condensed_of, crossings, problem, small, whole_of


@given(
    groups=st.integers(2, 4),
    classes=st.integers(2, 6),
    levels=st.sampled_from([0, 4]),
    seed=st.integers(0, 2**31),
)
def test_compiled_and_slow_sweeps_and_bounds_are_the_same(groups, classes, levels, seed):
    condensed = small(groups, seed, classes, 60, levels)
    (parts,) = condensed.batches()
    ends = tuple(np.random.default_rng(seed).dirichlet(np.ones(groups), 2))
    fast = sweep.flips(parts, ends, classes, 0.1, 0.9, 1 << 20)
    slow = sweep.flips_slowly(parts, ends, classes, 0.1, 0.9)
    assert fast.complete
    assert np.array_equal(fast.flips, slow.flips)
    assert np.array_equal(fast.statistics, slow.statistics)
    ordered = slow.flips[np.argsort(slow.flips["at"], kind="stable")]
    for convention in CONVENTIONS:
        found = sweep.scan(fast, condensed.rows, condensed.base, convention, 0.1, 0.9, 1e-6)
        twin = sweep.scan_slowly(
            ordered, condensed.rows, slow.statistics + condensed.base, convention, (0.1, 0.9), 1e-6
        )
        assert found == pytest.approx(
            twin, abs=1e-11
        )  # the compiled loop updates a running sum of IoU
    corners = np.random.default_rng(seed).dirichlet(np.ones(groups), groups)
    whole = whole_of(condensed)
    for name in ("ids", "right", "wrong", "gain"):
        fast_bound, slow_bound = (
            sweep.bound(parts, whole, corners),
            sweep.bound_slowly(parts, whole, corners),
        )
        assert np.array_equal(getattr(fast_bound, name), getattr(slow_bound, name)), name


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(("groups", "levels"), [(2, 0), (3, 0), (5, 0), (3, 8)])
def test_best_of_a_segment_is_the_best_of_all_its_stretches(groups, levels, convention):
    means, targets = problem(groups, 4, 120, seed=groups, levels=levels)
    # a class that is predicted without being there: a member of the mean or not, by convention
    targets[targets == 3] = 255
    condensed = condensed_of(means, targets)
    start, end = np.random.default_rng(groups).dirichlet(np.ones(groups), 2)
    at = crossings(means, start, end)
    wide = np.diff(at) > 1e-6
    middles = ((at[1:] + at[:-1]) / 2)[wide]
    everywhere = condensed.miou(np.outer(1 - middles, start) + np.outer(middles, end), convention)
    stretch = best_on_segment(Problem(condensed, convention), start, end)
    assert stretch.miou == pytest.approx(everywhere.max(), abs=1e-11)
    assert condensed.miou([stretch.middle], convention)[0] == everywhere.max()
    inside = condensed.miou(
        [stretch.weights(s) for s in np.linspace(stretch.low, stretch.high, 9)[1:-1]], convention
    )
    assert np.all(inside == everywhere.max())


def test_a_segment_worked_out_by_hand():
    """Pixel 1 turns right at s = 1/2, pixel 2 wrong at s = 3/4: both are right in between."""
    means = np.zeros((2, 2, 2), np.float32)
    means[:, :, 0] = [[0.75, 0.25], [0.25, 0.75]]  # 0.75 - s / 2 against 0.25 + s / 2
    means[:, :, 1] = [[0.875, 0.125], [0.375, 0.625]]  # 0.875 - s / 2 against 0.125 + s / 2
    condensed = condensed_of(means, np.array([1, 0], np.uint8), 1)
    stretch = best_on_segment(Problem(condensed), [1, 0], [0, 1])
    assert (stretch.low, stretch.high, stretch.miou) == (0.5, 0.75, 1.0)
    assert stretch.middle.tolist() == [0.375, 0.625]
    assert (
        best_on_segment(Problem(condensed), [1, 0], [0, 1], narrowest=0.3).miou == 0.25
    )  # only s < 1/2 is wide enough: one of two right


@pytest.mark.parametrize("ends", [([1, 0], [0, 1]), ([0, 1], [1, 0])])
def test_a_class_joins_and_leaves_the_mean_of_union(ends):
    """Class 2 has no targets; below half of the second group one pixel is labelled 2."""
    means = np.zeros((2, 3, 2), np.float32)
    means[:, :, 0] = [[0.25, 0.0, 0.75], [0.75, 0.0, 0.25]]
    means[:, 1, 1] = 1.0
    condensed = condensed_of(means, np.array([0, 1], np.uint8), 1)
    (parts,) = condensed.batches()
    flips = sweep.flips(parts, tuple(np.array(ends, np.float64)), 3, 0.0, 1.0, 9)
    assert sweep.scan(flips, condensed.rows, condensed.base, "union", 0.0, 1.0, 0.0)[0] == 1.0
    second_group = 0 if ends[0][1] == 0 else 1
    stretch = (0.0, 0.5) if second_group == 0 else (0.5, 1.0)
    worse = sweep.flips(parts, tuple(np.array(ends, np.float64)), 3, *stretch, 9)
    assert sweep.scan(worse, condensed.rows, condensed.base, "union", *stretch, 0.0)[
        0
    ] == pytest.approx(1 / 3)


def test_equal_breakpoints_are_one():
    """Many pixels flip at the same s, half for the better: nothing inside the flip is scored."""
    means = np.repeat(np.array([[[0.75], [0.25]], [[0.25], [0.75]]], np.float32), 10, axis=2)
    condensed = condensed_of(means, np.array([0, 1] * 5, np.uint8), 1)
    assert best_on_segment(Problem(condensed), [1, 0], [0, 1], narrowest=0.0).miou == 0.25


@pytest.mark.parametrize("memory", [40_000, 4 * 10**9])
def test_streamed_from_disk_and_with_little_room_for_flips(tmp_path, memory, monkeypatch):
    means, targets = problem(3, 4, 4000)
    whole = condensed_of(means, targets, 1)
    cache = CondensedCache(tmp_path / "c", "digest", whole.groups, whole.classes)
    cache.write("v0", [condense(means, targets, 4, ignore=255)])
    loaded = cache.load(["v0"], memory)
    assert loaded.resident == (memory > 40_000)
    start, end = np.array([0.2, 0.3, 0.5]), np.array([0.0, 0.9, 0.1])
    expected = best_on_segment(Problem(whole), start, end)
    calls = []
    original = sweep.flips

    def scarce(parts, ends, classes, low, high, room):
        calls.append((low, high))
        return original(parts, ends, classes, low, high, 100)

    assert best_on_segment(Problem(loaded), start, end).miou == pytest.approx(
        expected.miou, abs=1e-11
    )
    monkeypatch.setattr(sweep, "flips", scarce)
    for ends in ((start, end), (end, start)):
        assert best_on_segment(Problem(loaded), *ends).miou == pytest.approx(
            expected.miou, abs=1e-11
        )
    assert len(calls) > 8


@pytest.mark.parametrize("segments", [coordinates, pairs, directions])
@pytest.mark.parametrize(
    "weights", [[1.0], [1.0, 0.0], [0.5, 0.2, 0.3], [0.0, 0.0, 1.0], [0.1, 0.2, 0.3, 0.4]]
)
def test_segments_stay_on_the_simplex_and_pass_through_the_point(segments, weights):
    weights = np.array(weights)
    made = list(segments(weights, np.random.default_rng(0)))
    assert bool(made) == (len(weights) > 1)
    for start, end in made:
        for point in (start, end):
            assert point.min() >= 0
            assert point.sum() == pytest.approx(1, abs=1e-12)
        span = end - start
        s = ((weights - start) @ span) / (span @ span)
        assert -1e-12 <= s <= 1 + 1e-12
        assert start + s * span == pytest.approx(weights, abs=1e-12)
