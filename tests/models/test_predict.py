"""Filling stores: what is in them, going on after a stop, and both families of the paper from end to end."""

from __future__ import annotations

import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import fusion
from fusion.errors import InputError, StoreConflictError, StoreError
from fusion.models import predict, train, tta
from fusion.models.data.clips import Clips, standardised
from fusion.models.registry import Architecture
from fusion.models.training import checkpoint

PAPER_FAMILIES = ("swin-upernet", "maskformer")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A plain network of random weights for VSPW's classes."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    torch.manual_seed(0)
    architecture = Architecture(
        "plain", tuple(f"class_{c:03d}" for c in range(124)), {"preset": "micro"}
    )
    checkpoint.save_network(path, architecture.build(), architecture)
    return path


def command(weights, vspw, out, *more: str) -> list[str]:
    return [
        "--weights",
        str(weights),
        "--vspw",
        str(vspw),
        "--split",
        "val",
        "--out",
        str(out),
        "--device",
        "cpu",
        *more,
    ]


def test_the_store_holds_the_network_s_logits(weights, vspw, tmp_path):
    assert (
        predict.main(
            command(weights, vspw, tmp_path / "s.zarr", "--profile", "exact", "--batch", "2")
        )
        == 0
    )
    store, clips, (network, _) = (
        fusion.LogitStore(tmp_path / "s.zarr"),
        Clips.vspw(vspw, "val"),
        checkpoint.load_network(weights),
    )
    assert store.videos == tuple(sorted(clips.videos))
    assert (store.values, store.classes) == ("logits", clips.classes)
    for video in clips.videos:
        assert store.frames(video) == tuple(clips.frames(video))
        assert store.describe(video).size == (64, 96)
        images = torch.stack(
            [standardised(clips.image(video, frame)) for frame in clips.frames(video)]
        )
        torch.testing.assert_close(
            torch.from_numpy(store.read(video)),
            network.logits(images).detach(),
            atol=2e-3,
            rtol=1e-3,
        )


def test_views_are_stored_as_probabilities(weights, vspw, tmp_path):
    predict.main(command(weights, vspw, tmp_path / "s.zarr", "--flip", "--scales", "0.75", "1"))
    store, clips, (network, _) = (
        fusion.LogitStore(tmp_path / "s.zarr"),
        Clips.vspw(vspw, "val"),
        checkpoint.load_network(weights),
    )
    assert store.values == "probabilities"
    assert store.info.provenance["scales"] == [0.75, 1.0]
    video = clips.videos[0]
    image = standardised(clips.image(video, clips.frames(video)[0]))[None]
    expected = tta.predict(network, image, flip=True, scales=(0.75, 1.0))[0]
    found = torch.from_numpy(store.read(video)[0]).softmax(dim=0)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0.1)


def test_stopped_and_gone_on_with(weights, vspw, tmp_path, monkeypatch):
    predict.main(command(weights, vspw, tmp_path / "whole.zarr"))
    original, calls = predict.predict, []

    def stops(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(predict, "predict", stops)
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
    with pytest.raises(
        StoreConflictError,
        match=r"begun with other weights or views .*flip is False there, True here",
    ):
        predict.main(command(weights, vspw, tmp_path / "s.zarr", "--scales", "2", "1", "--flip"))


def test_masks_are_not_needed(weights, vspw, tmp_path):
    clips = Clips.vspw(vspw, "val")
    for video in clips.videos:
        shutil.copytree(vspw / "data" / video / "origin", tmp_path / "images" / video)
    source = [
        "--weights",
        str(weights),
        "--images",
        str(tmp_path / "images"),
        "--out",
        str(tmp_path / "s.zarr"),
        "--device",
        "cpu",
    ]
    assert predict.main(source) == 0
    assert fusion.LogitStore(tmp_path / "s.zarr").videos == clips.videos


def test_images_of_two_sizes(weights, vspw, tmp_path):
    for t, size in enumerate(((96, 64), (96, 32))):
        (tmp_path / "images" / "clip").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(tmp_path / "images" / "clip" / f"{t}.png")
    source = [
        "--weights",
        str(weights),
        "--images",
        str(tmp_path / "images"),
        "--out",
        str(tmp_path / "s.zarr"),
        "--device",
        "cpu",
    ]
    with pytest.raises(InputError, match="video 'clip': frames are 96x64 and 96x32 pixels"):
        predict.main(source)
    assert fusion.LogitStore(tmp_path / "s.zarr").videos == ()


def test_bad_arguments(weights, vspw, tmp_path):
    with pytest.raises(StoreError, match=r"weights: .* cannot be read"):
        predict.main(command(tmp_path / "none.pt", vspw, tmp_path / "s.zarr"))
    with pytest.raises(InputError, match="batch: got 0"):
        predict.main(command(weights, vspw, tmp_path / "s.zarr", "--batch", "0"))
    (tmp_path / "classes.txt").write_text("\n".join(f"other {c}" for c in range(124)))
    with pytest.raises(InputError, match="differs from the classes that"):
        predict.main(
            command(weights, vspw, tmp_path / "s.zarr", "--classes", str(tmp_path / "classes.txt"))
        )


@pytest.fixture(scope="module")
def transformers():
    """The extra 'models'; imported once, its start takes seconds."""
    pytest.importorskip("scipy")
    return pytest.importorskip("transformers")


@pytest.mark.parametrize("name", PAPER_FAMILIES)
def test_families_of_the_paper(transformers, name):
    network = Architecture(name, ("a", "b", "c"), {"preset": "micro"}).build().eval()
    outputs = network.logits(torch.randn(2, 3, 64, 96)).detach()
    assert outputs.shape == (2, 3, 16, 24)
    assert network.values == ("logits" if name == "swin-upernet" else "probabilities")
    probabilities = tta.to_probabilities(outputs, network.values)
    assert (probabilities > 0).all()
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, 16, 24))


def test_maskformer_scores_are_the_sum_over_queries(transformers):
    network = Architecture("maskformer", ("a", "b", "c"), {"preset": "micro"}).build().eval()
    images = torch.randn(1, 3, 64, 64)
    found = network.model(images)
    score = np.zeros((3, 16, 16))
    for query in range(20):
        classes = found.class_queries_logits[0, query].softmax(0)[:3].detach().double().numpy()
        score += (
            classes[:, None, None]
            * found.masks_queries_logits[0, query].sigmoid().detach().double().numpy()
        )
    expected = score / score.sum(axis=0)
    np.testing.assert_allclose(
        tta.to_probabilities(network.logits(images), "probabilities")[0].detach().numpy(),
        expected,
        rtol=1e-4,
    )


def test_scores_do_not_vanish_where_no_query_claims_a_pixel(transformers, monkeypatch):
    network = Architecture("maskformer", ("a", "b", "c"), {"preset": "micro"}).build().eval()
    found = SimpleNamespace(
        class_queries_logits=torch.randn(1, 2, 4),
        masks_queries_logits=torch.tensor([-300.0, -302.0]).view(1, 2, 1, 1),
    )
    monkeypatch.setattr(network.model, "forward", lambda images, **_: found)
    probabilities = tta.to_probabilities(network.logits(torch.zeros(1, 3, 32, 32)), network.values)[
        0, :, 0, 0
    ]
    one, other = found.class_queries_logits[0].softmax(dim=1)[:, :3]
    expected = one + other * np.exp(-2.0)
    torch.testing.assert_close(probabilities, expected / expected.sum())


def test_maskformer_trains_on_the_classes_that_are_there(transformers, monkeypatch):
    network = Architecture("maskformer", ("a", "b", "c"), {"preset": "micro"}).build()
    targets = torch.full((3, 64, 64), 255)
    targets[0, :32], targets[0, 32:] = 2, 0
    targets[2, 5:9, 7] = 1
    given = {}
    original = network.model.forward
    monkeypatch.setattr(
        network.model,
        "forward",
        lambda images, **labels: given.update(labels, images=images) or original(images, **labels),
    )
    assert network.loss(torch.randn(3, 3, 64, 64), targets, None).ndim == 0
    assert [labels.tolist() for labels in given["class_labels"]] == [[0, 2], [1]]
    assert [int(mask.sum()) for mask in given["mask_labels"][1]] == [4]
    assert len(given["images"]) == 2
    empty = network.loss(torch.randn(1, 3, 64, 64), torch.full((1, 64, 64), 255), None)
    empty.backward()
    assert empty == 0


def test_queries_start_apart(transformers):
    """From one point they would all learn the same; the library's own initialisation leaves 0.0003 here."""
    network = Architecture("maskformer", ("a", "b", "c"), {"preset": "micro"}).build().eval()
    found = network.model(torch.randn(2, 3, 64, 64), output_hidden_states=True)
    assert found.transformer_decoder_last_hidden_state.std(dim=1).mean() > 0.1


def test_one_backbone_under_two_names(transformers):
    """Published Swin weights mean the same in both families."""
    from fusion.models.networks.swin import SIZES, backbone_config

    backbone = transformers.SwinBackbone(backbone_config(SIZES["micro"])).eval()
    network = Architecture("maskformer", ("a",), {"preset": "micro"}).build().eval()
    network.start_from(backbone.state_dict())
    images = torch.randn(1, 3, 64, 64)
    maps = network.model.model.pixel_level_module.encoder(images).feature_maps
    for left, right in zip(maps, backbone(images).feature_maps, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)
    with pytest.raises(InputError, match="has no counterpart"):
        network.start_from({})


def test_own_losses_take_no_other(transformers, configure):
    with pytest.raises(InputError, match="'maskformer' trains by its own loss"):
        train.Run(
            configure(network={"name": "maskformer"}, loss={"ohem": True}), train.world("cpu")
        )


def test_published_weights_that_cannot_be_had(transformers, configure, monkeypatch):
    with pytest.raises(InputError, match="no published weights for preset 'micro'"):
        train.Run(
            configure(network={"name": "swin-upernet", "pretrained": True}), train.world("cpu")
        )
    refuse = classmethod(
        lambda cls, *_, **__: (_ for _ in ()).throw(OSError("no such model here\nand more"))
    )
    monkeypatch.setattr(transformers.SwinBackbone, "from_pretrained", refuse)
    with pytest.raises(
        StoreError,
        match=r"swin-tiny-patch4-window7-224 cannot be loaded \(no such model here\); connect",
    ):
        Architecture("swin-upernet", ("a",), {"preset": "tiny"}).build(pretrained=True)


def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        InputError,
        match=r"needs the extra 'models' .*; pip install 'segfusion\[models\]', or use 'plain'",
    ):
        Architecture("swin-upernet", ("a",), {"preset": "micro"}).build()


def test_from_training_to_labels(transformers, configure, vspw, tmp_path):
    """Both families: train, average, predict with views, search, label maps."""
    average = {"cycles": 2, "every": 1, "highest": 1e-3, "lowest": 1e-4, "refresh": 2}
    for name in PAPER_FAMILIES:
        final = train.train(
            configure(name, network={"name": name}, train={"steps": 2}, swa=average), "cpu"
        )
        assert final.stem == "averaged"
        predict.main(
            command(final, vspw, tmp_path / f"{name}.zarr", "--flip", "--scales", "1", "1.5")
        )
    ensemble = fusion.HierarchicalEnsemble(
        {"basic": [tmp_path / "maskformer.zarr"], "other": [tmp_path / "swin-upernet.zarr"]}
    )
    truth = fusion.Labels.vspw(vspw, "val")
    found = ensemble.search(truth, scheduler="synchronous")
    assert found.miou >= ensemble.evaluate(truth, scheduler="synchronous").miou
    video = truth.videos[0]
    labels = found.ensemble.predict(video)
    assert labels.shape == (len(truth.frames(video)), 64, 96)
