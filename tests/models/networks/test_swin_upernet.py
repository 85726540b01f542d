"""Swin-UPerNet as it is published: the head's width, the auxiliary head, dropout."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn import functional

from fusion.models import registry
from fusion.models.networks import swin, swin_upernet
from fusion.models.registry import build
from fusion.models.training import checkpoint, start
from fusion.models.training.losses import cross_entropy
from fusion.models.training.run import Run, train
from tests.models.tools import CPU, SWA, same_weights

OPTIONS = {"preset": "micro", "decoder": 32, "auxiliary": 16}


def test_a_new_run_is_as_published(transformers):
    """configs/_base_/models/upernet_swin.py of mmsegmentation: decode_head.channels,
    auxiliary_head.channels and dropout_ratio, which the configurations of all sizes inherit.
    """
    begun = partial(registry.begun, "swin-upernet")
    published = {"decoder": 512, "auxiliary": 256, "dropout": 0.1}
    for options in ({}, {"preset": "tiny"}, {"preset": "large", "pretrained": True}):
        assert begun(options) == options | published
    assert begun({"preset": "base", "decoder": 128})["decoder"] == 128
    assert begun({"preset": "micro"}) == {"preset": "micro"}
    assert registry.begun("plain", {"preset": "tiny"}) == {"preset": "tiny"}


def test_the_loss_is_transformers_own(transformers):
    network = build("swin-upernet", 3, OPTIONS).eval()
    head = network.model.auxiliary_head
    assert (head.in_index, head.channels, len(head.convs)) == (2, 16, 1)
    assert network.model.config.auxiliary_loss_weight == 0.4
    images, targets = torch.randn(2, 3, 64, 96), torch.randint(0, 3, (2, 64, 96))
    targets[:, :5] = 255
    expected = network.model(images, labels=targets).loss
    assert network.loss(images, targets, cross_entropy).item() == pytest.approx(expected.item())
    maps = network.model.backbone(images).feature_maps  # and by hand
    parts = [
        functional.cross_entropy(
            functional.interpolate(logits, (64, 96), mode="bilinear"), targets, ignore_index=255
        )
        for logits in (network.logits(images), head(maps))
    ]
    assert expected.item() == pytest.approx((parts[0] + 0.4 * parts[1]).item(), rel=1e-5)


def test_prediction_has_no_use_for_the_auxiliary_head(transformers, monkeypatch):
    network = build("swin-upernet", 3, OPTIONS).eval()
    monkeypatch.setattr(network.model.auxiliary_head, "forward", pytest.fail)
    assert network.logits(torch.randn(1, 3, 64, 64)).shape == (1, 3, 16, 16)


def test_dropout_is_of_channels_before_the_last_layers(transformers):
    network = build("swin-upernet", 3, {**OPTIONS, "dropout": 0.5})
    plain = build("swin-upernet", 3, OPTIONS)
    assert network.state_dict().keys() == plain.state_dict().keys()
    seen = []
    for head in (network.model.decode_head, network.model.auxiliary_head):
        head.classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    network.train().heads(torch.randn(2, 3, 64, 64))
    assert [features.shape[1] for features in seen] == [32, 16]
    for features in seen:
        gone = (features == 0).all(dim=(2, 3))
        assert 0.2 < gone.float().mean() < 0.8
    network.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(network.eval().logits(images), plain.eval().logits(images))


@pytest.fixture
def small(monkeypatch):
    """A preset of published sizes, made small."""
    monkeypatch.setitem(swin.SIZES, "tiny", replace(swin.SIZES["micro"], decoder=24))
    published = {"decoder": 32, "auxiliary": 16, "dropout": 0.1}
    monkeypatch.setattr(swin_upernet, "PUBLISHED", published)
    return {"preset": "tiny", **published}


def test_files_say_what_they_are_of(transformers, configure, small, monkeypatch):
    """New runs are as published and say so; what was begun before goes on, and loads, as it was."""
    network = {"name": "swin-upernet", "preset": "tiny"}
    with monkeypatch.context() as patch:  # an earlier release
        patch.setattr(swin_upernet.SwinUPerNet, "begun", classmethod(lambda _, options: options))
        earlier = train(configure("earlier", network=network, swa=SWA), "cpu")
        cut = Run(configure("cut", network=network, swa=SWA), CPU)
        cut.update(list(cut.batches(0, 1)))
        cut.step += 1
        cut._keep()
    tensors, architecture = checkpoint.load_weights(earlier)
    assert architecture.options == {"preset": "tiny"}
    assert len(tensors["model.decode_head.fpn_bottleneck.conv.weight"]) == 24
    assert same_weights(train(configure("cut", network=network, swa=SWA), "cpu"), earlier)
    on = Run(configure("on", network={**network, "start": str(earlier)}), CPU)
    assert on.architecture == architecture
    student = Run(configure("student", network=network, loss={"teacher": str(earlier)}), CPU)
    assert student.architecture == architecture

    new = train(configure("new", network=network), "cpu")
    tensors, architecture = checkpoint.load_weights(new)
    assert architecture.options == small
    assert len(tensors["model.decode_head.fpn_bottleneck.conv.weight"]) == 32
    before = new.read_bytes()
    assert train(configure("new", network=network), "cpu").read_bytes() == before
    assert checkpoint.load_network(new)[1] == architecture
    on = Run(configure("on", network={**network, "start": str(new)}), CPU)
    assert on.architecture == architecture
    missing = configure("no", network={**network, "start": "nothing"})
    assert start.begun(missing).network.options == small
