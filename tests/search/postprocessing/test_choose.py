"""One step of a choice on numbers made up: a gain within one standard error is no gain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.metrics.intervals import Gain
from fusion.postprocess import NOTHING, Operation, Pipeline, operation_of, parameter
from fusion.postprocess.operation import LABELS
from fusion.search.postprocessing import candidates
from fusion.search.postprocessing.candidates import candidates_of, longer
from fusion.search.postprocessing.choose import Selection, choose, no_loss
from fusion.search.postprocessing.outcome import AIMS, Measure, Outcome
from fusion.search.postprocessing.tune import Tuning
from fusion.search.postprocessing.tuned import Held

VOTE, EMA = Pipeline((operation_of("vote"),)), Pipeline((operation_of("ema"),))
BOTH = Pipeline((*EMA, *VOTE))
PARTS = tuple("abcdef")


@dataclass
class Made:
    """Pixels of 1000 that are right in every part, and one window's consistency, by pipeline."""

    right: dict
    steady: dict
    lacking: dict = field(default_factory=dict)

    def add(self, wanted):
        self.wanted = list(wanted)

    def outcome(self, pipeline, parts, judge):
        name, found = str(pipeline), {}
        for place, part in enumerate(parts):
            right = self.right[name][place]
            matrix = np.array([[right, 1000 - right], [1000 - right, right]])
            found[part] = Measure.of(matrix, {8: [self.steady[name][place]], 16: []})
        units = {part: part for part in parts}
        return Outcome(name, found, ("x", "y"), "vspw", units)


def chosen(right, steady=None, aim="score", operations=(*VOTE, *EMA)):
    names = [str(p) for p in (NOTHING, VOTE, EMA, BOTH)]
    rows = {name: right.get(name, right["none"]) for name in names}
    steady = {name: (steady or {}).get(name, [0.5] * 6) for name in names}
    selection = Selection(PARTS, None)
    choose(Made(rows, steady), [selection], operations, aim)
    return selection.chosen


NONE = [700, 720, 680, 700, 710, 690]


def plus(*numbers):
    return [before + more for before, more in zip(NONE, numbers, strict=True)]


def test_a_gain_must_be_above_its_error():
    luck = plus(90, -40, -30, -40, 90, -40)
    assert sum(luck) > sum(NONE)
    assert chosen({"none": NONE, "vote": luck}) == NOTHING
    assert chosen({"none": NONE, "vote": plus(20, 30, 10, 20, 30, 10)}) == VOTE
    assert chosen({"none": NONE, "vote": NONE}) == NOTHING  # none wins ties


def test_the_best_goes_first_and_more_must_add_to_it():
    one, two = plus(20, 30, 10, 20, 30, 10), plus(30, 40, 20, 30, 40, 20)
    both = [each + 9 for each in two]
    assert chosen({"none": NONE, "vote": one, "ema": two, "ema, vote": two}) == EMA
    assert chosen({"none": NONE, "vote": one, "ema": two, "ema, vote": both}) == BOTH
    assert chosen({"none": NONE, "ema": NONE, "vote": NONE, "ema, vote": both}) == NOTHING


def test_consistency_may_not_cost_score():
    steady = {"vote": [0.9] * 6, "ema": [0.6] * 6, "ema, vote": [0.95] * 6}
    worse = plus(-20, -30, -10, -20, -30, -10)
    noise = plus(10, -10, 10, -10, 1, -2)
    assert chosen({"none": NONE, "vote": worse, "ema, vote": worse}, steady, "vc8") == EMA
    assert chosen({"none": NONE, "vote": noise, "ema, vote": worse}, steady, "vc8") == VOTE
    assert chosen({"none": NONE}, steady, "vc8") == BOTH
    luck = {"vote": [0.9, 0.1, 0.5, 0.5, 0.9, 0.2], "ema, vote": [0.5] * 6}
    assert chosen({"none": NONE}, luck, "vc8") == NOTHING


def test_a_single_unit_chooses_nothing():
    better = [each + 100 for each in NONE]
    made = Made({"none": NONE, "vote": better}, {"none": [0.5] * 6, "vote": [0.5] * 6})
    selection = Selection(("a",), None)
    choose(made, [selection], tuple(VOTE), "score")
    assert selection.chosen == NOTHING


def gains(lossless=True, **known):
    made = {aim: Gain(0.0, (-0.1, 0.1), "none", 6, error=0.01) for aim in AIMS}
    return Held([], 0.5, 0.5, {**made, **known}, lossless)


def gain(value, error=0.01):
    return Gain(value, (value - 2 * error, value + 2 * error), "none", 6, error=error)


@pytest.mark.parametrize(
    ("aim", "known", "kept"),
    [
        ("score", {"score": gain(0.02)}, True),
        ("score", {"score": gain(0.009)}, False),
        ("score", {"score": gain(0.0, 0.0)}, False),
        ("score", {"score": gain(0.02, float("nan"))}, False),
        ("vc8", {"vc8": gain(0.02)}, True),
        ("vc8", {"vc8": gain(0.02), "lossless": False}, False),
        ("score", {"score": gain(0.02), "lossless": False}, True),
        ("vc8", {"vc8": gain(0.005), "score": gain(0.02)}, False),
    ],
)
def test_what_holds_out(aim, known, kept):
    assert Tuning(None, aim, None)._holds_out(gains(**known)) is kept


@pytest.mark.parametrize(
    ("value", "error", "kept"),
    [
        (0.01, 0.001, True),
        (-0.001, 0.0015, True),
        (-0.001, 0.0009, False),
        (-0.0021, 0.5, False),
        (0.1, float("nan"), False),
        (0.0, 0.0, True),
    ],
)
def test_what_counts_as_no_loss(value, error, kept):
    assert no_loss(gain(value, error)) is kept


@dataclass(frozen=True)
class Grown(Operation):
    name: ClassVar = "grown"
    about: ClassVar = "of some classes"
    stage: ClassVar = LABELS

    size: int = parameter(1, "pixels", grid=(1, 2))
    classes: tuple[str, ...] = parameter((), "which; none: all")

    def check(self, classes, *, independent):
        super().check(classes, independent=independent)
        if classes[0] in self.classes:
            raise InputError("grown: the first is the background")

    def apply(self, stream, video):
        return stream


class Masked(Grown):
    name: ClassVar = "masked"

    def check(self, classes, *, independent):
        if not self.classes:
            raise InputError("masked: no class; give classes")


def test_classes_are_tried_one_by_one_and_joined(still, monkeypatch):
    monkeypatch.setattr(candidates, "OPERATIONS", {"grown": Grown, "masked": Masked})
    found = candidates_of(*still)
    road, car, tree = (Grown(classes=(name,)) for name in ("road", "car", "tree"))
    assert found.operations == (Grown(1), Grown(2), road, car, tree)
    assert found.remarks == ("not tried: masked (no class; give classes)",)
    next_ones = list(longer(Pipeline((car,)), found.operations))
    assert [one.operations[0].classes for one in next_ones] == [("car", "road"), ("car", "tree")]
    assert list(longer(Pipeline((Grown(2),)), found.operations)) == []
    monkeypatch.setattr(candidates, "FEW_CLASSES", 3)
    assert candidates_of(*still).operations == (Grown(1), Grown(2))
