"""Greedy selection against a loop over full probabilities, and its edge cases."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion.errors import InputError
from fusion.kernels.average import naive
from fusion.kernels.confusion import naive as counting
from fusion.metrics import miou
from fusion.search.greedy import PATIENCE, Greedy
from fusion.search.method import Problem, Workspace
from tests.search.simulated import condensed_of, problem


def mixed(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [M, C, P] of models of mixed quality, the best one anywhere, and targets."""
    means, targets = problem(count, 4, 400, seed)
    return means[np.random.default_rng(seed).permutation(count)], targets


def score(means: np.ndarray, targets: np.ndarray, counts: list[float]) -> float:
    labels = naive.argmax(naive.combine(torch.tensor(means), counts))
    return float(miou(counting.confusion(torch.tensor(targets), labels, means.shape[1]).numpy()))


@pytest.mark.parametrize("seed", range(3))
def test_equals_a_plain_loop(seed):
    means, targets = mixed(5, seed)
    counts, trajectory = [0.0] * 5, []
    for _ in range(8):
        tried = []
        for model in range(5):
            more = [count + (index == model) for index, count in enumerate(counts)]
            tried.append((score(means, targets, more), more))
        best, counts = max(tried, key=lambda pair: pair[0])  # the first of equals
        trajectory.append((tuple(counts), best))
    found = Greedy(steps=8).search(Problem(condensed_of(means, targets, 1)))
    assert [(trial.weights, trial.miou) for trial in found.history] == trajectory
    assert found.miou == max(best for _, best in trajectory)
    assert found.vector == next(weights for weights, best in trajectory if best == found.miou)
    assert found.miou >= max(score(means, targets, row) for row in np.eye(5).tolist())


def test_equal_models_choose_the_first_and_stop():
    means, targets = mixed(1)
    found = Greedy().search(Problem(condensed_of(np.repeat(means, 3, axis=0), targets)))
    assert found.vector == (1.0, 0.0, 0.0)
    assert len(found.history) == PATIENCE + 1


def test_progress_and_bad_steps():
    means, targets = mixed(2)
    seen = []

    def progress(items, description, total):
        seen.append((description, total))
        return items

    Greedy(steps=3).search(Problem(condensed_of(means, targets, 1)), Workspace(progress))
    assert seen == [("greedy", 3)]
    with pytest.raises(InputError, match="steps is 0"):
        Greedy(steps=0)
