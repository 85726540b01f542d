"""Ensembles with postprocessing: their predictions are the plain ones, then the operations."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest

import fusion
from fusion.ensemble.native import native_maps
from fusion.errors import InputError, StoreError
from fusion.labels import write_labels
from fusion.metrics.calibration import calibrate
from fusion.outputs import write
from fusion.postprocess import Frame, operation_of
from tests.ensemble.simulated import CLASSES, SIZE, VIDEOS, make_store
from tests.ensemble.test_ensemble import resize64
from tests.ensemble.test_heads import head_of

SMOOTH, VOTED = "ema:half_life=2", "vote:radius=9"  # frames f1, f2, f10 are 1 and 8 apart


def recipes(stores, tmp_path):
    """Every way to fuse: name -> constructor's arguments."""
    fine = make_store(tmp_path / "fine.zarr", 9, (12, 16))
    two = {"strong": stores[:2], "weak": stores[2:4]}
    yield "weights", {"groups": two, "weights": {"weak": 1.4}}
    yield "multipliers", {"groups": two, "multipliers": dict(zip(CLASSES, (1, 2, 3, 1, 0.5)))}  # noqa: B905
    yield "idle group", {"groups": two, "weights": {"weak": 0.0}}
    yield "resolutions", {"groups": {"strong": stores[:2], "fine": [fine]}}
    yield "head", {"groups": two, "head": head_of(["strong", "weak"])}
    yield "geometric", {"groups": two, "mean": "geometric"}
    yield "logits", {"groups": two, "resize": "logits"}


@pytest.fixture(scope="module", params=[0, 1, 2, 3, 4, 5, 6])
def arguments(request, stores, tmp_path_factory):
    return list(recipes(stores, tmp_path_factory.mktemp("recipes")))[request.param]


def times(ensemble, video):
    return list(ensemble.facts(video).times.values())


def averaged(maps, when):
    """`SMOOTH`, written out in float64, of maps [T, ...]."""
    made = []
    for now in when:
        weights = [2 ** (-(now - then) / 2) if then <= now else 0.0 for then in when]
        made.append(np.tensordot(weights, maps, 1) / sum(weights))
    return np.stack(made)


def test_smoothing_maps_is_smoothing_predictions(arguments):
    """Interpolation is linear: what is smoothed before it is the plain prediction smoothed."""
    name, given = arguments
    plain = fusion.HierarchicalEnsemble(**given)
    smooth = plain.with_postprocess(SMOOTH)
    for video in VIDEOS:
        expected = averaged(plain.predict_proba(video).astype(np.float64), times(plain, video))
        found = smooth.predict_proba(video)
        # maps of several resolutions are brought to the finest before they are fused
        close = 0.15 if name == "resolutions" else 3e-6
        np.testing.assert_allclose(found, expected, atol=close)
        factors = np.array(list((plain.multipliers or dict.fromkeys(CLASSES, 1.0)).values()))
        scores = found * (factors / factors.max()).astype(np.float32)[:, None, None]
        assert np.array_equal(smooth.predict(video), scores.argmax(axis=1))


def test_label_operations_take_the_very_labels(arguments):
    _, given = arguments
    plain = fusion.HierarchicalEnsemble(**given)
    voted, operation = plain.with_postprocess(VOTED), operation_of(VOTED)
    for video, frames in VIDEOS.items():
        pairs = zip(frames, plain.predict(video), strict=True)
        stream = iter([Frame(frame, labels) for frame, labels in pairs])
        expected = [frame.values for frame in operation.apply(stream, plain.facts(video))]
        assert np.array_equal(voted.predict(video), expected)
        assert np.array_equal(voted.predict_proba(video), plain.predict_proba(video))


def test_a_window_that_reaches_no_neighbour_changes_nothing(stores):
    """The road over maps gives the bits of the road over bands, where nothing is smoothed."""
    plain = fusion.HierarchicalEnsemble({"a": stores[:2], "b": stores[2:]}, {"b": 0.7})
    same = plain.with_postprocess(["ema:half_life=0.05"])
    (frame,) = VIDEOS["a"][:1]
    np.testing.assert_allclose(
        same.predict_proba("a", [frame]), plain.predict_proba("a", [frame]), atol=2e-7
    )


@pytest.mark.parametrize("operations", [SMOOTH, VOTED, [SMOOTH, VOTED]])
def test_some_frames_are_those_of_the_whole(stores, operations):
    ensemble = fusion.HierarchicalEnsemble({"a": stores[:3]}, postprocess=operations)
    whole = ensemble.predict("a")
    for some in (["f1"], ["f2"], ["f1", "f10"], ["f10"], []):
        places = [VIDEOS["a"].index(frame) for frame in some]
        assert np.array_equal(ensemble.predict("a", some), whole[places])


def test_memory_changes_no_bit(stores):
    given = {"a": stores[:3]}, {"a": 1.0}
    large = fusion.HierarchicalEnsemble(*given, postprocess=[SMOOTH, VOTED])
    least = 15_000
    small = fusion.HierarchicalEnsemble(*given, postprocess=[SMOOTH, VOTED], memory=least)
    assert len(small.plan("a").bands) > len(large.plan("a").bands) == 1
    assert np.array_equal(small.predict("a"), large.predict("a"))
    tiny = fusion.HierarchicalEnsemble(*given, postprocess=[SMOOTH, VOTED], memory=5_000)
    with pytest.raises(
        InputError, match=r"memory: 5000 bytes given.*postprocessing holds needs \d+"
    ) as e:
        tiny.predict("a")
    assert "\n" not in str(e.value)


def test_independent_channels(tmp_path):
    draw = np.random.default_rng(0)
    with fusion.LogitWriter(tmp_path / "m.zarr", ["x", "y"], "exact", values="sigmoid") as writer:
        logits = draw.normal(0, 2, (4, 2, 6, 8))
        with writer.video("v", frames=["0", "1", "2", "3"], size=SIZE) as out:
            out.extend(logits)
    plain = fusion.HierarchicalEnsemble([tmp_path / "m.zarr"], thresholds={"x": 0.3, "y": 0.6})
    smooth = plain.with_postprocess(SMOOTH)
    expected = averaged(plain.predict_proba("v").astype(np.float64), range(4))
    np.testing.assert_allclose(smooth.predict_proba("v"), expected, atol=3e-6)
    above = smooth.predict_proba("v") > np.float32([0.3, 0.6])[:, None, None]
    assert (smooth.predict("v") == above).mean() > 0.999
    voted = plain.with_postprocess("vote:radius=1").predict("v")
    assert np.array_equal(voted[1], np.median(plain.predict("v")[:3], axis=0))


def test_scores_calibration_and_processes_see_it(stores, tmp_path):
    ensemble = fusion.HierarchicalEnsemble({"a": stores[:3]}, postprocess=[SMOOTH, VOTED])
    draw = np.random.default_rng(0)
    maps = {v: ensemble.predict(v) for v in VIDEOS}
    for video, frames in VIDEOS.items():
        for frame, labels in zip(frames, maps[video], strict=True):
            noisy = np.where(draw.random(SIZE) < 0.8, labels, draw.integers(0, 5, SIZE))
            path = tmp_path / "labels" / video.replace("/", "_") / f"{frame}.png"
            write_labels(path, noisy.astype(np.uint8))
    truth = fusion.Labels.folder(tmp_path / "labels")
    counts = np.zeros((5, 5), np.int64)
    for frame, labels in zip(VIDEOS["a"], maps["a"], strict=True):
        np.add.at(counts, (truth.read("a", frame), labels), 1)
    for scheduler in ("threads", "processes"):
        found = ensemble.evaluate(truth, videos=["a"], scheduler=scheduler)
        assert np.array_equal(found.confusion, counts)
    found = calibrate(ensemble, truth, videos=["a"])
    confidence = ensemble.predict_proba("a").max(axis=1)
    pixels, mean, _ = found.reliability.T
    expected = np.nansum(pixels * mean) / pixels.sum()
    np.testing.assert_allclose(expected, confidence.mean(), atol=1e-5)


def test_it_is_saved_loaded_and_stripped(stores, tmp_path):
    ensemble = fusion.HierarchicalEnsemble({"a": stores[:3]}, postprocess=[SMOOTH, VOTED])
    ensemble.save(tmp_path / "best.json")
    loaded = fusion.HierarchicalEnsemble.load(tmp_path / "best.json")
    assert loaded.postprocess == ensemble.postprocess
    assert np.array_equal(loaded.predict("a"), ensemble.predict("a"))
    assert pickle.loads(pickle.dumps(ensemble)).postprocess == ensemble.postprocess
    assert "then ema:half_life=2, vote:radius=9" in repr(loaded)
    document = json.loads((tmp_path / "best.json").read_text())
    assert document["version"] == 3
    other = fusion.HierarchicalEnsemble.load(tmp_path / "best.json", postprocess="none")
    assert not other.postprocess
    assert not ensemble.plain().postprocess
    assert not ensemble.singles().postprocess
    assert ensemble.with_weights({"a": 2.0}).postprocess == ensemble.postprocess
    ensemble.plain().save(tmp_path / "plain.json")
    assert json.loads((tmp_path / "plain.json").read_text())["version"] == 1


def test_toml_names_operations(stores, tmp_path):
    paths = [str(path) for path in stores[:2]]
    text = f'[groups]\na = {paths}\n[[postprocess]]\noperation = "window"\nradius = 3\n'
    (tmp_path / "e.toml").write_text(text)
    loaded = fusion.HierarchicalEnsemble.load(tmp_path / "e.toml")
    assert loaded.postprocess.get_config() == [
        {"operation": "window", "radius": 3, "motion": "none"}
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("windw", "no operation 'windw'; did you mean 'window'"),
        ("window:raduis=2", "window: no parameter 'raduis'; did you mean 'radius'"),
        ("window:radius=0", "window: radius=0; give a whole number, 1 to 1000"),
        ("window:radius=1.5", "window: radius='1.5'; give a whole number"),
        ("window:radius", "give NAME:PARAMETER=VALUE"),
        ("window:motion=fast", "window: motion='fast'"),
        ("window:motion=images", "window: it looks at pictures; give their folder"),
        ("ema:both_ways=perhaps", "ema: both_ways='perhaps'; give true or false"),
        (["vote", "window"], "'window' works on maps, 'vote' on labels; give 'window' first"),
        ([{"radius": 1}], 'give {"operation": NAME'),
        ("missing.json", "missing.json: cannot be read"),
    ],
)
def test_what_is_wrong_is_one_sentence(stores, given, words):
    with pytest.raises(InputError) as caught:
        fusion.HierarchicalEnsemble({"a": stores[:2]}, postprocess=given)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_single_images_have_no_neighbours(tmp_path):
    with fusion.LogitWriter(tmp_path / "m.zarr", CLASSES) as writer:
        for image in ("a", "b"):
            with writer.video(image, frames=[image], size=SIZE) as out:
                out.append(np.random.default_rng(0).normal(size=(5, 6, 8)))
    with pytest.raises(InputError, match="every video here is a single image; leave it out"):
        fusion.HierarchicalEnsemble([tmp_path / "m.zarr"], postprocess="window")


def test_other_orders_and_group_means_are_refused(stores):
    ensemble = fusion.HierarchicalEnsemble({"a": stores[:2]}, postprocess=SMOOTH)
    with pytest.raises(InputError, match="frames in another order"):
        ensemble.predict("a", ["f2", "f1"])
    with pytest.raises(InputError, match="group_means with postprocess"):
        next(ensemble.stream("a", outputs=("group_means",)))


def test_a_file_of_operations(stores, tmp_path):
    (tmp_path / "steps.json").write_text('[{"operation": "vote", "radius": 2}]')
    ensemble = fusion.HierarchicalEnsemble(
        {"a": stores[:2]}, postprocess=["ema", str(tmp_path / "steps.json")]
    )
    assert str(ensemble.postprocess) == "ema, vote:radius=2"


def test_nothing_is_read_after_the_last_frame_that_is_asked_for(stores, monkeypatch):
    ensemble = fusion.HierarchicalEnsemble({"a": stores[:1]}, postprocess=SMOOTH)
    plan = replace(ensemble.plan("a"), frames=1, ahead=0)
    monkeypatch.setattr(ensemble, "plan", lambda *_: plan)
    kind, read = type(ensemble.stores[0]), []
    codes = kind.codes

    def counted(store, video, frames):
        read.extend(frames)
        return codes(store, video, frames)

    monkeypatch.setattr(kind, "codes", counted)
    ensemble.predict("a", ["f1"])
    assert read[:2] == ["f1", "f2"]  # the second says that nothing else is near the first
    assert "f10" not in read


def test_interpolated_maps_are_the_reference(stores):
    """One smoothed frame against float64 all the way."""
    plain = fusion.HierarchicalEnsemble({"a": stores[:2], "b": stores[2:3]}, {"b": 0.5})
    when = times(plain, "a")
    native = []
    for frame in VIDEOS["a"]:
        groups = []
        for paths in (stores[:2], stores[2:3]):
            soft = []
            for path in paths:
                z = fusion.LogitStore(path).read("a", [frame])[0].astype(np.float64)
                e = np.exp(z - z.max(0))
                soft.append(e / e.sum(0))
            groups.append(np.mean(soft, axis=0))
        native.append((groups[0] + 0.5 * groups[1]) / 1.5)
    expected = [resize64(m, SIZE) for m in averaged(np.stack(native), when)]
    found = plain.with_postprocess(SMOOTH).predict_proba("a")
    np.testing.assert_allclose(found, expected, atol=3e-6)


def test_outputs_under_other_operations_are_others(stores, tmp_path):
    plain = fusion.HierarchicalEnsemble({"a": stores[:2]})
    videos = ["a"]
    write(plain, tmp_path / "out", videos=videos)
    assert write(plain, tmp_path / "out", videos=videos, resume=True).kept == 3
    with pytest.raises(StoreError, match="is of another ensemble"):
        write(plain.with_postprocess(SMOOTH), tmp_path / "out", videos=videos, resume=True)


def test_native_maps_are_smoothed_as_predictions_are(stores):
    """What a store at the stores' resolution keeps, interpolated, is the prediction."""
    ensemble = fusion.HierarchicalEnsemble({"a": stores[:3]}, postprocess=[SMOOTH, VOTED])
    found = dict(native_maps(ensemble, "a", ["f2", "f10"]))
    assert list(found) == ["f2", "f10"]
    expected = ensemble.predict_proba("a", ["f2", "f10"])
    for maps, whole in zip(found.values(), expected, strict=True):
        np.testing.assert_allclose(resize64(maps.astype(np.float64), SIZE), whole, atol=3e-6)
