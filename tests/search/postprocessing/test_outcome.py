"""The front against brute force; gains in consistency against units left out one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fusion.search.postprocessing.outcome import Measure, Outcome, on_front


@pytest.mark.parametrize("seed", range(4))
def test_the_front_is_what_nothing_dominates(seed):
    draw = np.random.default_rng(seed)
    points = draw.integers(0, 4, (30, 3)) / 4
    points[draw.random(points.shape) < 0.1] = np.nan

    def at_least(a, b):
        return math.isnan(b) or a >= b

    def dominates(one, other):
        pairs = list(zip(one, other, strict=True))
        return all(at_least(a, b) for a, b in pairs) and any(not at_least(b, a) for a, b in pairs)

    expected, seen = [], set()
    for other in points:
        same = tuple(np.nan_to_num(other, nan=-1.0))
        expected.append(same not in seen and not any(dominates(one, other) for one in points))
        seen.add(same)
    assert on_front(points) == expected


def outcome(windows, name="x"):
    units = {part: part[0] for part in windows}
    matrix = np.array([[3, 1], [0, 2]])
    made = {part: Measure.of(matrix, {8: some, 16: []}) for part, some in windows.items()}
    return Outcome(name, made, ("a", "b"), "vspw", units)


def test_consistency_gains_are_jackknifed_over_units():
    one = {"a1": [0.5, 0.75], "a2": [math.nan], "b": [0.25], "c": [], "d": [1.0, 0.5, 0.5]}
    two = {"a1": [0.25, 0.5], "a2": [math.nan], "b": [0.5], "c": [], "d": [0.5, 0.25, 0.0]}

    def mean(some, out=()):
        known = [w for p, ws in some.items() if p[0] not in out for w in ws if not math.isnan(w)]
        return sum(known) / len(known)

    gain = outcome(one).gain(outcome(two, "none"), "vc8")
    without = [mean(one, u) - mean(two, u) for u in "abd"]  # c has no window
    spread = sum((each - sum(without) / 3) ** 2 for each in without)
    assert gain.value == pytest.approx(mean(one) - mean(two))
    assert gain.error == pytest.approx(math.sqrt(2 / 3 * spread))
    assert (gain.over, gain.what, gain.units) == ("none", "VC8", 3)
    nothing = outcome(one).gain(outcome(two), "vc16")
    assert math.isnan(nothing.value)
    assert not nothing.beyond_standard_error


def test_measures_keep_matrices():
    matrix = np.random.default_rng(0).integers(0, 3, (5, 5))
    assert np.array_equal(Measure.of(matrix, {}).confusion, matrix)
