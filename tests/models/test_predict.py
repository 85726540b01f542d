"""Filling stores: what is in them, going on after a stop, and from training to labels."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import fusion
from fusion.errors import InputError, StoreConflictError, StoreError
from fusion.models import predict
from fusion.models.data.clips import Clips, standardised
from fusion.models.training import checkpoint
from fusion.models.training.run import train
from fusion.models.tta import Views
from tests.models.tools import plain_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A plain network of random weights for VSPW's classes."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    torch.manual_seed(0)
    plain_weights(path, [f"class_{c:03d}" for c in range(124)])
    return path


def command(weights, vspw, out, *more: str) -> list[str]:
    words = f"--weights {weights} --vspw {vspw} --split val --out {out} --device cpu"
    return [*words.split(), *more]


def of_images(weights, folder) -> list[str]:
    words = f"--weights {weights} --images {folder / 'images'} --out {folder / 's.zarr'}"
    return [*words.split(), "--device", "cpu"]


def test_the_store_holds_the_network_s_logits(weights, vspw, tmp_path):
    options = ("--profile", "exact", "--batch", "2")
    assert predict.main(command(weights, vspw, tmp_path / "s.zarr", *options)) == 0
    store, clips = fusion.LogitStore(tmp_path / "s.zarr"), Clips.vspw(vspw, "val")
    network, _ = checkpoint.load_network(weights)
    assert store.videos == tuple(sorted(clips.videos))
    assert (store.values, store.classes) == ("logits", clips.classes)
    for video in clips.videos:
        assert store.frames(video) == tuple(clips.frames(video))
        assert store.describe(video).size == (64, 96)
        images = [standardised(clips.image(video, frame)) for frame in clips.frames(video)]
        found, expected = torch.from_numpy(store.read(video)), network.logits(torch.stack(images))
        torch.testing.assert_close(found, expected.detach(), atol=2e-3, rtol=1e-3)


def test_views_are_stored_as_probabilities(weights, vspw, tmp_path):
    predict.main(command(weights, vspw, tmp_path / "s.zarr", "--flip", "--scales", "0.75", "1"))
    store, clips = fusion.LogitStore(tmp_path / "s.zarr"), Clips.vspw(vspw, "val")
    network, _ = checkpoint.load_network(weights)
    assert store.values == "probabilities"
    assert store.info.provenance["scales"] == [0.75, 1.0]
    video = clips.videos[0]
    image = standardised(clips.image(video, clips.frames(video)[0]))[None]
    expected = Views(flip=True, scales=(0.75, 1.0)).predict(network, image)[0]
    found = torch.from_numpy(store.read(video)[0]).softmax(dim=0)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.1)


def test_stopped_and_gone_on_with(weights, vspw, tmp_path, monkeypatch):
    predict.main(command(weights, vspw, tmp_path / "whole.zarr"))
    original, calls = Views.predict, []

    def stops(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(Views, "predict", stops)
    with pytest.raises(KeyboardInterrupt):
        predict.main(command(weights, vspw, tmp_path / "cut.zarr", "--batch", "1"))
    assert len(fusion.LogitStore(tmp_path / "cut.zarr").videos) == 1
    predict.main(command(weights, vspw, tmp_path / "cut.zarr"))
    whole, cut = (fusion.LogitStore(tmp_path / name) for name in ("whole.zarr", "cut.zarr"))
    assert all(np.array_equal(whole.read(video), cut.read(video)) for video in whole.videos)
    before = len(calls)
    predict.main(command(weights, vspw, tmp_path / "cut.zarr"))
    assert len(calls) == before


def test_processes_share_the_videos(weights, vspw, tmp_path, monkeypatch):
    for rank in range(2):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", str(rank))
        predict.main(command(weights, vspw, tmp_path / "s.zarr"))
        assert len(fusion.LogitStore(tmp_path / "s.zarr").videos) == (2, 3)[rank]


def test_other_weights_or_views_are_refused(weights, vspw, tmp_path):
    predict.main(command(weights, vspw, tmp_path / "s.zarr", "--scales", "2", "1"))
    got = r"begun with other weights or views .*flip is False there, True here"
    with pytest.raises(StoreConflictError, match=got):
        predict.main(command(weights, vspw, tmp_path / "s.zarr", "--scales", "2", "1", "--flip"))


def test_masks_are_not_needed(weights, vspw, tmp_path):
    clips = Clips.vspw(vspw, "val")
    for video in clips.videos:
        shutil.copytree(vspw / "data" / video / "origin", tmp_path / "images" / video)
    assert predict.main(of_images(weights, tmp_path)) == 0
    assert fusion.LogitStore(tmp_path / "s.zarr").videos == clips.videos


def test_images_of_two_sizes(weights, vspw, tmp_path):
    for t, size in enumerate(((96, 64), (96, 32))):
        (tmp_path / "images" / "clip").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(tmp_path / "images" / "clip" / f"{t}.png")
    with pytest.raises(InputError, match="video 'clip': frames are 96x64 and 96x32 pixels"):
        predict.main(of_images(weights, tmp_path))
    assert fusion.LogitStore(tmp_path / "s.zarr").videos == ()


def test_bad_arguments(weights, vspw, tmp_path):
    with pytest.raises(StoreError, match=r"weights: .* cannot be read"):
        predict.main(command(tmp_path / "none.pt", vspw, tmp_path / "s.zarr"))
    with pytest.raises(InputError, match="batch: got 0"):
        predict.main(command(weights, vspw, tmp_path / "s.zarr", "--batch", "0"))
    names = tmp_path / "classes.txt"
    names.write_text("\n".join(f"other {c}" for c in range(124)))
    with pytest.raises(InputError, match="differs from the classes that"):
        predict.main(command(weights, vspw, tmp_path / "s.zarr", "--classes", str(names)))


def test_from_training_to_labels(transformers, configure, vspw, tmp_path):
    """Both families: train, average, predict with views, search, label maps."""
    average = {"cycles": 2, "every": 1, "highest": 1e-3, "lowest": 1e-4, "refresh": 2}
    for name in ("swin-upernet", "maskformer"):
        options = configure(name, network={"name": name}, train={"steps": 2}, swa=average)
        final = train(options, "cpu")
        assert final.stem == "averaged"
        views = ("--flip", "--scales", "1", "1.5")
        predict.main(command(final, vspw, tmp_path / f"{name}.zarr", *views))
    ensemble = fusion.HierarchicalEnsemble(
        {"basic": [tmp_path / "maskformer.zarr"], "other": [tmp_path / "swin-upernet.zarr"]}
    )
    truth = fusion.Labels.vspw(vspw, "val")
    found = ensemble.search(truth, scheduler="synchronous")
    assert found.miou >= ensemble.evaluate(truth, scheduler="synchronous").miou
    labels, frames = found.ensemble.predict(truth.videos[0]), truth.frames(truth.videos[0])
    assert labels.shape == (len(frames), 64, 96)
