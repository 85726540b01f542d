"""What stores must have in common, and how an ensemble says that they do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fusion
from fusion.errors import InputError, StoreError
from fusion.labels import write_labels
from tests.ensemble.simulated import CLASSES, NATIVE, SIZE, VIDEOS, make_store


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
    with pytest.raises(InputError, match=r"give a number from 5.4e-20 to 1.8e.19"):
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
        "video": "share no video: labels have 1 \\('z'\\), stores 2",
        "frame": "video 'a': labels and stores share no frame: labels have 1 \\('f3'\\), stores",
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
