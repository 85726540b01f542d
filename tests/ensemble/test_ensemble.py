"""HierarchicalEnsemble against a plain float64 NumPy ensemble, and what users rely on."""

from __future__ import annotations

import pickle
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusion
from fusion.errors import InputError
from fusion.labels import write_labels
from tests.ensemble.simulated import CLASSES, NATIVE, SIZE, VIDEOS, make_store


def softmax64(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=0))
    return e / e.sum(axis=0)


def resize64(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, half-pixel centres, one output pixel at a time."""
    c, h, w = maps.shape
    out = np.empty((c, *size))
    for y in range(size[0]):
        for x in range(size[1]):
            v, u = max((y + 0.5) * h / size[0] - 0.5, 0), max((x + 0.5) * w / size[1] - 0.5, 0)
            y0, x0 = int(v), int(u)
            y1, x1 = min(y0 + 1, h - 1), min(x0 + 1, w - 1)
            top = maps[:, y0, x0] * (1 - (u - x0)) + maps[:, y0, x1] * (u - x0)
            bottom = maps[:, y1, x0] * (1 - (u - x0)) + maps[:, y1, x1] * (u - x0)
            out[:, y, x] = top * (1 - (v - y0)) + bottom * (v - y0)
    return out


def plain(
    groups: dict, weights: dict, video: str, frame: str, resize: str, temperature: float = 1.0
) -> np.ndarray:
    """Equation 1 in float64, [C, H, W]; the library only reads the stores."""
    fused = 0.0
    for name, paths in groups.items():
        mean = 0.0
        for path in paths:
            store = fusion.LogitStore(path)
            values = store.read(video, [frame])[0].astype(np.float64)
            if store.values == "scores":
                p = resize64(values, SIZE)
            elif resize == "logits":
                p = softmax64(resize64(values, SIZE) / temperature)
            else:
                p = resize64(softmax64(values / temperature), SIZE)
            mean = mean + p / len(paths)
        fused = fused + weights.get(name, 1.0) / sum(weights.get(n, 1.0) for n in groups) * mean
    return fused


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
@pytest.mark.parametrize("weights", [{}, {"weak": 1.4, "auxiliary": 0.3}, {"strong": 0.0}])
def test_equals_a_plain_float64_ensemble(stores, resize, weights):
    groups = {"strong": stores[:2], "weak": stores[2:4], "auxiliary": stores[4:]}
    ensemble = fusion.HierarchicalEnsemble(groups, weights, resize=resize)
    for video, frames in VIDEOS.items():
        expected = np.stack([plain(groups, weights, video, frame, resize) for frame in frames])
        np.testing.assert_allclose(ensemble.predict_proba(video), expected, atol=2e-6)
        top = np.sort(expected, axis=1)
        clear = top[:, -1] - top[:, -2] > 1e-5
        assert clear.mean() > 0.99
        labels = ensemble.predict(video)
        assert labels.dtype == np.uint8
        assert labels.shape == (len(frames), *SIZE)
        assert np.array_equal(labels[clear], expected.argmax(axis=1)[clear])


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
def test_profiles_kinds_and_resolutions_mix_in_one_group(tmp_path, resize):
    group = [
        make_store(tmp_path / "compact.zarr", 1),
        make_store(tmp_path / "exact.zarr", 2, (12, 16), profile="exact"),
        make_store(tmp_path / "log_probabilities.zarr", 3, values="probabilities", profile="exact"),
        make_store(tmp_path / "scores.zarr", 4, (9, 7), values="scores", profile="exact"),
    ]
    groups = {"all": group[:3], "scores": group[3:]}
    ensemble = fusion.HierarchicalEnsemble(groups, {"scores": 2.0}, resize=resize)
    expected = plain(groups, {"scores": 2.0}, "a", "f2", resize)
    np.testing.assert_allclose(ensemble.predict_proba("a", ["f2"])[0], expected, atol=3e-6)


def test_probabilities_are_normalised_and_averaged_as_such(tmp_path):
    """A source that sums to 0.7 counts like one that sums to 1."""
    draw = np.random.default_rng(0)
    p = draw.dirichlet(np.ones(5), NATIVE).transpose(2, 0, 1)
    with (
        fusion.LogitWriter(tmp_path / "p.zarr", CLASSES, "exact", values="probabilities") as writer,
        writer.video("v", frames=["f"]) as out,
    ):
        out.append(0.7 * p)
    fused = fusion.HierarchicalEnsemble({"g": [tmp_path / "p.zarr"]}).predict_proba("v")[0]
    np.testing.assert_allclose(fused, p, atol=2e-3)  # float16 logarithms
    np.testing.assert_allclose(fused.sum(axis=0), 1, atol=1e-6)


def test_temperature_divides_the_logits(stores):
    groups = {"g": stores[:1]}
    ensemble = fusion.HierarchicalEnsemble(groups, temperatures={"m0": 2.5})
    np.testing.assert_allclose(
        ensemble.predict_proba("a", ["f1"])[0],
        plain(groups, {}, "a", "f1", "probabilities", 2.5),
        atol=2e-6,
    )
    assert not np.allclose(
        ensemble.predict_proba("a", ["f1"]),
        fusion.HierarchicalEnsemble(groups).predict_proba("a", ["f1"]),
        atol=1e-3,
    )


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(5)), st.integers(1, 4), st.floats(1e-3, 1e3))
def test_order_of_models_and_scale_of_weights_change_nothing(stores, order, split, scale):
    def fused(order, scale):
        groups = {
            "one": [stores[k] for k in order if k < split],
            "two": [stores[k] for k in order if k >= split],
        }
        return fusion.HierarchicalEnsemble(groups, {"one": 0.7 * scale, "two": 1.3 * scale})

    mixed, sorted_ = fused(order, scale), fused(range(5), 1.0)
    assert np.array_equal(mixed.predict("a"), sorted_.predict("a"))
    assert np.array_equal(fused(order, 1.0).predict_proba("a"), sorted_.predict_proba("a"))


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
def test_memory_changes_the_plan_and_nothing_else(stores, resize):
    groups = {"one": stores[:3], "two": stores[3:]}
    roomy = fusion.HierarchicalEnsemble(groups, resize=resize)
    tight = fusion.HierarchicalEnsemble(groups, resize=resize, memory=16_000)
    wide, narrow = roomy.plan("a", ("probabilities",)), tight.plan("a", ("probabilities",))
    assert len(wide.bands) == 1 < len(narrow.bands)
    assert narrow.frames < wide.frames
    assert narrow.bytes <= 16_000
    assert np.array_equal(roomy.predict("a"), tight.predict("a"))
    assert np.array_equal(roomy.predict_proba("a"), tight.predict_proba("a"))
    shared = tight.sharing("threads")
    shared.workers = 30
    with pytest.raises(
        InputError, match=r"needs \d+ bytes in each of 30 workers; give at least \d+"
    ):
        shared.plan("a", ("probabilities",))
    with pytest.raises(
        InputError, match=r"memory: 2000 bytes given, one frame of 5 stores needs \d+"
    ):
        fusion.HierarchicalEnsemble(groups, memory=2000).predict("a")


def test_ties_go_to_the_lowest_class_and_300_classes_work(tmp_path):
    names = [str(k) for k in range(300)]
    with (
        fusion.LogitWriter(tmp_path / "m.zarr", names) as writer,
        writer.video("v", frames=["f"], size=(2, 2)) as out,
    ):
        logits = np.zeros((300, 2, 2))
        logits[299, 0, 0] = 1.0
        out.append(logits)
    labels = fusion.HierarchicalEnsemble({"g": [tmp_path / "m.zarr"]}).predict("v")
    assert labels.dtype == np.uint16
    # a gap code keeps code 0 for the lowest of tied classes, so the others are a hair below it
    assert labels[0].tolist() == [[299, 0], [0, 0]]


def test_evaluate_counts_what_a_loop_counts(stores, tmp_path):
    ensemble = fusion.HierarchicalEnsemble({"g": stores[:3]})
    draw = np.random.default_rng(5)
    expected = {}
    for video, folder in (("a", "a"),):
        matrix = np.zeros((5, 5), np.int64)
        for frame in ("f10", "f1"):  # sparse ground truth: f2 has none
            target = draw.integers(0, 6, SIZE).astype(np.uint8)
            target[target == 5] = 255
            write_labels(tmp_path / "labels" / folder / f"{frame}.png", target)
            for t, p in zip(target.ravel(), ensemble.predict(video, [frame]).ravel(), strict=True):
                if t != 255:
                    matrix[t, p] += 1
        expected[video] = matrix
    truth = fusion.Labels.folder(tmp_path / "labels")
    for scheduler in ("threads", "synchronous", "processes"):
        scores = ensemble.evaluate(truth, scheduler=scheduler)
        assert np.array_equal(scores.confusions["a"], expected["a"])
    iou = np.diag(expected["a"]) / (
        expected["a"].sum(0) + expected["a"].sum(1) - np.diag(expected["a"])
    )
    assert scores.miou == pytest.approx(iou.mean(), abs=1e-15)


def test_a_store_may_be_in_two_groups(stores, tmp_path):
    """The paper's groups may share a model; every path gives the numbers of two copies."""
    groups = {"strong": stores[:2], "auxiliary": [stores[1], stores[2]]}
    twin = tmp_path / "twin" / "m1.zarr"
    shutil.copytree(stores[1], twin)
    shared = fusion.HierarchicalEnsemble(groups, {"auxiliary": 0.4})
    apart = fusion.HierarchicalEnsemble({**groups, "auxiliary": [twin, stores[2]]}, shared.weights)
    assert (len(shared.stores), len(apart.stores)) == (3, 4)
    for resize in ("probabilities", "logits"):
        one, two = (e.regrouped(e.groups, e.weights, resize=resize) for e in (shared, apart))
        assert np.array_equal(one.predict_proba("a"), two.predict_proba("a"))
    for _, _, fused in shared.stream("a", outputs=("group_means",)):
        assert fused.group_means.shape[0] == 2
    shared.save(tmp_path / "best.json")
    again = fusion.HierarchicalEnsemble.load(tmp_path / "best.json")
    assert np.array_equal(again.predict("a"), shared.predict("a"))
    assert np.array_equal(pickle.loads(pickle.dumps(shared)).predict("a"), shared.predict("a"))
    labels = tmp_path / "labels"
    for video in VIDEOS:
        for frame in VIDEOS[video] if video == "a" else ():
            write_labels(labels / video / f"{frame}.png", shared.predict(video, [frame])[0])
    found = shared.search(fusion.Labels.folder(labels), method="grid")
    assert found.miou == found.ensemble.evaluate(fusion.Labels.folder(labels)).miou


def test_stores_come_in_the_order_of_summation_however_they_were_listed(stores):
    """What looks at models one by one (greedy selection) breaks ties by this order."""
    ensemble = fusion.HierarchicalEnsemble({"b": stores[:2:-1], "a": stores[2::-1]})
    assert [store.model for store in ensemble.stores] == ["m3", "m4", "m0", "m1", "m2"]
    assert list(ensemble.singles().groups) == ["m3", "m4", "m0", "m1", "m2"]


def test_no_frames_are_no_frames(stores):
    ensemble = fusion.HierarchicalEnsemble({"g": stores})
    labels, probabilities = ensemble.predict("a", []), ensemble.predict_proba("a", frames=[])
    assert (labels.shape, labels.dtype) == ((0, *SIZE), np.uint8)
    assert (probabilities.shape, probabilities.dtype) == ((0, len(CLASSES), *SIZE), np.float32)


def test_probability_maps_come_one_after_the_other(stores):
    ensemble = fusion.HierarchicalEnsemble({"g": stores})
    maps = ensemble.probability_maps("a")
    assert iter(maps) is maps
    for (frame, fused), name, wanted in zip(
        maps, ensemble.frames("a"), ensemble.predict_proba("a"), strict=True
    ):
        assert frame == name
        assert np.array_equal(fused, wanted)


def test_all_videos_come_one_after_the_other(stores):
    ensemble = fusion.HierarchicalEnsemble({"g": stores})
    every = ensemble.predict_all()
    assert iter(every) is every  # nothing is kept
    labels = dict(every)
    assert list(labels) == list(ensemble.videos)
    for video in VIDEOS:
        assert np.array_equal(labels[video], ensemble.predict(video))
    ((video, fused),) = ensemble.predict_all(["a"], probabilities=True)
    assert video == "a"
    assert np.array_equal(fused, ensemble.predict_proba("a"))
    with pytest.raises(InputError, match="no video 'aa'; did you mean 'a'"):
        ensemble.predict_all(["a", "aa"])
