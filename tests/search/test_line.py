"""Line sweeps against evaluation at every breakpoint, segments on the simplex."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.contested import condense
from fusion.contested.cache import CondensedCache
from fusion.kernels import sweep
from fusion.metrics.objectives import CONVENTIONS, OBJECTIVES, objective
from fusion.search.exact.line import best_on_segment, coordinates, directions, pairs
from fusion.search.method import Problem
from tests.search.simulated import condensed_of, crossings, problem

CHOSEN = [
    objective("union", [0, 3]),
    objective("fwiou", {0: 0.3, 2: 5.0}),
    objective("case-dice-monai", {1: 0.1, 2: 0.7}),
    objective("case-dice-nnunet", {0: 0.3, 3: 2.0}),
]


@pytest.mark.parametrize("convention", [*OBJECTIVES, *CHOSEN], ids=lambda x: getattr(x, "name", x))
@pytest.mark.parametrize(("groups", "levels"), [(2, 0), (3, 0), (5, 0), (3, 8)])
def test_best_of_a_segment_is_the_best_of_all_its_stretches(groups, levels, convention):
    means, targets = problem(groups, 4, 120, seed=groups, levels=levels)
    # a class that is predicted without being there: a member of the mean or not, by convention
    targets[targets == 3] = 255
    targets[40:80][targets[40:80] == 1] = 255  # nor is another one in one of the videos
    condensed = condensed_of(means, targets, 3)
    start, end = np.random.default_rng(groups).dirichlet(np.ones(groups), 2)
    at = crossings(means, start, end)
    wide = np.diff(at) > 1e-6
    middles = ((at[1:] + at[:-1]) / 2)[wide]
    everywhere = condensed.miou(np.outer(1 - middles, start) + np.outer(middles, end), convention)
    stretch = best_on_segment(Problem(condensed, convention), start, end)
    assert stretch.miou == pytest.approx(everywhere.max(), abs=1e-11)
    best = condensed.miou([stretch.middle], convention)[0]
    assert best == pytest.approx(everywhere.max(), abs=1e-15)
    if convention in CONVENTIONS:
        assert best == everywhere.max()
    inside = [stretch.weights(s) for s in np.linspace(stretch.low, stretch.high, 9)[1:-1]]
    assert np.all(condensed.miou(inside, convention) == best)


def test_a_segment_worked_out_by_hand():
    """Pixel 1 turns right at s = 1/2, pixel 2 wrong at s = 3/4: both are right in between."""
    means = np.zeros((2, 2, 2), np.float32)
    means[:, :, 0] = [[0.75, 0.25], [0.25, 0.75]]  # 0.75 - s / 2 against 0.25 + s / 2
    means[:, :, 1] = [[0.875, 0.125], [0.375, 0.625]]  # 0.875 - s / 2 against 0.125 + s / 2
    condensed = condensed_of(means, np.array([1, 0], np.uint8), 1)
    stretch = best_on_segment(Problem(condensed), [1, 0], [0, 1])
    assert (stretch.low, stretch.high, stretch.miou) == (0.5, 0.75, 1.0)
    assert stretch.middle.tolist() == [0.375, 0.625]
    # only s < 1/2 is wide enough: one of two right
    assert best_on_segment(Problem(condensed), [1, 0], [0, 1], narrowest=0.3).miou == 0.25


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
    expected = pytest.approx(best_on_segment(Problem(whole), start, end).miou, abs=1e-11)
    calls, original = [], sweep.flips

    def scarce(parts, ends, classes, low, high, room, *more):
        calls.append((low, high))
        return original(parts, ends, classes, low, high, 100, *more)

    assert best_on_segment(Problem(loaded), start, end).miou == expected
    monkeypatch.setattr(sweep, "flips", scarce)
    for ends in ((start, end), (end, start)):
        assert best_on_segment(Problem(loaded), *ends).miou == expected
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
