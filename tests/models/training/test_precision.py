"""Mixed precision: what is computed in which type, and a scale that comes back."""

from __future__ import annotations

import pytest
import torch

from fusion.errors import InputError
from fusion.models.training import checkpoint, run
from fusion.models.training.precision import Precision
from fusion.models.training.run import Run, train
from tests.models.tools import CPU, same_state

TYPES = {"auto": None, "float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}

SCALE = {"scale": 256.0, "growth_factor": 2.0, "backoff_factor": 0.5}
SCALE |= {"growth_interval": 2000, "_growth_tracker": 0}


@pytest.mark.parametrize(("name", "half"), TYPES.items())
def test_the_forward_pass_is_of_the_type_that_is_asked_for(configure, name, half):
    run = Run(configure(train={"precision": name}), CPU)
    seen, images = [], torch.randn(2, 3, 32, 32)
    run.network.head.register_forward_hook(lambda *found: seen.append(found[2].dtype))
    with run.precision.forward():
        run.network.logits(images)
    assert seen == [half or torch.float32]
    assert all(weights.dtype == torch.float32 for weights in run.network.parameters())
    assert run.precision.scaler.is_enabled() == (name == "fp16")


def test_auto_is_bf16_on_a_gpu():
    assert Precision("auto", torch.device("cuda")).name == "bf16"
    assert Precision("auto", torch.device("cpu")).name == "float32"


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_a_step_is_nearly_that_of_float32(configure, name):
    networks = []
    for precision in ("float32", name):
        one = Run(configure(train={"precision": precision, "clip": 0.5}), CPU)
        one.network.train()
        one.precision.restore(SCALE)
        loss = one.update(list(one.batches(0, 1)))
        networks.append((loss, torch.cat([p.grad.flatten() for p in one.network.parameters()])))
    (expected, gradient), (found, halves) = networks
    assert found == pytest.approx(expected, rel=0.02)
    assert halves.norm() == pytest.approx(0.5, rel=1e-3)  # unscaled before it is clipped
    assert (
        torch.cosine_similarity(halves, gradient, dim=0) > 0.75
    )  # of bf16's 8 bits, through nine layers


def test_an_overflow_costs_its_step_and_halves_the_scale(configure):
    one = Run(configure(train={"precision": "fp16"}), CPU)
    one.network.train()
    one.precision.restore({**SCALE, "scale": 3e38})  # whose gradients are infinite
    before = {name: tensor.clone() for name, tensor in one.network.named_parameters()}
    one.update(list(one.batches(0, 1)))
    assert same_state(before, dict(one.network.named_parameters()))
    assert one.precision.state()["scale"] == pytest.approx(1.5e38, rel=1e-6)


def test_the_scale_is_kept(configure):
    options = configure(train={"precision": "fp16"})
    train(options, "cpu")
    document = checkpoint.load(Run(options, CPU).file("checkpoint"))[1]
    assert document["scaler"]["scale"] < 65536.0  # torch's first one: a step overflowed
    assert Run(options, CPU).precision.state() == document["scaler"]
    plain = configure("plain")
    train(plain, "cpu")
    assert "scaler" not in checkpoint.load(run.Run(plain, CPU).file("checkpoint"))[1]


def test_no_such_precision(configure):
    match = r"precision is 'fp8'; give one of auto, float32, bf16, fp16"
    with pytest.raises(InputError, match=match):
        configure(train={"precision": "fp8"})
