"""Every objective, with the rule that says whose classes its mean is over; classes chosen."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.metrics import CONVENTIONS
from fusion.metrics.objectives import OBJECTIVES, counts, objective
from tests.metrics.contract import ObjectiveContract, mean

HAND = np.array([[[4, 0, 0], [4, 4, 0], [0, 0, 0]], [[8, 0, 0], [0, 0, 0], [0, 0, 0]]])


class TestVspw(ObjectiveContract):
    name = "vspw"


class TestUnion(ObjectiveContract):
    name = "union"

    def member(self, targets, predicted):
        return bool(targets | predicted)


class TestAll(ObjectiveContract):
    name = "all"

    def member(self, targets, predicted):
        return True


class TestFwiou(ObjectiveContract):
    name = "fwiou"

    def frequency(self, targets):
        return float(len(targets))


class TestDice(ObjectiveContract):
    name = "dice"

    def class_score(self, targets, predicted):
        both = len(targets) + len(predicted)
        return 2 * len(targets & predicted) / both if both else 0.0


class TestCaseIou(ObjectiveContract):
    name = "case-iou"

    def by_sets(self, cases, classes):
        """As MONAI's do_metric_reduction(reduction="mean"): over channels, then over the batch."""
        scored = [self.scored(*case, classes) for case in cases]
        weights = [[self.chosen.get(c, 1.0) for c in found] for found in scored]
        pairs = zip(scored, weights, strict=True)
        of_cases = [mean(list(found.values()), w) for found, w in pairs if found]
        return mean(of_cases, [1.0] * len(of_cases))


class TestCaseDiceMonai(TestCaseIou):
    name = "case-dice-monai"
    class_score = TestDice.class_score


class TestCaseDiceNnunet(ObjectiveContract):
    name = "case-dice-nnunet"
    class_score = TestDice.class_score
    member = TestUnion.member

    def by_sets(self, cases, classes):
        """As nnU-Net's compute_metrics_on_folder: nanmean over cases, then the classes' mean."""
        scored = [self.scored(*case, classes) for case in cases]
        found = {c: [each[c] for each in scored if c in each] for c in range(classes)}
        found = {c: mean(s, [1.0] * len(s)) for c, s in found.items() if s}
        return mean(list(found.values()), [self.chosen.get(c, 1.0) for c in found])


class TestWeightedUnion(TestUnion):
    chosen = {0: 1.0, 2: 0.25, 1: 3.0}  # noqa: RUF012


class TestWeightedFwiou(TestFwiou):
    chosen = {1: 0.3, 2: 1.7}  # noqa: RUF012


class TestOneClassOfDice(TestDice):
    chosen = {1: 1.0}  # noqa: RUF012


class TestWeightedMonai(TestCaseDiceMonai):
    chosen = {0: 0.1, 2: 0.2}  # noqa: RUF012


class TestWeightedNnunet(TestCaseDiceNnunet):
    chosen = {0: 0.1, 1: 0.2, 3: 5.0}  # noqa: RUF012


def contracts(kind=ObjectiveContract):
    for each in kind.__subclasses__():
        yield each
        yield from contracts(each)


def test_every_objective_has_its_contract():
    assert {contract.name for contract in contracts()} == set(OBJECTIVES) > set(CONVENTIONS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vspw", (12 / 16 + 1 / 2) / 2),
        ("all", (12 / 16 + 1 / 2) / 3),
        ("fwiou", (12 * 12 / 16 + 8 / 2) / 20),
        ("dice", (24 / 28 + 8 / 12) / 2),
        ("case-iou", ((1 / 2 + 1 / 2) / 2 + 1) / 2),
        ("case-dice-monai", ((8 / 12 + 8 / 12) / 2 + 1) / 2),
        ("case-dice-nnunet", ((8 / 12 + 1) / 2 + 8 / 12) / 2),
    ],
)
def test_by_hand(name, value):
    """Two cases; the first has classes 0 and 1, the second is class 0 and all right."""
    assert objective(name).of(HAND) == pytest.approx(value, abs=1e-15)


def test_an_empty_case_that_is_predicted_scores_zero_in_nnunet_and_nothing_in_monai():
    spill = HAND.copy()
    spill[1, 0] = [6, 2, 0]  # class 1 is predicted where it is not
    found = {name: objective(name, [1]).of(spill) for name in OBJECTIVES if name.startswith("case")}
    third = pytest.approx(8 / 12)
    assert found["case-dice-monai"] == third
    assert found["case-dice-nnunet"] == pytest.approx(8 / 12 / 2)
    assert objective("case-dice-nnunet", [1]).of(HAND) == third


def test_names_say_what_is_chosen():
    names = ["road", "car", "person"]
    assert objective("dice").name == "dice"
    assert objective("dice", [2, 0]).name == "dice(0, 2)"
    assert objective("dice", ["person", "road"], names).name == "dice(road, person)"
    weighed = objective("vspw", {"person": 0.1, "car": 2}, names)
    assert weighed.name == "vspw(car=2, person=0.1)"
    assert weighed == objective("vspw", {1: 2.0, 2: 0.1}, names)
    assert weighed != objective("vspw", {1: 2.0, 2: 0.1 + 1e-12}, names)
    assert weighed.name != objective("vspw", {1: 2.0, 2: 0.1 + 1e-12}, names).name
    assert objective(objective("dice"), [1]) == objective("dice", [1])
    # not even with weight 0: what never counts leaves no rounding behind in a sweep
    assert objective("all", [1]).counted([3, 3, 0]).tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("classes", "names", "message"),
    [
        (["cat"], ["car", "road"], "there is no 'cat'; did you mean 'car'"),
        (["cat"], None, "got the name 'cat'; give names="),
        ([2], ["car", "road"], "there is no class 2; give names, or ids from 0 to 1"),
        ([-1], None, "there is no class -1"),
        ([1.5], None, "there is no class 1.5"),
        ([1, 1], None, "1 is there twice"),
        ([1, "road"], ["car", "road"], "'road' is there twice"),
        ({1: 0.0}, None, "the weight of 1 is 0.0; give a number above 0"),
        ({1: -2}, None, "the weight of 1 is -2"),
        ({1: float("nan")}, None, "the weight of 1 is nan"),
        ({"car": float("inf")}, ["car"], "the weight of 'car' is inf"),
        ("car", ["car"], "got 'car'; give a list of classes"),
        ([], None, r"got \[\]; give a list of classes"),
    ],
)
def test_classes_that_cannot_be_chosen(classes, names, message):
    with pytest.raises(InputError, match=f"^classes: .*{message}"):
        objective("dice", classes, names)


def test_a_class_that_the_matrices_do_not_have():
    with pytest.raises(InputError, match=r"objective dice\(5\): class 5 is chosen where there are"):
        objective("dice", [5]).of(HAND)


def test_an_unknown_one_is_named():
    with pytest.raises(
        InputError, match="convention: got 'f1'; choose one of vspw, union, all, fw"
    ):
        objective("f1")


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


def test_configurations_share_their_targets():
    """Diagonals and columns [B, V, C] beside rows [V, C]: the same as one after the other."""
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 99, (6, 3, 4, 4))
    batch[:, :, 3] = 0  # no targets
    batch[:, :, :3, 0] += (batch[:1].sum(axis=3) - batch.sum(axis=3))[:, :, :3] + 400
    inter, rows, columns = counts(batch)
    times = rng.integers(0, 3, (5, 3)).astype(float)
    for each in OBJECTIVES.values():
        alone = [each.resampled(matrices, times) for matrices in batch]
        np.testing.assert_array_equal(each.drawn(inter, rows[0], columns, times), alone)
