"""The conventions of mIoU, each with the rule that says whose classes the mean is over."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.metrics import CONVENTIONS
from fusion.metrics.objectives import OBJECTIVES, objective
from tests.metrics.contract import ObjectiveContract


class TestVspw(ObjectiveContract):
    name = "vspw"

    def member(self, targets, predicted):
        return bool(targets)


class TestUnion(ObjectiveContract):
    name = "union"

    def member(self, targets, predicted):
        return bool(targets | predicted)


class TestAll(ObjectiveContract):
    name = "all"

    def member(self, targets, predicted):
        return True


def test_every_objective_has_its_contract():
    tested = {contract.name for contract in ObjectiveContract.__subclasses__()}
    assert tested == set(OBJECTIVES) == set(CONVENTIONS)


def test_an_unknown_one_is_named():
    with pytest.raises(InputError, match="convention: got 'dice'; choose one of vspw, union, all"):
        objective("dice")


def miou_before(inter, rows, columns, convention):
    """mIoU as it was computed before there were operators, operation by operation."""
    union = rows + columns - inter
    iou = np.divide(inter, union, out=np.zeros(union.shape), where=union > 0)
    members = {"vspw": rows > 0, "union": union > 0, "all": np.ones(union.shape, dtype=bool)}
    number, scored = members[convention].sum(axis=-1), rows.sum(axis=-1) > 0
    return np.divide(iou.sum(axis=-1), number, out=np.full(scored.shape, np.nan), where=scored)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("classes", [1, 7, 8, 9, 124, 300])
def test_bits_are_those_of_one_plain_sum(classes, convention):
    """NumPy sums eight at a time and in halves: another order would show in the last bit."""
    rng = np.random.default_rng(classes)
    inter = rng.integers(0, 1000, (400, classes)) * (rng.random((400, classes)) < 0.8)
    rows = (inter + rng.integers(0, 500, inter.shape)) * (rng.random((400, classes)) < 0.9)
    inter = np.minimum(inter, rows)
    columns = inter + rng.integers(0, 500, inter.shape) * (rng.random((400, classes)) < 0.7)
    found = objective(convention)(inter, rows, columns)
    assert found.tobytes() == miou_before(inter, rows, columns, convention).tobytes()
