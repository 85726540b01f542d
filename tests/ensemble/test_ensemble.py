"""HierarchicalEnsemble against a plain float64 NumPy ensemble, and the properties that users rely on."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fusion
from fusion.errors import InputError, StoreError
from fusion.labels import write_labels

CLASSES = [f"class {k}" for k in range(5)]
SIZE = (24, 32)
NATIVE = (6, 8)
VIDEOS = {"a": ["f1", "f2", "f10"], "b/../b": ["x", "y"]}


def make_store(
    path: Path, seed: int, native: tuple[int, int] = NATIVE, classes: list[str] = CLASSES, **options
) -> Path:
    """A store of smooth random logits; the same seed gives the same numbers."""
    draw = np.random.default_rng(seed)
    with fusion.LogitWriter(path, classes, **options) as writer:
        for video, frames in VIDEOS.items():
            with writer.video(video, frames=frames, size=SIZE) as out:
                for _ in frames:
                    logits = draw.normal(0, 3, (len(classes), *native))
                    if options.get("values") in ("probabilities", "scores"):
                        logits = (
                            np.exp(logits) / np.exp(logits).sum(axis=0) * 0.7
                        )  # sums to less than one, as MaskFormer's do
                    out.append(logits)
    return path


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    return [make_store(folder / f"m{k}.zarr", k) for k in range(5)]


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
    """Equation 1 in float64, [C, H, W]: nothing shared with the library but the reading of stores."""
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
    with pytest.raises(InputError, match=r"needs \d+ in each of 30 workers; give at least \d+"):
        shared.plan("a", ("probabilities",))
    with pytest.raises(
        InputError, match=r"memory: 2000 bytes given, one frame of 5 stores needs \d+"
    ):
        fusion.HierarchicalEnsemble(groups, memory=2000).predict("a")


def test_frames_are_aligned_by_id_not_by_position(tmp_path):
    for name, frames in (("one", ["f1", "f2"]), ("two", ["f2", "f1"])):
        with (
            fusion.LogitWriter(tmp_path / f"{name}.zarr", ["a", "b"]) as writer,
            writer.video("v", frames=frames) as out,
        ):
            for frame in frames:
                out.append(
                    np.full((2, 1, 1), [[[3.0]], [[0.0]]] if frame == "f1" else [[[0.0]], [[3.0]]])
                )
    ensemble = fusion.HierarchicalEnsemble({"g": [tmp_path / "one.zarr", tmp_path / "two.zarr"]})
    assert ensemble.predict("v", ["f1", "f2"]).ravel().tolist() == [0, 1]
    assert ensemble.predict("v", ["f2"]).ravel().tolist() == [1]


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


def test_saves_and_loads(stores, tmp_path):
    ensemble = fusion.HierarchicalEnsemble(
        {"s": stores[:2], "w": stores[2:]}, {"w": 1.4}, resize="logits", temperatures={"m1": 1.5}
    )
    ensemble.save(tmp_path / "deep" / "best.json")
    again = fusion.HierarchicalEnsemble.load(tmp_path / "deep" / "best.json")
    assert again.weights == {"s": 1.0, "w": 1.4}
    assert np.array_equal(again.predict_proba("a"), ensemble.predict_proba("a"))
    assert np.array_equal(pickle.loads(pickle.dumps(ensemble)).predict("a"), ensemble.predict("a"))
    assert np.array_equal(
        ensemble.with_weights({"s": 0.0}).predict("a"),
        fusion.HierarchicalEnsemble({"w": stores[2:]}, resize="logits").predict("a"),
    )


def test_load_refuses_stores_that_changed(tmp_path):
    make_store(tmp_path / "val" / "m.zarr", 0)
    make_store(tmp_path / "test" / "m.zarr", 1)
    fusion.HierarchicalEnsemble({"g": [tmp_path / "val" / "m.zarr"]}).save(tmp_path / "best.json")
    other = fusion.HierarchicalEnsemble.load(tmp_path / "best.json", stores=tmp_path / "test")
    assert other.stores[0].path == tmp_path / "test" / "m.zarr"
    (tmp_path / "val").rename(tmp_path / "old")
    (tmp_path / "test").rename(tmp_path / "val")
    with pytest.raises(StoreError, match="not the content the weights"):
        fusion.HierarchicalEnsemble.load(tmp_path / "best.json")
    assert fusion.HierarchicalEnsemble.load(tmp_path / "best.json", check=False).videos


def test_toml(stores, tmp_path):
    folder = stores[0].parent
    (folder / "ensemble.toml").write_text(
        'resize = "logits"\n[groups]\ns = ["m[01].zarr"]\nw = ["m2.zarr", "m*.zarr"]\n[weights]\nw = 1.4\n[temperatures]\n"m0.zarr" = 2\n'
    )
    ensemble = fusion.HierarchicalEnsemble.load(folder / "ensemble.toml")
    assert [s.model for s in ensemble.groups["s"]] == ["m0", "m1"]
    assert len(ensemble.groups["w"]) == 5
    assert ensemble.weights == {"s": 1.0, "w": 1.4}
    assert ensemble.resize == "logits"
    assert ensemble.temperatures == (2.0, 1.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[group]\na = ['x']", "did you mean 'groups'"),
        ("[groups]\n", r"no \[groups\] table"),
        ("[groups]\na = 'x'", "list of paths"),
        ("[groups]\na = ['nothing*.zarr']", "no store matches 'nothing"),
        ("groups = 3", "make it a table"),
        ("[groups", "cannot be read"),
    ],
)
def test_bad_toml(tmp_path, text, message):
    (tmp_path / "e.toml").write_text(text)
    with pytest.raises(InputError, match=message):
        fusion.HierarchicalEnsemble.load(tmp_path / "e.toml")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "{}",
        '{"format": "segfusion.ensemble", "version": 99}',
        '{"format": "x", "version": 1}',
    ],
)
def test_bad_saved_ensembles(tmp_path, text):
    (tmp_path / "best.json").write_text(text)
    with pytest.raises(InputError, match=r"best\.json"):
        fusion.HierarchicalEnsemble.load(tmp_path / "best.json")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"s": -1}, "finite numbers >= 0"),
        ({"s": float("nan")}, "finite numbers >= 0"),
        ({"s": float("inf")}, "finite numbers >= 0"),
        ({"s": 0}, "at least one of them above 0"),
        ({"t": 1}, "unknown group 't'"),
        ({"s": "much"}, "a number per group"),
        ([1.0], "give a dict"),
    ],
)
def test_bad_weights_are_refused_before_anything_is_opened(weights, message):
    with pytest.raises(InputError, match=message):
        fusion.HierarchicalEnsemble({"s": ["/nowhere.zarr"]}, weights)


def test_stores_that_do_not_fit_together(stores, tmp_path):
    make_store(tmp_path / "z4.zarr", 0, classes=CLASSES[:4])
    make_store(tmp_path / "z_swapped.zarr", 0, classes=[CLASSES[1], CLASSES[0], *CLASSES[2:]])
    with pytest.raises(InputError, match=r"z4\.zarr: 4 classes, .*m0\.zarr has 5"):
        fusion.HierarchicalEnsemble({"g": [stores[0], tmp_path / "z4.zarr"]}).predict("a")
    with pytest.raises(InputError, match=r"class 0 is 'class [01]', in"):
        fusion.HierarchicalEnsemble({"g": [stores[0], tmp_path / "z_swapped.zarr"]})
    with pytest.raises(InputError, match="stands in it twice"):
        fusion.HierarchicalEnsemble({"g": [stores[0], stores[0]]})
    with pytest.raises(StoreError, match=r"no such logit store \(did you mean 'm0\.zarr'\?\)"):
        fusion.HierarchicalEnsemble({"g": [stores[0].with_name("m0.zar")]})
    with pytest.raises(InputError, match="at least one store"):
        fusion.HierarchicalEnsemble({"g": []})
    with pytest.raises(InputError, match="names no store"):
        fusion.HierarchicalEnsemble({"g": stores[:1]}, temperatures={"m9": 1.0})
    with pytest.raises(InputError, match="finite number above 0"):
        fusion.HierarchicalEnsemble({"g": stores[:1]}, temperatures={"m0": 0.0})


def test_missing_videos_and_frames_are_refused_or_reported(stores, tmp_path):
    with (
        fusion.LogitWriter(tmp_path / "partial.zarr", CLASSES) as writer,
        writer.video("a", frames=["f1", "f2"], size=SIZE) as out,
    ):
        out.append(np.zeros((5, *NATIVE)))
        out.append(np.zeros((5, *NATIVE)))
    members = [stores[0], tmp_path / "partial.zarr"]
    with pytest.raises(
        InputError, match=r"partial\.zarr: video 'a' lacks frame 'f10' that .*m0\.zarr has"
    ):
        fusion.HierarchicalEnsemble({"g": members})
    ensemble = fusion.HierarchicalEnsemble({"g": members}, align="intersect")
    assert ensemble.videos == ("a",)
    assert ensemble.frames("a") == ("f1", "f2")
    assert ensemble.left_out == {
        "a (1 frames)": [str(stores[0])],
        "b/../b": [str(tmp_path / "partial.zarr")],
    }


def test_sizes_must_agree(stores, tmp_path):
    with fusion.LogitWriter(tmp_path / "other.zarr", CLASSES) as writer:
        for video, frames in VIDEOS.items():
            with writer.video(video, frames=frames, size=(48, 64)) as out:
                for _ in frames:
                    out.append(np.zeros((5, *NATIVE)))
    with pytest.raises(InputError, match=r"of 48x64 images, in .* of 24x32"):
        fusion.HierarchicalEnsemble({"g": [stores[0], tmp_path / "other.zarr"]})


def test_labels_that_do_not_belong_to_the_stores(stores, tmp_path):
    ensemble = fusion.HierarchicalEnsemble({"g": stores[:1]})
    labels = {"video": ("z", "f1", SIZE), "frame": ("a", "f3", SIZE), "size": ("a", "f1", (4, 4))}
    messages = {
        "video": "no store has, the first 'z'",
        "frame": "stores lack, the first 'f3'",
        "size": "labels are 4x4, the stores say 24x32",
    }
    for name, (video, frame, size) in labels.items():
        write_labels(tmp_path / name / video / f"{frame}.png", np.zeros(size, np.uint8))
        with pytest.raises(InputError, match=messages[name]):
            ensemble.evaluate(fusion.Labels.folder(tmp_path / name))


def test_gpu_request_without_gpu(stores):
    if torch.cuda.is_available():
        assert fusion.HierarchicalEnsemble({"g": stores[:1]}, device="cuda").predict("a").shape == (
            3,
            *SIZE,
        )
    else:
        with pytest.raises(InputError, match="torch sees no GPU"):
            fusion.HierarchicalEnsemble({"g": stores[:1]}, device="cuda")
