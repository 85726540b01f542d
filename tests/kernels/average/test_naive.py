"""The oracle against arithmetic that shares nothing with it, and the contract in small tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion.kernels.arithmetic import CHANNEL_OUTPUTS, sigmoid32
from fusion.kernels.average import naive
from fusion.kernels.call import OUTPUTS, check
from tests.kernels.channels import AverageChannels
from tests.kernels.contract import AverageContract
from tests.kernels.inputs import KINDS


class TestNaive(AverageContract):
    backend = naive

    def average(self, call):
        return naive.average(call, tile=500)

    @pytest.mark.parametrize("outputs", [("labels",), OUTPUTS, ("group_means",)])
    @pytest.mark.parametrize("kind", KINDS)
    def test_shapes_and_kinds(self, kind, outputs):
        """One shape that has several tiles; the others would be compared with themselves."""
        super().test_shapes_and_kinds(kind, (11, 1023, 4), outputs)


class TestNaiveChannels(AverageChannels):
    """In small tiles; everything else here is compared with itself."""

    backend = naive

    def average(self, call):
        return naive.average(call, tile=50)


def test_sigmoid_is_within_four_units_in_the_last_place():
    z = torch.cat([torch.linspace(-86, 86, 200001), torch.tensor([0.0, -0.0, 1e-30, -1e-7])])
    for temperature in (1.0, 0.3, 4.0):
        scale = 1.0 / torch.tensor(temperature)
        exact = torch.sigmoid(z.double() * scale.double())
        kept = (z * scale).abs() < 86  # e^-87 is the last before 0
        unit = torch.from_numpy(np.spacing(exact.float().numpy())).double()
        # the rounding of z / T moves the exponent by |z / T| units more
        room = 4 + (z * scale).abs().double()
        found = sigmoid32(z, temperature)
        assert ((found.double() - exact).abs() / unit <= room)[kept].all()
    beyond = torch.tensor([torch.inf, -torch.inf, 200.0, -200.0, torch.nan])
    assert sigmoid32(beyond, 1.0).nan_to_num(9.0).tolist() == [1.0, 0.0, 1.0, 0.0, 9.0]


@pytest.mark.parametrize("classes", [1, 3, 300])
def test_channels_against_float64_and_against_two_classes(classes):
    rng = np.random.default_rng(classes)
    logits = [torch.from_numpy(rng.normal(scale=4, size=(classes, 90))).float() for _ in range(4)]
    options = {"groups": [[0, 3], [2, 1]], "temperatures": [1.0, 0.7, 2.0, 1.3]}
    p = [z.double().div(t).sigmoid() for z, t in zip(logits, options["temperatures"], strict=True)]
    means = torch.stack([(p[0] + p[3]) / 2, (p[2] + p[1]) / 2])
    expected, names = (means[0] + 1.4 * means[1]) / 2.4, CHANNEL_OUTPUTS
    fused = naive.average(check(logits, [1.0, 1.4], channels=True, outputs=names, **options))
    torch.testing.assert_close(fused.probabilities.double(), expected, rtol=0, atol=3e-7)
    torch.testing.assert_close(fused.group_means.double(), means, rtol=0, atol=3e-7)
    assert torch.equal(fused.labels == 1, expected > 0.5)
    for c in range(min(classes, 3)):  # the softmax over (0, z) is the sigmoid
        opposed = [torch.stack([torch.zeros(90), z[c]]) for z in logits]
        rival = naive.average(check(opposed, [1.0, 1.4], outputs=("labels", "margin"), **options))
        assert torch.equal(fused.labels[c], rival.labels)
        assert (rival.margin > 1e-6).all()


def test_labels_of_channels_are_an_argmax_over_opposites():
    generator = torch.Generator().manual_seed(3)
    means = torch.randint(0, 9, (3, 5, 4000), generator=generator) / 8
    weights, multipliers = [1.0, 0.0, 1.0], [1.0, 0.6, 0.5, 0.5, 0.2, 1.0, 0.3, 0.3, 1.0, 1.0]
    both = torch.stack([1 - means, means], dim=2).flatten(1, 2)  # not-0, 0, not-1, 1, ...
    for given in (None, multipliers):
        scores = naive.multiplied(naive.combine(both, weights), given).unflatten(0, (5, 2))
        expected = torch.stack([naive.argmax(pair) for pair in scores])
        assert torch.equal(naive.channel_labels(means, weights, given), expected)
        assert (scores[:, 0] == scores[:, 1]).any()


def softmax64(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=0))
    return exponentials / exponentials.sum(axis=0)


@pytest.mark.parametrize("classes", [1, 2, 11, 124, 257])
def test_weighted_group_means_against_float64(classes):
    rng = np.random.default_rng(classes)
    logits = [rng.normal(scale=4, size=(classes, 90)).astype(np.float32) for _ in range(4)]
    temperatures, weights, groups = [1.0, 0.7, 2.0, 1.3], [1.0, 1.4], [[0, 3], [2, 1]]
    p = [softmax64(z.astype(np.float64) / t) for z, t in zip(logits, temperatures, strict=True)]
    means = np.stack([(p[0] + p[3]) / 2, (p[2] + p[1]) / 2])
    expected = (means[0] + 1.4 * means[1]) / 2.4
    options = {"groups": groups, "temperatures": temperatures, "outputs": OUTPUTS}
    fused = naive.average(check([torch.from_numpy(z) for z in logits], weights, **options))
    np.testing.assert_allclose(fused.probabilities, expected, atol=2e-6)
    np.testing.assert_allclose(fused.group_means, means, atol=2e-6)
    np.testing.assert_array_equal(fused.labels, expected.argmax(axis=0))
    ordered = np.sort(expected, axis=0)
    np.testing.assert_allclose(fused.confidence, ordered[-1], atol=2e-6)
    second = ordered[-2] if classes > 1 else 0
    np.testing.assert_allclose(fused.margin, ordered[-1] - second, atol=2e-6)
    entropy = -(expected * np.log(np.maximum(expected, 1e-300))).sum(axis=0)
    np.testing.assert_allclose(fused.entropy, entropy, atol=1e-5)


def test_ties_go_to_the_lowest_class_and_nan_to_the_void_label():
    scores = torch.tensor([[0.2, 0.5, torch.nan], [0.4, 0.5, 0.1], [0.4, 0.0, 0.1]])
    assert naive.argmax(scores).tolist() == [1, 0, 255]
    assert naive.argmax(torch.full((300, 1), torch.nan)).tolist() == [65535]
