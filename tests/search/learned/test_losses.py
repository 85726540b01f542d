"""Losses against their definitions: sets of pixels, loops, finite differences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from fusion.metrics.objectives import objective
from fusion.search.learned.losses import Loss, falling, lovasz_softmax, soft_dice

CELLS, CLASSES = 9, 4


def scores(cells: int = CELLS, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (cells, CLASSES)))


def counts(cells: int = CELLS, seed: int = 1) -> torch.Tensor:
    """Several labels a cell, one class more than the others; class 3 nowhere."""
    rng = np.random.default_rng(seed)
    made = rng.integers(0, 3, (cells, CLASSES))
    made[np.arange(cells), rng.integers(0, 3, cells)] += 3
    made[:, 3] = 0
    return torch.from_numpy(np.float64(made))


def one_hot(labels, classes: int = CLASSES) -> torch.Tensor:
    return torch.eye(classes, dtype=torch.float64)[torch.as_tensor(labels)]


def delta(wrong: set[int], truth: set[int]) -> float:
    """Jaccard's loss of a class with pixels `truth` where those in `wrong` are mistaken."""
    return len(wrong) / len(truth | wrong) if wrong else 0.0


def extension(errors: np.ndarray, truth: set[int]) -> float:
    """Equations 8 and 9: a loop over errors from the largest, each times what its pixel adds."""
    order, found = sorted(range(len(errors)), key=lambda n: -errors[n]), 0.0
    for place, pixel in enumerate(order):
        step = delta(set(order[: place + 1]), truth) - delta(set(order[:place]), truth)
        found += errors[pixel] * step
    return found


@pytest.mark.parametrize("truth", [{0}, {1, 3}, {0, 1, 2}, {0, 1, 2, 3}])
def test_at_every_error_set_it_is_jaccards_loss(truth):
    """An extension agrees with its set function at corners, and is a hull in between."""
    labels = [0 if pixel in truth else 1 for pixel in range(4)]
    rng = np.random.default_rng(0)
    weights = torch.tensor([1.0, 0.0])
    for wrong in itertools.chain.from_iterable(
        itertools.combinations(range(4), n) for n in range(5)
    ):
        said = [1 - label if pixel in wrong else label for pixel, label in enumerate(labels)]
        found = lovasz_softmax(one_hot(said, 2), one_hot(labels, 2), weights)
        assert float(found) == pytest.approx(delta(set(wrong), truth), abs=1e-12)
    for _ in range(20):
        errors = rng.random(4)
        right = np.where([pixel in truth for pixel in range(4)], 1 - errors, errors)
        given = torch.from_numpy(np.stack([right, 1 - right], axis=1))
        found = lovasz_softmax(given, one_hot(labels, 2), weights)
        assert float(found) == pytest.approx(extension(errors, truth), abs=1e-12)


def test_ties_do_not_matter():
    given = torch.full((4, 2), 0.5, dtype=torch.float64)
    labels, weights = one_hot([0, 1, 1, 0], 2), torch.ones(2)
    found = [
        lovasz_softmax(given, labels[list(p)], weights) for p in itertools.permutations(range(4))
    ]
    assert np.ptp([float(each) for each in found]) < 1e-12


def test_errors_fall_and_equal_ones_keep_their_places():
    rng = np.random.default_rng(0)
    errors = np.float32(rng.choice([0.0, 1e-45, 1e-38, 1e-7, 0.25, 0.5, 1.0, 1.0000001], 5000))
    errors[:2000] = rng.random(2000)
    expected = sorted(range(len(errors)), key=lambda n: -errors[n])
    assert falling(torch.from_numpy(errors)).tolist() == expected
    assert falling(torch.from_numpy(np.float64(errors))).tolist() == expected


@pytest.mark.parametrize("dice", [False, True])
def test_of_predictions_without_doubt_it_is_the_objective(dice):
    """1 - IoU, or 1 - Dice, over classes with targets."""
    rng, wanted = np.random.default_rng(0), objective("dice" if dice else "vspw")
    for _ in range(10):
        truth, said = rng.integers(0, 3, (2, 30))
        surrogate = soft_dice if dice else lovasz_softmax
        found = surrogate(one_hot(said), one_hot(truth), torch.ones(CLASSES, dtype=torch.float64))
        matrix = np.zeros((CLASSES, CLASSES), np.int64)
        np.add.at(matrix, (truth, said), 1)
        assert float(found) == pytest.approx(1 - wanted.of(matrix[None]), abs=1e-12)


def test_soft_dice_is_a_loop():
    given, labels = scores().softmax(dim=1), counts()
    weights, total, found = [1.0, 0.0, 2.5, 1.0], 0.0, 0.0
    for c, weight in enumerate(weights):
        both = sum(float(given[n, c] * labels[n, c]) for n in range(CELLS))
        here = sum(float(labels[n, c]) for n in range(CELLS))
        said = sum(float(given[n, c] * labels[n].sum()) for n in range(CELLS))
        if here:
            found, total = found + weight * (1 - 2 * both / (here + said)), total + weight
    mine = soft_dice(given, labels, torch.tensor(weights, dtype=torch.float64))
    assert float(mine) == pytest.approx(found / total, abs=1e-12)


@pytest.mark.parametrize("name", ["vspw", "dice", "fwiou", "case-iou", "case-dice-monai"])
def test_a_cell_of_weight_three_is_three_cells(name):
    labels, case = counts(), torch.arange(CELLS) % 2
    times = torch.tensor([3, 1, 2, 1, 1, 4, 1, 1, 2])
    given, wanted = scores(), objective(name)
    once = Loss(labels * times[:, None], case, wanted, 1.0)(given)
    again = labels.repeat_interleave(times, 0), case.repeat_interleave(times)
    assert float(once) == pytest.approx(
        float(Loss(*again, wanted, 1.0)(given.repeat_interleave(times, 0)))
    )


@pytest.mark.parametrize("dice", [False, True])
def test_classes_count_by_their_weights(dice):
    """A class of weight 2 and one of weight 1; those not chosen, and those unseen, do not count."""
    kind, surrogate = ("dice", soft_dice) if dice else ("vspw", lovasz_softmax)
    wanted, given, labels = objective(kind, {1: 2.0, 2: 1.0, 3: 5.0}), scores(), counts()
    case = torch.zeros(CELLS, dtype=torch.int64)
    plain = Loss(labels, case, wanted, 0.0)(given)
    found = float(Loss(labels, case, wanted, 0.7)(given) - plain) / 0.7
    each = [float(surrogate(given.softmax(1), labels, torch.eye(4)[c])) for c in (1, 2)]
    assert found == pytest.approx((2 * each[0] + each[1]) / 3)
    assert each[0] != pytest.approx(each[1])


def test_frequent_classes_count_by_their_pixels():
    given, labels, case = scores(), counts(), torch.zeros(CELLS, dtype=torch.int64)
    rows = labels.sum(dim=0)
    loss = Loss(labels, case, objective("fwiou"), 1.0)(given) - Loss(
        labels, case, objective("fwiou"), 0.0
    )(given)
    expected = lovasz_softmax(given.softmax(1), labels, rows)
    assert float(loss) == pytest.approx(float(expected))


@pytest.mark.parametrize("name", ["case-iou", "case-dice-monai", "case-dice-nnunet"])
def test_cases_are_scored_apart(name):
    given, labels, wanted = scores(), counts(), objective(name)
    case = torch.tensor([0, 2, 0, 1, 1, 2, 2, 0, 1])
    surrogate = soft_dice if "dice" in name else lovasz_softmax
    loss = Loss(labels, case, wanted, 1.0)(given) - Loss(labels, case, wanted, 0.0)(given)
    each = [
        surrogate(given.softmax(1)[case == v], labels[case == v], torch.ones(4)) for v in range(3)
    ]
    assert float(loss) == pytest.approx(float(sum(each)) / 3)


def test_cross_entropy_is_the_mean_over_label_pixels():
    given, labels = scores(), counts()
    found, logs = 0.0, given - given.exp().sum(dim=1, keepdim=True).log()
    for n, c in itertools.product(range(CELLS), range(CLASSES)):
        found -= float(labels[n, c] * logs[n, c])
    loss = Loss(labels, torch.zeros(CELLS, dtype=torch.int64), objective("vspw"), 0.0)
    assert float(loss(given)) == pytest.approx(found / float(labels.sum()))


@pytest.mark.parametrize("name", ["vspw", "dice", "case-iou", "case-dice-monai"])
def test_gradients_are_finite_differences(name):
    loss = Loss(counts(), torch.arange(CELLS) % 3, objective(name), 1.0)
    assert torch.autograd.gradcheck(loss, scores().requires_grad_())
