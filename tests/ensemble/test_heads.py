"""Ensembles with a head: against float64, whatever the groups, and what does not go with one."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import fusion
from fusion.ensemble.heads import HEADS, Head
from fusion.ensemble.heads.mix import Mix
from fusion.errors import InputError
from tests.ensemble.simulated import CLASSES, NATIVE, SIZE, VIDEOS, make_store
from tests.ensemble.test_ensemble import resize64, softmax64

RAISED = (1.0, 4.0, 0.25, 2.0, 1.0)


def head_of(units, form: str = "mix", seed: int = 0, classes=CLASSES) -> Head:
    """What training might find: near the mean, every parameter moved."""
    kind, rng = HEADS[form], np.random.default_rng(seed)
    start = kind.start(len(units), len(classes), None)
    moved = {n: a + rng.normal(0, 0.2, a.shape).astype(np.float32) for n, a in start.items()}
    return kind(tuple(units), tuple(classes), moved)


def plain(groups, head, video, frame, native=NATIVE, temperatures=()) -> np.ndarray:
    """The head in float64, [C, H, W]."""
    shape = (len(head.classes), *native)
    total = np.broadcast_to(np.float64(head.bias)[:, None, None], shape).copy()
    for unit, mixing in zip(head.units, np.float64(head.full_mixing), strict=True):
        mean = np.zeros(shape)
        for path in groups[unit]:
            store = fusion.LogitStore(path)
            values = store.read(video, [frame])[0].astype(np.float64)
            if store.values != "scores":
                values = softmax64(values / dict(temperatures).get(store.model, 1.0))
            mean += resize64(values, native) / len(groups[unit])
        total += np.tensordot(mixing, np.log(np.maximum(mean, np.exp(-24.0))), 1)
    return resize64(softmax64(total), SIZE)


def check(ensemble, groups, native=NATIVE, temperatures=()) -> None:
    """Probabilities and labels of all videos."""
    for video, frames in VIDEOS.items():
        found, labels = ensemble.predict_proba(video), ensemble.predict(video)
        how = (native, temperatures)
        expected = np.stack([plain(groups, ensemble.head, video, f, *how) for f in frames])
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
        assert np.array_equal(labels, found.argmax(axis=1))
        assert len(np.unique(labels)) > 2


@pytest.fixture(scope="module")
def single(stores):
    return {f"g{k}": [store] for k, store in enumerate(stores)}


@pytest.mark.parametrize("form", HEADS)
def test_single_models_equal_float64(single, form):
    check(fusion.HierarchicalEnsemble(single, head=head_of(single, form)), single)


@pytest.mark.parametrize("form", HEADS)
def test_groups_are_means_of_their_models(stores, form):
    groups = {"s": stores[:2], "w": stores[2:], "again": stores[1:3]}
    check(fusion.HierarchicalEnsemble(groups, head=head_of(groups, form)), groups)


def test_temperatures_come_first(single):
    given = {"m1": 2.0, "m3": 0.5}
    ensemble = fusion.HierarchicalEnsemble(single, head=head_of(single), temperatures=given)
    check(ensemble, single, temperatures=tuple(given.items()))


@pytest.mark.parametrize("grouped", [False, True])
def test_kinds_and_resolutions_mix_on_the_finest_grid(tmp_path, grouped):
    paths = [
        make_store(tmp_path / "fine.zarr", 1, native=(9, 12)),
        make_store(tmp_path / "exact.zarr", 2, profile="exact"),
        make_store(tmp_path / "scores.zarr", 3, values="scores", profile="exact"),
    ]
    groups = {"all": paths, "some": paths[1:]} if grouped else {p.stem: [p] for p in paths}
    ensemble = fusion.HierarchicalEnsemble(groups, head=head_of(groups))
    assert ensemble.grid("a") == (9, 12)
    check(ensemble, groups, native=(9, 12))


def test_a_head_that_starts_is_the_geometric_mean(tmp_path, single):
    """At label size there is nothing to interpolate, before or after."""
    groups = {f"g{k}": [make_store(tmp_path / f"{k}.zarr", k, native=SIZE)] for k in range(3)}
    start = Mix(tuple(groups), tuple(CLASSES), Mix.start(3, len(CLASSES), None))
    mine = fusion.HierarchicalEnsemble(groups, head=start)
    theirs = fusion.HierarchicalEnsemble(groups, mean="geometric")
    np.testing.assert_allclose(mine.predict_proba("a"), theirs.predict_proba("a"), atol=1e-5)


def test_multipliers_apply_to_what_it_makes(single):
    head = head_of(single)
    without = fusion.HierarchicalEnsemble(single, head=head)
    ensemble = without.with_multipliers(RAISED)
    for video in ensemble.videos:
        fused, labels = without.predict_proba(video), ensemble.predict(video)
        scores = fused * (np.array(RAISED, np.float32) / 4)[:, None, None]
        assert np.array_equal(ensemble.predict_proba(video), fused)
        assert np.array_equal(labels, scores.argmax(axis=1))
        assert not np.array_equal(labels, without.predict(video))
    assert ensemble.head == head


def test_a_frame_bands_and_order_change_no_bit(single):
    head = head_of(single)
    ensemble = fusion.HierarchicalEnsemble(single, head=head)
    tight = ensemble.plan("a", ["probabilities"])
    least = 5 * (5 * 48 * 5 + 2 * 2 * 32 * 8)
    small = ensemble.regrouped(ensemble.groups, memory=least)
    assert len(small.plan("a", ["probabilities"]).bands) > len(tight.bands) == 1
    turned = fusion.HierarchicalEnsemble(dict(reversed(single.items())), head=head)
    for video, frames in VIDEOS.items():
        whole = ensemble.predict_proba(video)
        assert np.array_equal(ensemble.predict_proba(video, frames[1:2]), whole[1:2])
        for other in (small, turned):
            assert np.array_equal(other.predict_proba(video), whole)
            assert np.array_equal(other.predict(video), ensemble.predict(video))
    assert list(turned.groups) == list(head.units)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"weights": {"g1": 2.0}}, "got weights beside it; a head has its own, give none"),
        ({"mean": "geometric"}, "mean='geometric', resize='probabilities'; use 'arithmetic'"),
        ({"resize": "logits"}, "resize='logits'; use 'arithmetic' and 'probabilities'"),
    ],
)
def test_what_does_not_go_with_a_head(single, options, said):
    with pytest.raises(InputError, match=f"^head: .*{said}"):
        fusion.HierarchicalEnsemble(single, head=head_of(single), **options)
    fusion.HierarchicalEnsemble(single, dict.fromkeys(single, 3.0), head=head_of(single))


def test_heads_of_other_units_and_classes_are_refused(single):
    wrong = {
        head_of([*list(single)[:4], "g7"]): "trained on 5 units, the ensemble lacks g7; give",
        head_of(list(single)[:4]): "trained on 4 units, the head lacks g4",
        head_of(single, classes=CLASSES[:3]): "5 |other classes .3 of them, stores have 5",
        head_of(single, classes=["x", *CLASSES[1:]]): "'x' where stores have 'class 0'",
    }
    for head, said in wrong.items():
        with pytest.raises(InputError, match=f"^head: .*({said})"):
            fusion.HierarchicalEnsemble(single, head=head)


def test_it_is_shown_sent_and_taken_off(single):
    head = head_of(single, "log")
    ensemble = fusion.HierarchicalEnsemble(single, head=head, multipliers=RAISED)
    assert "Ensemble(Log(5 units, 5 classes, 30 parameters); multipliers" in repr(ensemble)
    sent = pickle.loads(pickle.dumps(ensemble))
    assert sent.head == head
    assert np.array_equal(sent.predict("a"), ensemble.predict("a"))
    assert np.array_equal(sent.predict_proba("a"), ensemble.predict_proba("a"))
    without = fusion.HierarchicalEnsemble(single)
    for plain_one in (ensemble.plain(), ensemble.singles(), ensemble.with_head(None)):
        assert plain_one.head is None
        assert np.array_equal(plain_one.predict("a"), without.predict("a"))
    again = without.with_head(head)
    assert np.array_equal(again.predict_proba("a"), ensemble.predict_proba("a"))
