"""The grid against evaluating every point with the ensemble itself."""

from __future__ import annotations

import itertools

import pytest

import fusion
from fusion.errors import InputError
from fusion.search.grid import grid_axes
from tests.search.simulated import groups_of


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
@pytest.mark.parametrize("convention", ["vspw", "union", "all"])
def test_grid_equals_evaluating_every_point(data, truth, resize, convention):
    ensemble = fusion.HierarchicalEnsemble(groups_of(data), resize=resize)
    ranges = {"weak": (0.0, 2.0, 1.0), "auxiliary": (0.5, 1.5, 0.5)}
    found = ensemble.search(truth, "grid", ranges=ranges, convention=convention)
    expected = {}
    for alpha, beta in itertools.product((0.0, 1.0, 2.0), (0.5, 1.0, 1.5)):
        other = ensemble.with_weights({"strong": 1.0, "weak": alpha, "auxiliary": beta})
        expected[1.0, alpha, beta] = other.evaluate(truth, convention=convention).miou
    assert {trial.weights: trial.miou for trial in found.history} == expected
    assert found.miou == max(expected.values())
    assert expected[found.vector] == found.miou
    assert found.ensemble.evaluate(truth, convention=convention).miou == found.miou


def test_default_grid_is_the_papers(ensemble, truth):
    found = ensemble.search(truth)
    assert len(found.history) == 441
    tried = zip(*(trial.weights for trial in found.history), strict=True)
    first, alpha, beta = map(set, tried)
    assert (first, alpha) == ({1.0}, {round(0.1 * k, 1) for k in range(21)})
    assert alpha == beta
    assert (1.0, 1.4, 1.0) in {trial.weights for trial in found.history}


def test_grid_axes():
    assert grid_axes(["a", "b"], {"b": (0, 0.3, 0.1)}) == [[1.0], [0.0, 0.1, 0.2, 0.3]]
    assert grid_axes(["a", "b"], {"a": (0, 1, 0.5), "b": (2, 2, 1)}) == [[0.0, 0.5, 1.0], [2.0]]
    for bad in ((1, 0, 0.1), (-1, 1, 0.5), (0, 1, 0), (0, float("inf"), 1)):
        with pytest.raises(InputError, match="give first:last:step"):
            grid_axes(["a", "b"], {"b": bad})
    with pytest.raises(InputError, match="points over 6 groups"):
        grid_axes(list("abcdef"), {})
