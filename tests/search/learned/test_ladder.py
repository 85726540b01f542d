"""`auto` and heads: when it trains them, what it says where it does not, and the whole ladder."""

from __future__ import annotations

import numpy as np
import pytest

import fusion
from fusion.search.auto import EVIDENCE, FEWEST_UNITS, Auto
from fusion.search.held import FOUND, GROUP, MULTIPLIERS, SINGLE, UNIFORM, WEIGHTS, head_name
from fusion.search.learned import fit
from fusion.search.learned.method import Learned
from fusion.search.method import Facts

ENOUGH = Facts(folds=5, units=8, models=4, classes=4, pixels=EVIDENCE * 20, fusable=True)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"folds": 0}, "no heads without folds to judge them"),
        ({"units": 7}, "no heads for 7 units (below 8)"),
        ({"pixels": EVIDENCE * 20 - 1}, "no heads: 399 labelled pixels for 20 parameters"),
        ({"fusable": False}, "no heads: they need resize='probabilities' and mean='arithmetic'"),
    ],
)
def test_it_says_why_there_are_no_heads(changed, said):
    assert FEWEST_UNITS == 8
    assert Auto().beyond(ENOUGH) == (Learned(), "then heads over single models, on the same folds")
    heads, why = Auto().beyond(ENOUGH._replace(**changed))
    assert heads is None
    assert said in why


@pytest.mark.parametrize(
    ("options", "how", "said"),
    [
        ({}, {"folds": 3, "units": "drive[0-9]"}, "no heads for 4 units (below 8)"),
        ({}, {"folds": 0}, "no heads without folds"),
        ({}, {"folds": 2, "stride": 6}, "labelled pixels for 20 parameters of the smallest"),
        ({"resize": "logits"}, {"folds": 2}, "no heads: they need resize='probabilities'"),
        ({"mean": "geometric"}, {"folds": 2, "multipliers": False}, "and mean='arithmetic'"),
    ],
)
def test_a_search_without_heads_says_why(drives, options, how, said):
    ensemble, truth = drives
    ensemble = ensemble.regrouped(ensemble.groups, **options)
    found = ensemble.search(truth, "auto", climbs=1, gap=None, **how)
    assert said in found.notes["auto"]
    assert (found.head, found.rungs) == (None, {})
    assert "learned" not in found.notes


def test_the_whole_ladder(drives, tmp_path, monkeypatch):
    """Eight videos: every rung a contender, the simplest first, and one of them recommended."""
    monkeypatch.setattr(fit, "STEPS", 6)
    ensemble, truth = drives
    found = ensemble.search(truth, "auto", folds=3, climbs=1, gap=None)
    names = list(found.held_out.contenders)
    heads = [head_name(form) for form in ("log", "mix")]
    assert names == [UNIFORM, GROUP, SINGLE, WEIGHTS, MULTIPLIERS, *heads, FOUND]
    assert list(found.verdict.to_json()["held_out"]) == names
    assert list(found.rungs) == [MULTIPLIERS, *heads]
    assert found.verdict.recommended in names[:-1]
    assert "then heads over single models, on the same folds" in found.notes["auto"]
    scores = {name: found.held_out.contenders[name].score for name in found.rungs}
    best = max(scores, key=lambda name: scores[name])
    assert found.notes["rung"] == best
    assert float(found.held_out) == scores[best]
    for name, rung in found.rungs.items():
        assert (rung.head is None) == (name == MULTIPLIERS)
        labelled = {video: m.sum() for video, m in rung.scores.confusions.items()}
        assert labelled == {v: m.sum() for v, m in found.scores.confusions.items()}
        assert rung.scores.score == rung.ensemble.evaluate(truth).miou
    assert 0 < found.notes["picked"]["score"] < 1.01
    path = tmp_path / "recommended.json"
    found.rungs[heads[0]].ensemble.save(path)
    again = fusion.HierarchicalEnsemble.load(path)
    video = again.videos[0]
    assert again.head.units == tuple(f"net_{k}" for k in range(4))
    assert np.array_equal(again.predict(video), found.rungs[heads[0]].ensemble.predict(video))
