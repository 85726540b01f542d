"""Bounds and certificates against dense evaluation."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.kernels import sweep
from fusion.kernels.native import build as compiled
from fusion.metrics import CONVENTIONS
from fusion.search.exact.certify import certify, upper_bound
from fusion.search.method import Problem
from fusion.search.result import Trial
from tests.search.simulated import condensed_of, problem, simplex, small, whole_of


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("levels", [0, 3, 16])
def test_bounds_hold_for_float32_labels(levels, slow, monkeypatch):
    if slow:
        monkeypatch.setattr(compiled, "library", lambda: None)
    for seed, groups in itertools.product(range(3), (2, 3)):
        condensed = small(groups, seed, 4, 100, levels)
        (parts,) = condensed.batches()
        drawn = np.random.default_rng(seed).dirichlet(np.ones(groups), groups)
        corners = drawn * 0.3 + 0.7 * np.eye(groups)[seed % groups]
        found = sweep.bound(parts, whole_of(condensed), corners)
        weights = simplex(groups, 60, seed) @ corners
        matrices = condensed.confusions(weights)
        inter, predicted = np.diagonal(matrices, axis1=1, axis2=2), matrices.sum(axis=1)
        assert (inter >= found.right).all()
        assert (inter <= found.right + found.gain).all()
        assert (predicted - inter >= found.wrong).all()
        for convention in CONVENTIONS:
            most = upper_bound(found, Problem(condensed, convention))
            assert condensed.miou(weights, convention).max() <= most


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("groups", [1, 2, 3])
def test_certificates_are_true(groups, convention):
    condensed = small(groups, seed=groups, pixels=150)
    start = Trial((1.0,) * groups, float(condensed.miou([[1.0] * groups], convention)[0]))
    done = certify(Problem(condensed, convention), start, gap=0.01)
    dense = condensed.miou(simplex(groups, 4000), convention).max()
    assert done.certificate["complete"]
    assert done.best.miou == condensed.miou([done.best.weights], convention)[0]
    assert dense <= done.certificate["upper_bound"]
    assert done.certificate["upper_bound"] - done.best.miou == done.certificate["gap"] <= 0.01


def test_a_certificate_can_be_interrupted_and_forgets_pixels_when_memory_is_short():
    condensed = small(pixels=400)
    start = Trial((1.0, 1.0, 1.0), float(condensed.miou([[1, 1, 1]])[0]))
    whole = certify(Problem(condensed), start, gap=0.005)
    first = certify(Problem(condensed), start, gap=0.05)
    assert 0 < first.certificate["boxes"] < whole.certificate["boxes"]
    state = json.loads(json.dumps(first.state))
    second = certify(Problem(condensed), first.best, gap=0.005, state=state)
    assert second.best == whole.best
    assert {**second.certificate, "seconds": 0} == {**whole.certificate, "seconds": 0}
    again = certify(Problem(replace(condensed, memory=0)), start, gap=0.005)
    upper = whole.certificate["upper_bound"]
    assert again.certificate["upper_bound"] == pytest.approx(upper, abs=1e-12)


def test_no_time_gives_no_knowledge():
    condensed = small()
    done = certify(Problem(condensed), Trial((1.0, 1.0, 1.0), 0.25), time_limit=0.0)
    assert done.certificate["upper_bound"] == 1.0
    assert done.certificate["gap"] == 0.75
    assert not done.certificate["complete"]


def test_what_cannot_be_certified():
    with pytest.raises(InputError, match="4 groups"):
        certify(Problem(small(4)), Trial((1.0,) * 4, 0.0))
    void = condensed_of(problem(3, 3, 20)[0], np.full(20, 255, np.uint8))
    with pytest.raises(InputError, match="0 scored pixels"):
        certify(Problem(void), Trial((1.0,) * 3, 0.0))
