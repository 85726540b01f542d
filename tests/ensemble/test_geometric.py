"""Geometric means over groups: float64 products, on disk, in processes, and when searched."""

from __future__ import annotations

import hashlib
import json
import pickle

import numpy as np
import pytest

import fusion
from fusion.contested.load import has_maps
from fusion.errors import InputError
from fusion.labels import write_labels
from fusion.search import condense_ensemble, data_digest
from tests.ensemble.simulated import CLASSES, SIZE, VIDEOS


@pytest.fixture(scope="module")
def groups(stores):
    return {"strong": stores[:2], "weak": stores[2:4], "auxiliary": stores[4:]}


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    folder, draw = tmp_path_factory.mktemp("labels"), np.random.default_rng(3)
    for frame in VIDEOS["a"]:
        target = draw.integers(0, len(CLASSES) + 1, SIZE).astype(np.uint8)
        target[target == len(CLASSES)] = 255
        write_labels(folder / "a" / f"{frame}.png", target)
    return fusion.Labels.folder(folder)


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
@pytest.mark.parametrize("weights", [{}, {"weak": 1.4, "auxiliary": 0.3}, {"strong": 0.0}])
def test_equals_a_float64_product_of_the_groups(groups, resize, weights):
    how = {"resize": resize}
    ensemble = fusion.HierarchicalEnsemble(groups, weights, mean="geometric", **how)
    alone = [fusion.HierarchicalEnsemble({"g": stores}, **how) for stores in groups.values()]
    shares = np.array([weights.get(name, 1.0) for name in groups])
    for video in VIDEOS:
        p = np.stack([each.predict_proba(video) for each in alone]).astype(np.float64)
        powers = np.maximum(p, np.exp(-24.0)) ** (shares / shares.sum())[:, None, None, None, None]
        expected = powers.prod(axis=0)
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(ensemble.predict_proba(video), expected, atol=1e-5)
        top = np.sort(expected, axis=1)
        clear = top[:, -1] - top[:, -2] > 1e-4
        assert clear.mean() > 0.99
        labels = ensemble.predict(video)
        assert np.array_equal(labels[clear], expected.argmax(axis=1)[clear])


def test_one_group_has_the_labels_of_its_arithmetic_mean(stores):
    plain = fusion.HierarchicalEnsemble({"g": stores})
    geometric = plain.regrouped(plain.groups, mean="geometric")
    assert (geometric.predict("a") == plain.predict("a")).mean() > 0.999
    np.testing.assert_allclose(geometric.predict_proba("a"), plain.predict_proba("a"), atol=1e-5)


def test_is_kept_and_shown(groups, tmp_path):
    ensemble = fusion.HierarchicalEnsemble(groups, {"weak": 1.4}, mean="geometric")
    ensemble.save(tmp_path / "best.json")
    for same in (
        fusion.HierarchicalEnsemble.load(tmp_path / "best.json"),
        pickle.loads(pickle.dumps(ensemble)),
        ensemble.with_weights(ensemble.weights),
        ensemble.regrouped(ensemble.groups, ensemble.weights),
    ):
        assert same.mean == "geometric"
        assert np.array_equal(same.predict("a"), ensemble.predict("a"))
    assert repr(ensemble).endswith("resize='probabilities', mean='geometric')")
    assert "mean" not in repr(ensemble.regrouped(ensemble.groups, mean="arithmetic"))
    lines = "\n".join(f"{name} = {[str(p) for p in paths]}" for name, paths in groups.items())
    toml = tmp_path / "ensemble.toml"
    for said, mean in (('mean = "geometric"\n', "geometric"), ("", "arithmetic")):
        toml.write_text(f"{said}[groups]\n{lines}\n")
        assert fusion.HierarchicalEnsemble.load(toml).mean == mean
    with pytest.raises(InputError, match=r"mean: got 'median'; choose one of \('arithmetic'"):
        fusion.HierarchicalEnsemble(groups, mean="median")


def test_files_without_a_mean_are_arithmetic(groups, tmp_path):
    path = tmp_path / "best.json"
    fusion.HierarchicalEnsemble(groups).save(path)
    document = json.loads(path.read_text())
    del document["mean"], document["sha256"]
    path.write_text(json.dumps(document))
    assert fusion.HierarchicalEnsemble.load(path).mean == "arithmetic"


def test_memory_changes_nothing(groups):
    roomy = fusion.HierarchicalEnsemble(groups, mean="geometric")
    tight = roomy.regrouped(roomy.groups, memory=30_000)
    assert len(tight.plan("a").bands) > 1
    assert np.array_equal(roomy.predict("a"), tight.predict("a"))
    assert np.array_equal(roomy.predict_proba("a"), tight.predict_proba("a"))


def test_contested_pixels_count_what_evaluate_counts(groups, truth):
    """Cell for cell at random weights, groups of weight 0 among them."""
    ensemble = fusion.HierarchicalEnsemble(groups, mean="geometric")
    condensed = condense_ensemble(ensemble, truth)
    assert 0 < condensed.fraction < 1
    draw = np.random.default_rng(0)
    vectors = draw.uniform(0, 2, (12, 3)) * (draw.random((12, 3)) < 0.8)
    for vector in [*vectors[vectors.any(axis=1)], [0, 0, 1], [1, 1, 1]]:
        weights = dict(zip(groups, map(float, vector), strict=True))
        scores = ensemble.with_weights(weights).evaluate(truth)
        assert np.array_equal(condensed.confusion(vector)[0], scores.confusions["a"])


@pytest.mark.parametrize("method", ["grid", "greedy", "exact", "optuna"])
def test_methods_find_what_evaluate_gives(groups, truth, method):
    options = {"trials": 8} if method == "optuna" else {}
    ensemble = fusion.HierarchicalEnsemble(groups, mean="geometric")
    found = ensemble.search(truth, method, **options)
    assert found.ensemble.mean == "geometric"
    assert found.miou == found.ensemble.evaluate(truth).miou
    if method == "exact":
        assert found.certificate["upper_bound"] >= found.miou
        assert found.miou >= ensemble.search(truth, "grid").miou


def test_digests_tell_the_means_apart(groups, truth):
    plain = fusion.HierarchicalEnsemble(groups)
    geometric = plain.regrouped(plain.groups, mean="geometric")
    assert data_digest(plain, truth) != data_digest(geometric, truth)
    members = {name: [(s.digest(["a"]), 1.0) for s in all_] for name, all_ in plain.groups.items()}
    document = [members, list(members), "probabilities", truth.digest(["a"]), 1]  # as of 0.1.0
    known = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    assert data_digest(plain, truth) == known


def test_multipliers_and_maps_are_not_for_geometric_means(groups, truth):
    message = r"multipliers: mean='geometric' takes none; use mean='arithmetic'"
    geometric = fusion.HierarchicalEnsemble(groups, mean="geometric")
    with pytest.raises(InputError, match=message):
        geometric.with_multipliers(dict.fromkeys(CLASSES, 1.0) | {CLASSES[0]: 2.0})
    with pytest.raises(InputError, match=message):
        condense_ensemble(geometric, truth, reach=2.0)
    singles = geometric.singles()
    assert has_maps(singles.regrouped(singles.groups, mean="arithmetic"), truth)
    assert not has_maps(singles, truth)
    with pytest.raises(InputError, match="native means: the geometric mean of interpolated groups"):
        singles.native_means("a", ["f1"])
    found = singles.search(truth, "greedy")
    assert found.miou == found.ensemble.evaluate(truth).miou
