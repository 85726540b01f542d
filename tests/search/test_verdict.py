"""Verdicts of hand-made held-out scores: what is recommended, what is said, never NaN."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fusion.metrics import Scores
from fusion.search.held import FOUND, GROUP, SINGLE, UNIFORM, WEIGHTS, Fold, HeldOut
from fusion.search.verdict import Verdict


def matrix(right: int, of: int = 100) -> np.ndarray:
    """So many of each class's pixels are right, the others of the other class."""
    return np.array([[right, of - right], [of - right, right]])


def verdict_of(said: dict[str, list[int]], units: dict[str, str] | None = None) -> Verdict:
    """name of a contender -> how much of each video is right under it; a fold a video."""
    names = [f"v{i}" for i in range(len(said[FOUND]))]
    scores = {
        name: Scores(dict(zip(names, map(matrix, row), strict=True)), ["a", "b"])
        for name, row in said.items()
    }
    folds = [Fold((name,), 0.5, 0.5, {"g": 1.0}, None) for name in names]
    return Verdict(HeldOut(folds, scores), units or {name: name for name in names})


# ten videos; a little noise so that differences have an error
LOW = [50, 52, 48, 51, 49, 50, 53, 47, 52, 48]
NOISE = [3, -3, 2, -2, 4, -4, 1, -1, 2, -2]


def plus(row: list[int], points: int, noise: int = 0) -> list[int]:
    return [x + points + noise * n for x, n in zip(row, NOISE, strict=True)]


def error_of(mine: list[int], other: list[int]) -> float:
    """The jackknife's standard error of the difference of mIoU, as a loop."""

    def score(rows: list[int]) -> float:
        right, number = sum(rows), 100 * len(rows)
        return right / (2 * number - right)

    without = [
        score(mine[:v] + mine[v + 1 :]) - score(other[:v] + other[v + 1 :])
        for v in range(len(mine))
    ]
    return math.sqrt(len(mine) - 1) * float(np.std(without))


@pytest.mark.parametrize(
    ("said", "recommended"),
    [
        # the best is clear
        ({FOUND: plus(LOW, 20), UNIFORM: LOW}, FOUND),
        # weights without multipliers are within one error of what was found
        ({FOUND: plus(LOW, 20, 1), WEIGHTS: plus(LOW, 20), UNIFORM: LOW}, WEIGHTS),
        # of all within it the simplest: a single model before a group before weights
        (
            {FOUND: plus(LOW, 20, 1), WEIGHTS: plus(LOW, 20, 2), UNIFORM: LOW}
            | {SINGLE: plus(LOW, 20, -1), GROUP: plus(LOW, 20, 1)},
            SINGLE,
        ),
        ({FOUND: plus(LOW, 20, 1), UNIFORM: LOW, GROUP: plus(LOW, 20)}, GROUP),
        # simpler but clearly worse ones are passed over
        ({FOUND: plus(LOW, 20, 1), UNIFORM: LOW, GROUP: plus(LOW, 5), SINGLE: LOW}, FOUND),
        # beyond one error of the best, though an interval would hold zero
        ({FOUND: plus(LOW, 20, 2), WEIGHTS: plus(LOW, 17), UNIFORM: LOW}, FOUND),
        # nothing is distinguishable from uniform weights
        ({FOUND: plus(LOW, 0, 2), UNIFORM: LOW, GROUP: plus(LOW, -1)}, UNIFORM),
        # uniform weights are the best
        ({FOUND: plus(LOW, -5), UNIFORM: LOW, GROUP: plus(LOW, -9)}, UNIFORM),
        # more than one error above, but not distinguishable: uniform weights
        ({FOUND: plus(LOW, 3, 2), UNIFORM: LOW}, UNIFORM),
    ],
)
def test_the_simplest_within_one_standard_error_of_the_best(said, recommended):
    verdict = verdict_of(said)
    assert verdict.recommended == recommended
    assert verdict.sentence.endswith(f"; {recommended} recommended")
    assert verdict.gain is verdict.gains[UNIFORM]


def test_between_one_error_and_an_interval():
    """The last case above is what it says it is."""
    mine = plus(LOW, 3, 2)
    gain, error = verdict_of({FOUND: mine, UNIFORM: LOW}).gain, error_of(mine, LOW)
    # ten folds: each video has a part in the choices of nine of them
    assert gain.error == pytest.approx(error * (1 + 9 / 10) ** 0.5, rel=1e-9)
    assert gain.value > error
    assert not gain.distinguishable


@pytest.mark.parametrize(("noise", "recommended"), [(0, FOUND), (2, WEIGHTS)])
def test_the_error_is_of_the_paired_difference(noise, recommended):
    """Both contenders vary alike over videos: one point more on each of them is no chance."""
    spread = [20, 80, 30, 70, 40, 60, 25, 75, 50, 50]
    said = {FOUND: plus(spread, 8, noise), WEIGHTS: plus(spread, 7), UNIFORM: plus(spread, -15)}
    assert verdict_of(said).recommended == recommended


def test_units_stand_behind_errors_and_intervals():
    """Two drives of five clips each: their differences cancel, and say little."""
    mine, units = plus(LOW, 20), {f"v{i}": f"drive {i % 2}" for i in range(10)}
    apart, together = (verdict_of({FOUND: mine, UNIFORM: LOW}, u) for u in (None, units))
    assert (apart.gain.units, together.gain.units) == (10, 2)
    assert apart.gain.value == together.gain.value
    assert together.gain.interval != apart.gain.interval


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (plus(LOW, 20), ": real; what was found recommended"),
        (plus(LOW, -20), ": a real loss; uniform weights recommended"),
        (plus(LOW, 0, 2), ": not distinguishable; uniform weights recommended"),
    ],
)
def test_the_sentence_has_its_evidence(row, said):
    verdict = verdict_of({FOUND: row, UNIFORM: LOW})
    low, high = (f"{100 * end:+.1f}" for end in verdict.gain.interval)
    value = f"{100 * (verdict.held - verdict.held.contenders[UNIFORM].score):+.1f}"
    start = f"held-out gain {value} [{low}, {high}] over uniform weights on 10 folds"
    assert verdict.sentence == start + said
    assert verdict.remarks == []
    plain = json.loads(json.dumps(verdict.to_json()))
    assert plain["sentence"] == verdict.sentence
    assert plain["recommended"] == verdict.recommended
    assert plain["held_out"] == {name: s.score for name, s in verdict.held.contenders.items()}
    assert plain["gains"][UNIFORM]["interval"] == list(verdict.gain.interval)
    assert plain["gains"][UNIFORM]["distinguishable"] == verdict.gain.distinguishable
    *table, gain, last = verdict.lines()
    assert last == f"verdict: {verdict.sentence}"
    assert gain == str(verdict.gain)
    shown = [f"{100 * s.score:.2f}" for s in verdict.held.contenders.values()]
    assert table[0] == f"held out, vspw %: uniform weights {shown[0]}, what was found {shown[1]}"
    low, high = verdict.held.prediction_interval()
    ends = f"{100 * low:.2f} to {100 * high:.2f}"
    assert table[1:] == [f"on 10 new videos expect {ends} (95 %)"]


@pytest.mark.parametrize("units", [2, 3, 5, 6, 7, 8, 10, 11])
@pytest.mark.parametrize("right", [(60, 50), (37, 11), (91, 90)])
def test_units_that_are_all_alike_are_said(units, right):
    verdict = verdict_of({FOUND: [right[0]] * units, UNIFORM: [right[1]] * units})
    assert "all units score alike: no interval can say how others would differ" in verdict.remarks
    assert "nan" not in verdict.sentence
    assert verdict.gain.interval == (verdict.gain.value,) * 2
    assert not verdict_of({FOUND: plus(LOW, 9), UNIFORM: LOW}).remarks
    assert not verdict_of({FOUND: LOW, UNIFORM: LOW}).remarks  # two that are the same


@pytest.mark.parametrize("units", [1, 2, 7, 8])
def test_few_units_are_said(units):
    verdict = verdict_of({FOUND: plus(LOW, 20)[:units], UNIFORM: LOW[:units]})
    said = f"only {units} units were held out (below 8): intervals are wide"
    assert any(said in remark for remark in verdict.remarks) == (units < 8)


def scores_of(matrices: list[list[list[int]]]) -> Scores:
    return Scores({f"v{i}": np.array(m) for i, m in enumerate(matrices)}, ["a", "b", "c"])


def test_classes_in_one_fold_only_are_said():
    """Class c is in v0 alone, class b in v2 and v3, which are one fold."""
    a, all_three = [[5, 1, 0], [0, 0, 0], [0, 0, 0]], [[5, 0, 0], [0, 0, 0], [1, 0, 3]]
    with_b = [[4, 1, 0], [2, 6, 0], [0, 0, 0]]
    folds = [Fold(v, 0.5, 0.5, {}, None) for v in (("v0",), ("v1",), ("v2", "v3"))]
    scores = scores_of([all_three, a, with_b, with_b])
    held = HeldOut(folds, {FOUND: scores, UNIFORM: scores})
    verdict = Verdict(held, {f"v{i}": f"v{i}" for i in range(4)})
    said = "classes that occur in one fold only: b, c; nothing was chosen for them and scored"
    assert any(said in remark for remark in verdict.remarks)
    two = HeldOut(
        [*folds[:2], Fold(("v2",), 0, 0, {}, None), Fold(("v3",), 0, 0, {}, None)], held.contenders
    )
    assert any("one fold only: c; " in remark for remark in Verdict(two, verdict.units).remarks)


@pytest.mark.parametrize("case", ["one unit", "one scored", "one class per unit"])
def test_what_is_unknown_is_said_without_nan(case):
    names, nothing = ["a", "b"], np.zeros((2, 2), int)
    matrices = {
        "one unit": {"v0": matrix(60)},
        "one scored": {"v0": matrix(60), "v1": nothing},
        "one class per unit": {"v0": matrix(60), "v1": np.array([[5, 0], [0, 0]])},
    }[case]
    found = Scores(matrices, names)
    uniform = Scores({v: m[:, ::-1] for v, m in matrices.items()}, names)
    held = HeldOut(
        [Fold((v,), 0.5, 0.5, {}, None) for v in matrices], {FOUND: found, UNIFORM: uniform}
    )
    verdict = Verdict(held, {video: video for video in matrices})
    assert "nan" not in verdict.sentence.lower()
    assert "nan" not in "\n".join(verdict.lines()).lower()
    json.dumps(verdict.to_json(), allow_nan=False)
    if case != "one class per unit":
        said = "held-out gain over uniform weights unknown; uniform weights recommended"
        assert verdict.sentence == said
        assert verdict.to_json()["gains"][UNIFORM]["interval"] == [None, None]


@pytest.mark.filterwarnings("ignore:no pixel was scored")
def test_nothing_scored_at_all():
    nothing = Scores({"v0": np.zeros((2, 2), int), "v1": np.zeros((2, 2), int)}, ["a", "b"])
    folds = [Fold((v,), math.nan, math.nan, {}, None) for v in ("v0", "v1")]
    verdict = Verdict(HeldOut(folds, {FOUND: nothing, UNIFORM: nothing}), {"v0": "0", "v1": "1"})
    assert verdict.recommended == UNIFORM
    assert "nan" not in verdict.sentence
    json.dumps(verdict.to_json(), allow_nan=False)
