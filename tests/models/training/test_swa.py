"""Weight averaging beside what it is defined as."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fusion.errors import InputError
from fusion.models.registry import build
from fusion.models.training import checkpoint, swa
from fusion.models.training.architecture import Architecture


def test_cycles():
    rates = [swa.cyclical(step, 4, 1.0, 0.2) for step in range(8)]
    assert rates == pytest.approx([0.8, 0.6, 0.4, 0.2] * 2)


def test_the_average_is_the_mean_of_the_files(tmp_path):
    paths, states = [], []
    for k in range(7):
        torch.manual_seed(k)
        states.append({"a": torch.randn(40, 3), "b.count": torch.tensor(k)})
        paths.append(tmp_path / f"{k}{checkpoint.SUFFIX}")
        checkpoint.save(paths[-1], states[-1], {})
    found = swa.average(paths)
    expected = np.mean([state["a"].double().numpy() for state in states], axis=0)
    # NumPy adds the seven in another order
    np.testing.assert_array_max_ulp(found["a"].numpy(), expected.astype(np.float32), 1)
    assert found["b.count"] == 6
    assert torch.equal(swa.average(paths[:1])["a"], states[0]["a"])


def test_averages_of_different_networks_are_refused(tmp_path):
    paths = [tmp_path / f"{k}{checkpoint.SUFFIX}" for k in range(2)]
    for k, path in enumerate(paths):
        checkpoint.save(path, {"a": torch.zeros(k + 1)}, {})
    with pytest.raises(InputError, match="is of another network than"):
        swa.average(paths)
    with pytest.raises(InputError, match="no weights to average"):
        swa.average([])


def test_batch_norm_is_counted_anew(tmp_path):
    network = build("plain", 3, {"preset": "micro"})
    path = tmp_path / f"w{checkpoint.SUFFIX}"
    checkpoint.save(path, network.state_dict(), {})
    images = [torch.randn(4, 3, 32, 32) + 2 for _ in range(3)]
    architecture = Architecture("plain", ("a", "b", "c"), {"preset": "micro"})
    tensors, device = swa.average([path]), torch.device("cpu")
    network = swa.refreshed(architecture, tensors, path, images, device, seed=0)
    norm = network.stem[1]
    entering = [network.stem[0](batch) for batch in images]
    means, variances = zip(*((x.mean((0, 2, 3)), x.var((0, 2, 3))) for x in entering), strict=True)
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(dim=0))
    torch.testing.assert_close(norm.running_var, torch.stack(variances).mean(dim=0))
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.momentum == 0.1
