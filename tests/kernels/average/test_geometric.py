"""The geometric mean: the oracle's lines on scaled logarithms bit for bit, and float64 products."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion.kernels.arithmetic import OUTPUTS, log32, scaled_logs
from fusion.kernels.average import naive
from fusion.kernels.average.geometric import geometric
from fusion.kernels.numbers import LEAST_PROBABILITY

WEIGHTS = [1.0, 0.0, 1.4]


def means_of(*shape: int, seed: int = 0) -> torch.Tensor:
    """Group means [G, C, ...] with exact zeros, as softmaxes far apart have them."""
    draw = np.random.default_rng(seed)
    p = draw.dirichlet(np.full(shape[1], 0.3), (shape[0], *shape[2:]))
    p[p < 1e-3] = 0.0
    return torch.tensor(np.moveaxis(p, -1, 1), dtype=torch.float32).contiguous()


def test_log32_is_within_two_units_in_the_last_place():
    x = torch.cat([torch.logspace(-11, 0.1, 200001), torch.linspace(0.4, 1.2, 100001)])
    exact = torch.log(x.double())
    unit = torch.from_numpy(np.spacing(exact.float().abs().numpy())).double()
    assert ((log32(x).double() - exact).abs() / unit).max() < 2
    assert log32(torch.tensor([1.0, torch.nan])).nan_to_num(9.0).tolist() == [0.0, 9.0]


def test_scaled_logs_reach_from_the_floor_to_one():
    p = torch.tensor([[0.0, 1e-20, LEAST_PROBABILITY, np.exp(-12.0), 1.0, torch.nan]]).float()
    found = scaled_logs(p.clone())[0]
    assert found[:3].tolist() == pytest.approx([0.0] * 3, abs=1e-7)
    assert (found[:3] >= 0).all()
    assert found[3:5].tolist() == pytest.approx([0.5, 1.0], abs=1e-7)
    assert found[5].isnan()


def test_bits_do_not_depend_on_tiles():
    means = means_of(3, 7, 20011)
    apart = torch.stack([scaled_logs(column.clone()) for column in means.unbind(2)[:50]], dim=2)
    assert torch.equal(scaled_logs(means.clone())[:, :, :50], apart)


def test_every_output_is_the_float64_product():
    means = means_of(3, 5, 40, 50)
    shares = np.array(WEIGHTS)[:, None, None, None] / sum(WEIGHTS)
    logs = shares * np.log(np.maximum(means.numpy().astype(np.float64), LEAST_PROBABILITY))
    product = np.exp(logs.sum(axis=0))
    product /= product.sum(axis=0)
    found = geometric(means.clone(), WEIGHTS, OUTPUTS)
    np.testing.assert_allclose(found.probabilities, product, atol=1e-5)
    top = np.sort(product, axis=0)[::-1]
    np.testing.assert_allclose(found.confidence, top[0], atol=1e-5)
    np.testing.assert_allclose(found.margin, top[0] - top[1], atol=2e-5)
    np.testing.assert_allclose(found.entropy, -(product * np.log(product)).sum(axis=0), atol=1e-4)
    clear = top[0] - top[1] > 1e-5
    assert clear.mean() > 0.9
    assert np.array_equal(found.labels[clear], product.argmax(axis=0)[clear])


@pytest.mark.parametrize("outputs", [("labels",), ("labels", "probabilities"), ("group_means",)])
def test_the_definition_bit_for_bit(outputs):
    means = means_of(3, 6, 500, seed=1)
    means[:, 2, 7] = torch.nan
    logs = scaled_logs(means.clone())
    scores = naive.combine(logs, WEIGHTS)
    expected = {"labels": naive.argmax(scores), "group_means": logs}
    expected["probabilities"] = naive.softmax(scores * 24.0)
    found = geometric(means.clone(), WEIGHTS, outputs).asked()
    assert found.keys() == set(outputs)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0, equal_nan=True)
    assert expected["labels"][7] == 255
