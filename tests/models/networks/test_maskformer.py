"""MaskFormer beside its formula, and its backbone beside the other family's."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from fusion.errors import InputError
from fusion.models.networks.swin import SIZES, backbone_config
from fusion.models.registry import build
from fusion.models.tta import to_probabilities


def test_maskformer_scores_are_the_sum_over_queries(transformers):
    network = build("maskformer", 3, {"preset": "micro"}).eval()
    images = torch.randn(1, 3, 64, 64)
    found = network.model(images, output_hidden_states=True)
    score = np.zeros((3, 16, 16))
    for query in range(20):
        classes = found.class_queries_logits[0, query].softmax(0)[:3].detach().double().numpy()
        mask = found.masks_queries_logits[0, query].sigmoid().detach().double().numpy()
        score += classes[:, None, None] * mask
    outputs = to_probabilities(network.logits(images), "probabilities")[0].detach().numpy()
    np.testing.assert_allclose(outputs, score / score.sum(axis=0), rtol=1e-4)


def test_scores_do_not_vanish_where_no_query_claims_a_pixel(transformers, monkeypatch):
    network = build("maskformer", 3, {"preset": "micro"}).eval()
    found = SimpleNamespace(
        class_queries_logits=torch.randn(1, 2, 4),
        masks_queries_logits=torch.tensor([-300.0, -302.0]).view(1, 2, 1, 1),
    )
    monkeypatch.setattr(network.model, "forward", lambda images, **_: found)
    outputs = to_probabilities(network.logits(torch.zeros(1, 3, 32, 32)), network.values)
    one, other = found.class_queries_logits[0].softmax(dim=1)[:, :3]
    expected = one + other * np.exp(-2.0)
    torch.testing.assert_close(outputs[0, :, 0, 0], expected / expected.sum())


def test_maskformer_trains_on_the_classes_that_are_there(transformers, monkeypatch):
    network = build("maskformer", 3, {"preset": "micro"})
    targets = torch.full((3, 64, 64), 255)
    targets[0, :32], targets[0, 32:] = 2, 0
    targets[2, 5:9, 7] = 1
    given, original = {}, network.model.forward

    def forward(images, **labels):
        given.update(labels, images=images)
        return original(images, **labels)

    monkeypatch.setattr(network.model, "forward", forward)
    assert network.loss(torch.randn(3, 3, 64, 64), targets, None).ndim == 0
    assert [labels.tolist() for labels in given["class_labels"]] == [[0, 2], [1]]
    assert [int(mask.sum()) for mask in given["mask_labels"][1]] == [4]
    assert len(given["images"]) == 2
    empty = network.loss(torch.randn(1, 3, 64, 64), torch.full((1, 64, 64), 255), None)
    empty.backward()
    assert empty == 0


def test_queries_start_apart(transformers):
    """From one point they would all learn the same; the library's initialisation leaves 0.0003."""
    network = build("maskformer", 3, {"preset": "micro"}).eval()
    found = network.model(torch.randn(2, 3, 64, 64), output_hidden_states=True)
    assert found.transformer_decoder_last_hidden_state.std(dim=1).mean() > 0.1


def test_one_backbone_under_two_names(transformers):
    """Published Swin weights mean the same in both families."""
    backbone = transformers.SwinBackbone(backbone_config(SIZES["micro"])).eval()
    network = build("maskformer", 1, {"preset": "micro"}).eval()
    network.start_from(backbone.state_dict())
    images = torch.randn(1, 3, 64, 64)
    maps = network.model.model.pixel_level_module.encoder(images).feature_maps
    for left, right in zip(maps, backbone(images).feature_maps, strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-4)
    with pytest.raises(InputError, match="has no counterpart"):
        network.start_from({})


def authors_loss(layers, truth) -> float:
    """mask_former/modeling/criterion.py and matcher.py of the MaskFormer authors, written out.

    layers: (class logits [Q, C + 1], mask logits [Q, h, w]) of one image, a term of the sum each.
    truth: (classes [K], masks [K, H, W]). Weights 1, 20, 1; "no object" counts 0.1.
    """
    scipy = pytest.importorskip("scipy.optimize")
    labels, masks = truth
    flat, total = masks.flatten(1), 0.0
    for classes, scores in layers:
        size = masks.shape[-2:]
        grown = functional.interpolate(scores[None], size, mode="bilinear")[0].flatten(1)

        def focal(mask, target):
            p = mask.sigmoid()
            agree = p * target + (1 - p) * (1 - target)
            side = 0.25 * target + 0.75 * (1 - target)
            return (-agree.log() * (1 - agree) ** 2 * side).mean()

        def dice(mask, target):
            p = mask.sigmoid()
            return 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)

        small = functional.interpolate(masks[None], scores.shape[-2:], mode="nearest")[0].flatten(1)
        cost = torch.tensor(
            [
                [
                    20 * focal(scores[q].flatten(), small[k])
                    + dice(scores[q].flatten(), small[k])
                    - classes[q].softmax(0)[labels[k]]
                    for k in range(len(labels))
                ]
                for q in range(len(classes))
            ]
        )
        queries, matched = scipy.linear_sum_assignment(cost)
        target = torch.full((len(classes),), classes.shape[1] - 1)
        target[queries] = labels[matched]
        weight = torch.ones(classes.shape[1], dtype=classes.dtype)
        weight[-1] = 0.1
        total += functional.cross_entropy(classes, target, weight)
        for q, k in zip(queries, matched, strict=True):
            total += (20 * focal(grown[q], flat[k]) + dice(grown[q], flat[k])) / len(labels)
    return float(total)


def test_deep_supervision_is_the_authors(transformers):
    """A term a layer, of normalised queries; the library alone adds one of the queries' zeros."""
    torch.manual_seed(0)
    network = build("maskformer", 3, {"preset": "micro"}).eval().double()
    model = network.model
    images, masks = torch.randn(1, 3, 64, 64, dtype=torch.float64), torch.zeros(2, 64, 64)
    masks[0, :32], masks[1, 32:] = 1.0, 1.0
    masks, labels = masks.double(), torch.tensor([2, 0])
    given = {"mask_labels": [masks], "class_labels": [labels]}

    def terms(states):
        pixels = model.model(images).pixel_decoder_last_hidden_state[0]
        for state in states:
            mask = torch.einsum("qc,chw->qhw", model.mask_embedder(state)[0], pixels)
            yield model.class_predictor(state)[0], mask

    def supervised():
        return model(images, **given, output_hidden_states=True).loss.item()

    decoder, states = model.model.transformer_module.decoder, []
    torch.nn.init.uniform_(decoder.layernorm.weight, 0.5, 1.5)  # as trained; at 1 it does nothing
    for layer in decoder.layers:
        layer.register_forward_hook(lambda _, given, found: states.append((given[0], found)))
    with torch.no_grad():
        ours = supervised()
        (zeros, first), (_, last) = states
        assert not zeros.any()
        layers = [decoder.layernorm(first), decoder.layernorm(last)]
        assert ours == pytest.approx(authors_loss(terms(layers), (labels, masks)))
        model.model._forward_hooks.clear()
        library = [zeros, first, decoder.layernorm(last)]
        expected = authors_loss(terms(library), (labels, masks))
        assert supervised() == pytest.approx(expected)
        assert ours < 0.9 * expected
