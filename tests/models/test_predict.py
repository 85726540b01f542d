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
from fusion.models.data.statistics import class_statistics
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


def test_a_prior_can_be_taken_out_of_a_trained_network(weights, vspw, tmp_path):
    """Menon et al., equation 9: tau log pi less, of the classes that the training masks have."""
    counts = tmp_path / "counts" / "statistics.json"
    found = class_statistics(Clips.vspw(vspw, "train"), counts)
    plain, adjusted = tmp_path / "plain.zarr", tmp_path / "adjusted.zarr"
    exact = ("--profile", "exact")
    predict.main(command(weights, vspw, plain, *exact))
    predict.main(
        command(weights, vspw, adjusted, *exact, "--post-hoc", "0.5", "--statistics", str(counts))
    )
    pixels = np.maximum(found.pixels, 1)
    prior = np.log(pixels / pixels.sum()).astype(np.float32)[:, None, None]
    before, after = fusion.LogitStore(plain), fusion.LogitStore(adjusted)
    video = before.videos[0]
    np.testing.assert_allclose(after.read(video), before.read(video) - 0.5 * prior, atol=8e-3)
    for words, said in (
        (("--post-hoc", "0.5"), "which class frequencies"),
        (("--post-hoc", "nan", "--statistics", str(counts)), "got nan; give a finite number"),
        ((), "was begun with other weights or views"),
    ):
        with pytest.raises((InputError, StoreConflictError), match=said):
            predict.main(command(weights, vspw, adjusted, *exact, *words))


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


def test_a_store_for_each_view(weights, vspw, tmp_path):
    """Fused with equal weights they are the store of all views; a search finds them by name."""
    given = ("--flip", "--scales", "1", "0.5", "--window", "32", "--profile", "exact")
    predict.main(command(weights, vspw, tmp_path / "all.zarr", *given))
    predict.main(command(weights, vspw, tmp_path / "net.zarr", *given, "--each-view"))
    names = ["flip", "flip_x0.5", "plain", "plain_x0.5"]
    stores = [fusion.LogitStore(tmp_path / "net" / f"{name}.zarr") for name in names]
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == [
        f"{name}.zarr" for name in names
    ]
    assert [store.model for store in stores] == [f"net_{name}" for name in names]
    assert stores[1].info.provenance["views"] == ["flip_x0.5"]
    assert stores[1].info.provenance["window"] == 32
    whole, video = fusion.LogitStore(tmp_path / "all.zarr"), stores[0].videos[0]
    expected = torch.from_numpy(whole.read(video)).softmax(1)
    found = torch.stack([torch.from_numpy(store.read(video)).softmax(1) for store in stores])
    torch.testing.assert_close(found.mean(0), expected, atol=1e-3, rtol=1e-2)
    assert list(fusion.HierarchicalEnsemble(stores).groups) == [store.model for store in stores]


def test_each_view_goes_on_and_refuses_others(weights, vspw, tmp_path, monkeypatch):
    given = command(weights, vspw, tmp_path / "net", "--each-view")
    predict.main([*given, "--flip"])
    before = fusion.LogitStore(tmp_path / "net" / "flip.zarr").digest()
    calls, original = [], Views.predict

    def counted(*arguments):
        calls.append(1)
        return original(*arguments)

    monkeypatch.setattr(Views, "predict", counted)
    predict.main([*given, "--flip"])
    assert not calls
    predict.main([*given, "--flip", "--vertical"])  # two more views, of the same network
    assert len(calls) == 2 * len(fusion.LogitStore(tmp_path / "net" / "flip.zarr").videos)
    assert fusion.LogitStore(tmp_path / "net" / "flip.zarr").digest() == before
    with pytest.raises(StoreConflictError, match="holds a store with values 'logits', got 'prob"):
        predict.main([*given, "--flip", "--window", "32"])
    windows = command(weights, vspw, tmp_path / "s.zarr", "--flip", "--window", "32")
    predict.main(windows)
    with pytest.raises(StoreConflictError, match=r"views \(overlap is 0.5 there, 0.25 here\)"):
        predict.main([*windows, "--overlap", "0.25"])
    with pytest.raises(InputError, match="window: got 20; give a multiple of 32"):
        predict.main(command(weights, vspw, tmp_path / "none.zarr", "--window", "20"))
    assert not (tmp_path / "none.zarr").exists()


def test_logits_can_be_merged(weights, vspw, tmp_path):
    more = ("--flip", "--merge", "logits", "--profile", "exact")
    predict.main(command(weights, vspw, tmp_path / "s.zarr", *more))
    store, clips = fusion.LogitStore(tmp_path / "s.zarr"), Clips.vspw(vspw, "val")
    network, _ = checkpoint.load_network(weights)
    assert store.values == "logits"
    video = clips.videos[0]
    image = standardised(clips.image(video, clips.frames(video)[0]))[None]
    mean = (network.logits(image) + network.logits(image.flip(-1)).flip(-1)).detach() / 2
    torch.testing.assert_close(
        torch.from_numpy(store.read(video)[:1]).softmax(1), mean.softmax(1), atol=1e-3, rtol=1e-2
    )


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
