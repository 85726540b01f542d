"""`fusion.search_weights`: what a search over stores and label files finds, from arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fusion
from fusion.errors import InputError
from fusion.labels import write_labels

N, C, NATIVE, SIZE = 6, 3, (8, 10), (16, 20)
NAMES = ["sky", "road", "car"]
QUICK = {"method": "grid", "folds": 2, "ranges": {"1": (0, 2, 1), "2": (0, 2, 1)}}


def truth(size=SIZE) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, C, (N, *NATIVE))
    step = size[0] // NATIVE[0]
    labels = coarse.repeat(step, 1).repeat(step, 2).astype(np.uint8)
    labels[:, 0] = 255
    return labels


def models() -> list[np.ndarray]:
    """float16 logits of three models, each worse than the one before."""
    signal = 2.0 * np.eye(C)[np.minimum(truth(NATIVE), C - 1)].transpose(0, 3, 1, 2)
    draw = np.random.default_rng(1)
    return [(signal + draw.normal(0, s, signal.shape)).astype(np.float16) for s in (1, 1.5, 3)]


def searched(*given, **options):
    return fusion.search_weights(*given, values="logits", **{**QUICK, **options})


@pytest.fixture(scope="module")
def found():
    return searched(models(), truth(), classes=NAMES)


def test_finds_what_a_search_over_stores_finds(found, tmp_path):
    ids, labels = [f"{n:04d}" for n in range(N)], truth()
    for m, logits in enumerate(models()):
        writer = fusion.LogitWriter(tmp_path / f"{m}.zarr", NAMES, "exact")
        for unit, frame in zip(ids, logits, strict=True):
            with writer.video(unit, frames=[unit], size=SIZE) as out:
                out.append(frame)
    for unit, target in zip(ids, labels, strict=True):
        write_labels(tmp_path / "labels" / unit / f"{unit}.png", target)
    ensemble = fusion.HierarchicalEnsemble(f"{tmp_path}/*.zarr")
    expected = ensemble.search(fusion.Labels.folder(tmp_path / "labels"), **QUICK)
    assert found.weights == expected.weights
    assert found.weights["0"] > found.weights["2"]
    assert found.miou == expected.miou
    assert float(found.held_out) == float(expected.held_out)
    assert found.ensemble.classes == tuple(NAMES)
    for unit in ids:
        assert np.array_equal(found.ensemble.predict(unit), expected.ensemble.predict(unit))


def test_every_form_of_the_same_arrays_finds_the_same(found):
    given, labels = models(), truth()
    ids = [f"{n:04d}" for n in range(N)]
    as_units = [dict(zip(ids, array, strict=True)) for array in given]
    wide = np.where(labels == 255, -100, labels.astype(np.int64))
    forms = [
        ([torch.from_numpy(a) for a in given], torch.from_numpy(labels)),
        (as_units, dict(zip(ids, labels, strict=True))),
        ([list(a) for a in given], list(labels)),
        ({"0": given[0], "1": as_units[1], "2": list(given[2])}, labels),
    ]
    for predictions, targets in forms:
        assert searched(predictions, targets).history == found.history
    other = searched(given, wide, ignore=-100, names=["0", "1", "2"])
    assert other.history == found.history
    void_free = labels[:, 1:]
    assert searched([a[:, :, 1:] for a in given], void_free, ignore=None).miou > 0


def test_images_of_one_name_are_held_out_together():
    given, labels = models(), truth()
    patients = ["b", "a", "b", "c", "a", "a"]
    found = searched(given, labels, units=patients, folds=3)
    assert found.ensemble.videos == ("a", "b", "c")
    assert found.ensemble.frames("a") == ("0001", "0004", "0005")
    assert set(found.units.values()) == {"a", "b", "c"}
    members = {u: [n for n, p in enumerate(patients) if p == u] for u in "abc"}
    clips = [{u: array[at] for u, at in members.items()} for array in given]
    same = searched(clips, {u: labels[at] for u, at in members.items()}, folds=3)
    assert same.history == found.history
    assert float(same.held_out) == float(found.held_out)
    with pytest.warns(UserWarning, match="at the bound"):
        fitted = searched(given, labels, temperatures="fit", units=np.array([0, 0, 1, 1, 2, 2]))
    assert fitted.ensemble.videos == ("0", "1", "2")
    by_frame = searched(clips, {u: labels[at] for u, at in members.items()}, units="frames")
    assert len(set(by_frame.units.values())) == N


def test_units_without_labels_are_predicted_and_not_scored(found):
    given, labels = models(), truth()
    ids = [f"{n:04d}" for n in range(N)]
    some = dict(list(zip(ids, labels, strict=True))[:4])
    part = searched(given, some)
    assert len(part.scores.confusions) == 4
    assert part.ensemble.videos == tuple(ids)
    assert part.ensemble.size(ids[5]) == NATIVE


def test_copies_live_on(found):
    given = models()
    mine = searched(given, truth())
    for array in given:
        array[...] = 0
    assert np.array_equal(mine.ensemble.predict("0000"), found.ensemble.predict("0000"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": truth() * 3}, r"labels: unit '0000' holds .* outside 0..2; correct it"),
        (
            {"labels": truth().astype(float)},
            "labels: unit '0000': got dtype float64",
        ),
        ({"labels": truth()[:, 0]}, r"labels: arrays: got shape \[6, 20\]; give 3 axes"),
        ({"labels": {"x": truth()[0]}}, r"labels .*'x'"),
        ({"labels": {"0000": truth()[0, 0]}}, r"unit '0000' has shape \[20\]; give 2 axes, or 3"),
        ({"predictions": [models()[0][0]]}, r"model '0': arrays: got shape \[3, 8, 10\]"),
        ({"predictions": models()[0]}, "got a ndarray; give a list of arrays"),
        ({"names": ["a", "b"]}, "names: got 2 names, 2 different, of 3 predictions"),
        ({"names": ["a", "b", "a"]}, "names: got 3 names, 2 different"),
        ({"units": ["a"]}, "units: got 1 names for 6 images of model '0'"),
        (
            {"classes": ["a"]},
            r"0: video '0000', frame '0000': got shape .*, expected \[1",
        ),
        ({"method": "best"}, "method: "),
        ({"depth": 3}, "options .'depth'. unknown to 'grid'"),
    ],
)
def test_mistakes_are_one_sentence(change, message):
    given = {"predictions": models(), "labels": truth(), **change}
    with pytest.raises(InputError, match=message):
        searched(given.pop("predictions"), given.pop("labels"), **given)


def test_a_class_is_never_taken_for_void():
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(2, 2, 300, 4, 4)), draw.integers(0, 300, (2, 4, 4))
    with pytest.raises(InputError, match="ignore: 255 is one of 300 classes; give ignore=None"):
        fusion.search_weights(list(logits), labels, values="logits")
    labels[0, 0, 0] = 255
    how = {"values": "logits", "method": "grid", "folds": 0, "ranges": {"1": (0, 1, 1)}}
    found = fusion.search_weights(list(logits), labels, ignore=None, **how)
    assert found.scores.confusion.sum() == labels.size


@pytest.mark.parametrize("flat", [False, True])
def test_channels_are_searched(flat):
    masks = (truth() == 1).astype(np.uint8)
    signal = 2.0 * (truth(NATIVE) == 1)[:, None] - 1
    draw = np.random.default_rng(1)
    given = [1 / (1 + np.exp(-signal - draw.normal(0, s, signal.shape))) for s in (1, 3)]
    how = {"values": "sigmoid-probabilities", "method": "grid", "ranges": {"1": (0, 1, 1)}}
    found = fusion.search_weights(given, masks if flat else masks[:, None], **how, folds=2)
    fused = fusion.fuse(given, found, values="sigmoid-probabilities", labels=True, size=SIZE)
    assert np.array_equal(fused[2], found.ensemble.predict("0002")[0])
