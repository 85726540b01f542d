"""`auto` and heads: when it trains them, what it says where it does not, and the whole ladder."""

from __future__ import annotations

import numpy as np
import pytest

import fusion
from fusion.labels import write_labels
from fusion.search.auto import EVIDENCE, FEWEST_UNITS, Auto
from fusion.search.held import FOUND, GROUP, MULTIPLIERS, SINGLE, UNIFORM, WEIGHTS, head_name
from fusion.search.learned import fit
from fusion.search.learned.method import Learned
from fusion.search.method import Facts
from fusion.search.run import Run
from tests.ensemble.test_heads import head_of

ENOUGH = Facts(folds=5, units=8, models=4, classes=4, pixels=EVIDENCE * 20, fusable=True)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"folds": 0}, "no heads without folds to judge them"),
        ({"units": 7}, "no heads for 7 units (below 8)"),
        ({"pixels": EVIDENCE * 20 - 1}, "no heads: 399 labelled pixels for 20 parameters"),
        ({"fusable": False}, "no heads: they need resize='probabilities', mean='arithmetic'"),
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
        ({"mean": "geometric"}, {"folds": 2, "multipliers": False}, "mean='arithmetic'"),
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
    assert names == [UNIFORM, SINGLE, GROUP, WEIGHTS, MULTIPLIERS, *heads, FOUND]
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
    path = tmp_path / "recommended.json"
    found.rungs[heads[0]].ensemble.save(path)
    again = fusion.HierarchicalEnsemble.load(path)
    video = again.videos[0]
    assert again.head.units == tuple(f"net_{k}" for k in range(4))
    assert np.array_equal(again.predict(video), found.rungs[heads[0]].ensemble.predict(video))


def test_a_head_sees_in_training_what_it_will_see(tmp_path):
    """Sure networks: most classes are less likely than a step of the maps that weights sum."""
    rng, names = np.random.default_rng(0), [f"c{c}" for c in range(5)]
    truth, stores = rng.normal(0, 8, (5, 12, 16)), {}
    for m in range(3):
        path = tmp_path / f"m{m}.zarr"
        with (
            fusion.LogitWriter(path, names) as writer,
            writer.video("v", frames=["0"], size=(12, 16)) as out,
        ):
            out.append(truth + rng.normal(0, 4, truth.shape))
        stores[f"m{m}"] = [path]
    write_labels(tmp_path / "labels" / "v" / "0.png", truth.argmax(axis=0).astype(np.uint8))
    ensemble, labels = (
        fusion.HierarchicalEnsemble(stores),
        fusion.Labels.folder(tmp_path / "labels"),
    )
    problem = Run(ensemble, labels, mapped=True).problem
    ((frames,),) = (video.frames() for video in problem.cells().maps.pixels)
    rare = frames.maps < 2.0**-25
    assert 0.2 < rare.mean() < (frames.maps < 2.0**-20).mean()
    assert (frames.maps[rare] > 0).all()
    head = head_of(stores, classes=names)
    ((made,),) = (video.frames() for video in problem.under(head).condensed.pixels)
    served = ensemble.with_head(head)
    np.testing.assert_allclose(made.maps[:, 0], served.predict_proba("v"), atol=1e-5)
    assert problem.under(head).scores([1.0]).score == served.evaluate(labels).miou
    plain = Run(ensemble, labels).over_models.condensed  # what weights are counted on
    assert problem.condensed.confusion([1, 2, 1]).tolist() == plain.confusion([1, 2, 1]).tolist()
