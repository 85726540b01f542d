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
from fusion.search.result import best_trial
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


def test_patience_ends_after_so_many_steps_without_a_new_best():
    condensed = condensed_of(*mixed(5))
    whole = Greedy(steps=20, patience=20).search(Problem(condensed)).history
    assert len(whole) == 20
    for patience in (1, 2, 4):
        found = Greedy(steps=20, patience=patience).search(Problem(condensed)).history
        assert found == whole[: len(found)]
        best = found.index(best_trial(found))
        assert best + patience + 1 == len(found)
        assert all(found[k + 1].miou <= found[best].miou for k in range(best, len(found) - 1))


@pytest.mark.parametrize("start", [2, 3, 9])
def test_the_best_models_begin_together(start):
    condensed = condensed_of(*mixed(5))
    singles = condensed.miou(np.eye(5))
    best = np.argsort(-singles, kind="stable")[:start]
    found = Greedy(steps=6, start=start).search(Problem(condensed)).history
    together = tuple(float(m in best) for m in range(5))
    assert [sum(trial.weights) for trial in found] == [1, *range(len(best), len(best) + 6)]
    assert found[0].weights == tuple(np.eye(5)[best[0]])
    assert found[1].weights == together
    assert all(trial.weights[m] >= together[m] for trial in found[1:] for m in range(5))


def test_bags_average_selections_among_halves_of_the_models():
    weighed, rng = Problem(condensed_of(*mixed(5)), seed=4), np.random.default_rng(4)
    total = np.zeros(5)
    for _ in range(3):
        bag = np.sort(rng.permutation(5)[:3])
        means, targets = mixed(5)
        alone = Greedy(steps=6).search(Problem(condensed_of(means[bag], targets)))
        total[bag] += np.array(alone.vector) / sum(alone.vector)
    found = Greedy(steps=6, bags=3).search(weighed)
    assert found.vector == pytest.approx(total / 3)
    assert len(found.history) == 1
    assert Greedy(steps=6, bags=3).search(Problem(weighed.condensed, seed=5)).vector != found.vector
