"""Logit adjustment: the equations, in training and after it, on either head."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from fusion.errors import InputError
from fusion.models.networks.plain import Plain
from fusion.models.registry import Network, build
from fusion.models.training import checkpoint
from fusion.models.training.adjustment import TAU, CosineClassifier, PostHoc, adjust
from fusion.models.training.architecture import Architecture
from fusion.models.tta import to_probabilities
from tests.models.training.test_losses import finite_differences

PRIOR = torch.tensor([0.7, 0.2, 0.1]).log()
MICRO = {"preset": "micro"}


def test_the_paper_s_number_is_the_default():
    assert TAU == 0.03


@pytest.mark.parametrize("scale", [1.0, 1 / 0.03])
def test_cosine_classifier_is_equation_2_in_training_and_3_afterwards(scale):
    prior = torch.tensor([0.7, 0.2, 0.1]).log()
    layer = CosineClassifier(4, 3, prior, tau=0.03, scale=scale)
    features = torch.randn(2, 4, 3, 5)
    weight = layer.weight.detach().numpy()
    for training, tau in ((True, 0.03), (False, 0.0)):
        found = layer.train(training)(features).detach().numpy()
        for n, y, x in np.ndindex(2, 3, 5):
            vector = features[n, :, y, x].numpy()
            norm = np.linalg.norm(weight, axis=1) * np.linalg.norm(vector)
            expected = scale * (weight @ vector / norm + tau * prior.numpy())
            np.testing.assert_allclose(found[n, :, y, x], expected, atol=1e-6 * scale)


def test_queries_have_a_last_class_without_prior():
    layer = CosineClassifier(4, 4, torch.tensor([0.7, 0.2, 0.1]).log(), tau=0.5, axis=-1)
    features = torch.randn(3, 2, 6, 4)
    bias = layer.train()(features) - layer.eval()(features)
    expected = 0.5 * torch.tensor([0.7, 0.2, 0.1, 1.0]).log()
    torch.testing.assert_close(bias, expected.expand(3, 2, 6, 4))


def test_cosine_gradient_by_finite_differences():
    layer = CosineClassifier(3, 2, torch.tensor([0.9, 0.1]).log()).train()
    features = torch.randn(1, 3, 2, 2)
    towards = torch.randn(1, 2, 2, 2)
    point = features.clone().requires_grad_()
    (layer(point) * towards).sum().backward()
    estimated = finite_differences(lambda f: (layer(f) * towards).sum().detach(), features, 1e-3)
    torch.testing.assert_close(point.grad, estimated, atol=5e-3, rtol=2e-2)


def test_adjusted_networks_ignore_the_prior_at_test_time():
    images = torch.randn(2, 3, 32, 32)
    network = build("plain", 3, {"preset": "micro"}).eval()
    adjust(network, torch.tensor([0.98, 0.01, 0.01]).log(), 1.0)
    network.eval()
    before = network.logits(images)
    network.head.log_prior.zero_()
    assert torch.equal(before, network.logits(images))
    assert before.abs().max() <= 1 + 1e-6


def test_adjustment_needs_to_know_the_last_layer():
    with pytest.raises(InputError, match="names no last layer; set its `classifier`"):
        adjust(Network(), torch.zeros(3))


def test_the_own_head_keeps_its_layer_and_sees_the_prior_in_training():
    """Equation 10 of Menon et al. (2021): f + tau log pi under the cross-entropy."""
    torch.manual_seed(0)
    plain = build("plain", 3, MICRO).train()
    torch.manual_seed(0)
    adjusted = build("plain", 3, MICRO).train()
    adjust(adjusted, PRIOR, 0.5, 2.0, "own")
    images = torch.randn(2, 3, 32, 32)
    left, right = adjusted.logits(images), plain.logits(images)
    torch.testing.assert_close(left, right + PRIOR[:, None, None])  # s tau = 1
    targets = torch.randint(0, 3, (2, 8, 8))
    weighted = right.exp() * PRIOR.exp()[:, None, None]
    expected = -(weighted / weighted.sum(1, keepdim=True)).log().gather(1, targets[:, None]).mean()
    torch.testing.assert_close(functional.cross_entropy(left, targets), expected)
    assert torch.equal(adjusted.eval().logits(images), plain.eval().logits(images))
    assert adjusted.state_dict().keys() - plain.state_dict().keys() == {"head.log_prior"}


def test_the_own_head_of_queries(transformers):
    network = build("maskformer", 3, MICRO)
    adjust(network, PRIOR, 1.0, 1.0, "own")
    layer = network.get_submodule(network.classifier)
    features = torch.randn(2, 20, layer.in_features)
    bias = layer.train()(features) - layer.eval()(features)
    expected = functional.pad(PRIOR, (0, 1)).expand(2, 20, 4)
    torch.testing.assert_close(bias, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", ["own", "cosine"])
def test_files_say_which_head(tmp_path, head):
    there = Architecture("plain", ("a", "b", "c"), MICRO, 0.5, 2.0, head)
    network = there.build(PRIOR).eval()
    checkpoint.save_network(tmp_path / "w", network, there)
    other, found = checkpoint.load_network(tmp_path / "w")
    assert found == there
    assert ("head" in there.to_json()) == (head == "own")  # earlier files say nothing
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(other.logits(images), network.logits(images))
    assert torch.equal(other.get_buffer("head.log_prior"), PRIOR)
    with pytest.raises(TypeError):
        Architecture.from_json({**there.to_json(), "head": "tail"})


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_post_hoc_is_equation_9(tau):
    network = build("plain", 3, MICRO).eval()
    images = torch.randn(2, 3, 32, 32)
    found = PostHoc(network, PRIOR, tau).eval().logits(images)
    expected = network.logits(images) - tau * PRIOR[:, None, None]
    torch.testing.assert_close(found, expected)
    probability = to_probabilities(network.logits(images), "logits") * PRIOR.exp()[:, None, None]
    if tau == 1:  # a classifier that learned p(x) pi would forget pi
        layer = build("plain", 3, MICRO).eval()
        layer.logits = lambda _: probability.log()
        same = to_probabilities(PostHoc(layer, PRIOR, tau).logits(images), "logits")
        torch.testing.assert_close(same, to_probabilities(network.logits(images), "logits"))


def test_post_hoc_of_probabilities(monkeypatch):
    scores = torch.rand(1, 3, 2, 2) + 0.1
    monkeypatch.setattr(Plain, "values", "probabilities")
    network = build("plain", 3, MICRO)
    monkeypatch.setattr(network, "logits", lambda _: scores)
    adjusted = PostHoc(network, PRIOR, 0.5)
    assert (adjusted.values, adjusted.stride) == ("probabilities", 32)
    found = adjusted.logits(torch.zeros(1, 3, 32, 32))
    assert (found <= scores).all()
    expected = scores / PRIOR.exp().sqrt()[:, None, None]
    torch.testing.assert_close(
        to_probabilities(found, adjusted.values), to_probabilities(expected, adjusted.values)
    )
