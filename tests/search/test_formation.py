"""Single models, groups formed of them, the ladder, contributions: against real ensembles."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fusion
from fusion.errors import InputError
from fusion.search import condense_ensemble
from fusion.search.formation import (
    auto_groups,
    best_coarse,
    choose_formation,
    filled,
    model_contributions,
    score_models,
)
from fusion.search.ladder import formula, group_rungs
from fusion.search.method import Problem
from tests.samples import VIDEOS
from tests.search.simulated import groups_of, videos


def test_ladder_rows_equal_ensembles_of_fewer_groups(data, ensemble, truth):
    splits = {"val": Problem(condense_ensemble(ensemble, truth))}
    rungs = group_rungs(splits, [1.0, 0.5, 2.0])
    assert list(rungs) == [
        "P_strong",
        "P_strong + 0.5 P_weak",
        "P_strong + 0.5 P_weak + 2 P_auxiliary",
        "uniform weights",
        "the paper's weights: P_strong + 1.4 P_weak + P_auxiliary",
    ]
    groups, weights = groups_of(data), {"strong": 1.0, "weak": 0.5, "auxiliary": 2.0}
    for count, found in enumerate(list(rungs.values())[:3], start=1):
        part, used = (dict(itertools.islice(d.items(), count)) for d in (groups, weights))
        alone = fusion.HierarchicalEnsemble(part, used).evaluate(truth)
        assert found["val"].miou == alone.miou
        for video in VIDEOS:
            assert np.array_equal(found["val"].confusions[video], alone.confusions[video])
    assert formula(["a", "b"], [0.0, 1.5]) == "1.5 P_b"
    assert formula(list("abcdefg"), [0.0, 1.5, 1, 0, 0, 0, 0]) == "weights found, 2 of 7"
    assert list(group_rungs(splits, [1.0, 0.0, 0.0]))[:2] == ["P_strong", "uniform weights"]


def test_single_models_equal_ensembles_of_one(ensemble, truth):
    scores = score_models(ensemble, truth)
    assert list(scores) == sorted(scores, key=lambda name: -scores[name].miou)
    for store in ensemble.stores:
        alone = fusion.HierarchicalEnsemble({"g": [store]}).evaluate(truth)
        assert scores[store.model].miou == alone.miou


def test_auto_groups_ranks_as_the_paper_does():
    miou = {"n1": 0.5, "n2": 0.7, "n3": 0.6, "n4": 0.7, "o1": 0.2, "o2": 0.4, "o3": 0.3}
    groups = auto_groups(["n1", "n2", "n3", "n4"], ["o1", "o2", "o3"], miou, strong=2, auxiliary=2)
    assert groups == {"strong": ["n2", "n4"], "weak": ["n3", "n1"], "auxiliary": ["o2", "o3"]}
    assert auto_groups(["n1", "n2"], [], miou, strong=2, auxiliary=0) == {"strong": ["n2", "n1"]}
    with pytest.raises(InputError, match="basic family has 1 models, 3 asked for"):
        auto_groups(["n1"], [], miou, auxiliary=0)
    with pytest.raises(InputError, match="'n1' is in both families"):
        auto_groups(["n1"], ["n1"], miou, strong=1, auxiliary=1)


def test_formation_and_contributions_equal_real_ensembles(ensemble, truth):
    singles = Problem(condense_ensemble(ensemble.singles(), truth))
    ranked = list(score_models(ensemble, truth))
    basic, other = ([name for name in ranked if family in name] for family in ("net", "other"))
    store_of, merit = {store.model: store for store in ensemble.stores}, {}
    for sizes in itertools.product(range(1, len(basic) + 1), range(len(other) + 1)):
        groups = filled(basic, other, *sizes)
        coarse = best_coarse(singles, groups)
        weights = dict(zip(("strong", "weak", "auxiliary"), coarse.weights, strict=True))
        stores = {name: [store_of[m] for m in group] for name, group in groups.items()}
        real = ensemble.regrouped(stores, {name: weights[name] for name in groups}).evaluate(truth)
        # other order of sums: a near tie may fall otherwise
        assert coarse.miou == pytest.approx(real.miou, abs=2e-3)
        merit[sizes] = coarse.miou
    assert len(merit) == 4 * 3
    chosen = choose_formation(singles, basic, other)
    equals = [sizes for sizes, miou in merit.items() if miou == max(merit.values())]
    assert chosen == min(equals, key=sum)
    groups = {name: [store.model for store in stores] for name, stores in ensemble.groups.items()}
    weights = {"strong": 1.0, "weak": 0.0, "auxiliary": 2.0}
    added = model_contributions(singles, groups, weights)
    assert sorted(added) == sorted(groups["strong"] + groups["auxiliary"])
    whole = ensemble.with_weights(weights).evaluate(truth).miou
    for model, value in added.items():
        rest = {n: [store_of[m] for m in group if m != model] for n, group in groups.items()}
        without = ensemble.regrouped(rest, weights).evaluate(truth).miou
        assert value == pytest.approx(whole - without, abs=4e-3)
    assert np.isnan(model_contributions(singles, {"g": [basic[0]]}, {"g": 1.0})[basic[0]])


def test_contributions_by_hand():
    condensed = videos()
    alone = {name: [name] for name in condensed.groups}
    weights = dict(zip(condensed.groups, [1.0, 2.0, 3.0], strict=True))
    added = model_contributions(Problem(condensed), alone, weights)
    whole, *rest = condensed.miou([[1, 2, 3], [0, 2, 3], [1, 0, 3], [1, 2, 0]])
    assert added == dict(zip(condensed.groups, whole - rest, strict=True))
    assert max(added, key=added.__getitem__) == "g2"
    only = model_contributions(Problem(condensed), alone, {"g0": 0.0, "g1": 1.0, "g2": 0.0})
    assert list(only) == ["g1"]
    assert np.isnan(only["g1"])
