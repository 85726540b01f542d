"""The oracle against arithmetic that shares nothing with it, and the contract in small tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion.kernels.average import naive
from fusion.kernels.call import OUTPUTS, check
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
