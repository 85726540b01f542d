"""Multipliers are used where held-out units gain: the rule step by step, planted cases."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from fusion.contested import Builder, Condensed, condense
from fusion.errors import InputError
from fusion.metrics import Scores
from fusion.metrics.objectives import objective
from fusion.search.exact.multipliers import Classes, multiplied
from fusion.search.greedy import Greedy
from fusion.search.method import Problem
from fusion.search.result import Trial, best_trial
from fusion.search.selection import INNER, POWERS, parse_reach, select, shrink, split_units
from tests.search.simulated import drawn_means

REACH = 4.0


def planted(count: int = 9, rare: float = 0.04, favour: float = 3.5, seed: int = 0) -> Problem:
    """Videos in which the rare class "c" is there to be found, but its scores are too low.

    favour: how much higher the logit of the two common classes is, in every group. At 0 nothing is
    left for multipliers to gain but noise.
    """
    rng, wide, plain = np.random.default_rng(seed), *(Builder(["g0", "g1"], "abc") for _ in "12")
    for video in range(count):
        targets = rng.choice(3, 400, p=[(1 - rare) / 2] * 2 + [rare]).astype(np.uint8)
        means = drawn_means(rng, targets, 3, np.array([2.5, 3.5]))
        means = means * np.exp([favour, favour, 0.0])[:, None]
        means = (means / means.sum(axis=1, keepdims=True)).astype(np.float32)
        for builder, reach in ((wide, REACH), (plain, 1.0)):
            block = condense(means, targets, 3, ignore=255, reach=reach)
            builder.append(f"v{video}", block)
    pixels = replace(wide.finish(), reach=REACH)
    return Problem(plain.finish(), seed=seed, wide=pixels, reach=REACH)


def apart(problem: Problem) -> dict[str, str]:
    return {video: video for video in problem.condensed.videos}


def wide_of(problem: Problem) -> Condensed:
    assert problem.wide is not None
    return problem.wide


def test_a_rare_class_that_gains_gets_its_multiplier():
    weighed = planted()
    found = select(weighed, Greedy(steps=6))
    plain = Greedy(steps=6).search(weighed)
    assert found.multipliers is not None
    b = found.multipliers
    assert b["c"] / max(b["a"], b["b"]) > 1.3
    assert found.miou > plain.miou + 0.02
    assert found.miou == wide_of(weighed).miou([found.vector], "vspw", list(b.values()))[0]
    # the history has what led there
    *before, all_of_them, last = found.history
    assert tuple(before) == plain.history
    assert (last.weights, last.multipliers) == (found.vector, tuple(b.values()))
    assert last.miou == found.miou
    power = found.notes["multipliers"]["power"]
    assert last.multipliers == tuple(x**power for x in all_of_them.multipliers)
    assert found.method == "greedy"
    assert select(weighed, Greedy(steps=6)) == found  # nothing is drawn anew


def test_where_nothing_is_to_gain_there_are_no_multipliers():
    weighed = planted(favour=0.0, rare=1 / 3)
    found = select(weighed, Greedy(steps=6))
    plain = Greedy(steps=6).search(weighed)
    assert multiplied(weighed, plain.vector).miou > plain.miou  # on what they were found on
    assert found.multipliers is None
    assert found == replace(plain, notes=found.notes)
    assert found.notes["multipliers"]["power"] == 0


@pytest.mark.parametrize("wanted", ["vspw", "dice", "case-dice-nnunet"])
@pytest.mark.parametrize(("favour", "seed"), [(3.5, 0), (2.6, 1), (1.0, 2)])
def test_the_power_worked_out_step_by_step(wanted, favour, seed):
    weighed = replace(planted(favour=favour, seed=seed), convention=wanted)
    units, wide = apart(weighed), wide_of(weighed)
    weights = Greedy(steps=6).search(weighed).vector
    trial = multiplied(weighed, weights)
    # without multipliers the better weights are to be beaten, whoever found them
    plain = max(weights, trial.weights, key=lambda w: weighed.scores(w).score)
    matrices: dict[float, dict] = {power: {} for power in POWERS}
    for held in split_units(wide.videos, units, INNER, seed):
        rest = wide.subset([video for video in wide.videos if video not in held])
        classes = Classes(rest.fused(trial.weights, REACH), objective(wanted), REACH)
        multipliers = np.array(classes.climb([1.0, 1.0, 1.0])[1])
        for power in POWERS:
            given = (trial.weights, multipliers**power) if power else (plain, None)
            for video in held:
                matrices[power][video] = wide.subset([video]).confusion(*given)[0]
    scores = {power: Scores(each, list("abc"), wanted) for power, each in matrices.items()}
    expected = max(POWERS, key=lambda power: scores[power].score)
    gain = scores[expected].score - scores[0.0].score
    without = []
    for video in wide.videos:
        rest = [v for v in wide.videos if v != video]
        two = [
            Scores({v: scores[p].confusions[v] for v in rest}, list("abc"), wanted).score
            for p in (expected, 0.0)
        ]
        without.append(two[0] - two[1])
    error = math.sqrt(len(without) - 1) * float(np.std(without))
    found = shrink(replace(weighed, units=units), weights, trial)
    assert found.held_out == {power: each.score for power, each in scores.items()}
    assert found.power == (expected if gain > error else 0.0)
    if favour == 3.5:
        assert found.power > 0


@pytest.mark.parametrize(("gain", "power"), [(0.999, 0.0), (1.001, 0.5)])
def test_one_standard_error_is_the_line(gain, power, monkeypatch):
    """Whatever is found, power 1/2 is best; by how many standard errors is told here."""
    weighed = planted(count=4)

    class Told(Scores):
        def gain(self, other, *, units):
            assert units == drives
            return replace(super().gain(other), value=gain, error=1.0)

        @property
        def score(self):
            return {0.0: 0.1, 0.5: 0.4}.get(next(turn), 0.2)

    turn, drives = iter([*POWERS, 0.5, 0.0, 0.5, 0.0]), {f"v{i}": f"{i // 2}" for i in range(4)}
    monkeypatch.setattr("fusion.search.selection.Scores", Told)
    trial = multiplied(weighed, [1.0, 1.0])
    assert shrink(replace(weighed, units=drives), [1.0, 1.0], trial).power == power


def test_one_unit_keeps_multipliers_as_found():
    weighed = planted(favour=0.0)
    found = select(
        replace(weighed, units=dict.fromkeys(weighed.condensed.videos, "a drive")), Greedy(steps=6)
    )
    trial = multiplied(weighed, Greedy(steps=6).search(weighed).vector)
    assert tuple(found.multipliers.values()) == trial.multipliers
    assert found.vector == trial.weights
    assert found.notes["multipliers"] == {"power": 1.0, "held_out": {}}


def test_units_are_never_parted_by_the_inner_folds():
    """Three drives of three clips; what is found depends on which clips are together."""
    weighed = planted(favour=2.6)
    drives = {video: f"drive {int(video[1]) % 3}" for video in weighed.condensed.videos}
    trial = multiplied(weighed, [1.0, 1.0])
    together, alone = (
        shrink(replace(weighed, units=u), [1.0, 1.0], trial) for u in (drives, apart(weighed))
    )
    assert together.held_out[0.0] == alone.held_out[0.0]
    assert together.held_out[1.0] != alone.held_out[1.0]
    for held in split_units(weighed.condensed.videos, drives, INNER, 0):
        assert len({drives[video] for video in held}) == 1
        assert len(held) == 3


def test_without_reach_or_pixels_it_is_the_method_alone():
    weighed = replace(planted(), wide=None, reach=None)
    found = select(weighed, Greedy(steps=6))
    assert found == Greedy(steps=6).search(weighed)
    assert "multipliers" not in found.notes


def test_a_search_that_had_multipliers_already_is_best_without_them():
    history = [Trial((1.0, 0.0), 0.5), Trial((0.0, 1.0), 0.6), Trial((2.0, 1.0), 0.9, (1.0, 2.0))]
    assert best_trial(history) == history[2]


@pytest.mark.parametrize(("count", "folds"), [(6, 3), (7, 3), (3, 5), (2, 2), (9, 4)])
def test_folds_share_the_units_out(count, folds):
    names = [f"v{i}" for i in range(count)]
    units = {name: name for name in names}
    parts = split_units(names, units, folds, 4)
    assert sorted(video for part in parts for video in part) == names
    assert len(parts) == min(folds, count)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts == split_units(names, units, folds, 4)
    assert all(list(part) == sorted(part) for part in parts)
    others = {split_units(names, units, folds, seed) for seed in range(8)}
    assert len(others) > 1
    pairs = {name: f"u{i // 2}" for i, name in enumerate(names)}
    for part in split_units(names, pairs, folds, 4):
        for unit in set(pairs.values()):
            assert len({name in part for name in names if pairs[name] == unit}) == 1
    assert split_units([], {}, folds, 4) == ()


@pytest.mark.parametrize(
    ("said", "reach"),
    [
        *((True, 4.0), (False, None), (2, 2.0), (2.5, 2.5), (1024, 1024.0)),
        *(((0.5, 2.0), 2.0), ((2.0, 8.0), 2.0), ([0.1, 0.4], 2.0), (np.array([0.25, 4.0]), 4.0)),
    ],
)
def test_reaches_that_can_be_said(said, reach):
    assert parse_reach(said) == (None if reach is None else pytest.approx(reach, rel=1e-12))


@pytest.mark.parametrize(
    "said",
    [
        *(0, 1, 1.0, 0.5, -2.0, 1025, math.nan, math.inf, "4", "ab", (2.0, 1.0), (1.0, 1.0)),
        *(
            (0.0, 2.0),
            (-1.0, 2.0),
            (-2.0, -1.0),
            (1.0,),
            (1.0, 2.0, 3.0),
            (0.5, math.nan),
            (1e-9, 1e9),
            object(),
        ),
    ],
)
def test_reaches_that_cannot(said):
    with pytest.raises(InputError, match=r"multipliers: got .*; give r above 1 and up to 1024, or"):
        parse_reach(said)
