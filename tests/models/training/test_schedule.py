"""Learning rates beside torch's own schedules and the formulas written out."""

from __future__ import annotations

import math

import pytest
import torch

from fusion.models.training.schedule import learning_rate
from tests.models.tools import SWA


def test_warm_up_and_poly_then_cycles(configure):
    options = configure(
        train={"steps": 10, "warmup": 4, "learning_rate": 1.0, "power": 2.0},
        swa={**SWA, "highest": 0.5, "lowest": 0.1},
    )
    rates = [learning_rate(options, step) for step in range(14)]
    expected = [min(1, (i + 1) / 4) * (1 - i / 10) ** 2 for i in range(10)]
    assert rates == pytest.approx([*expected, 0.3, 0.1, 0.3, 0.1])


def test_cosine_is_torch_s(configure):
    train = {"steps": 20, "warmup": 0, "learning_rate": 0.3, "schedule": "cosine"}
    options = configure(train=train)
    weights = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weights], lr=0.3)
    twin = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 20)
    for step in range(20):
        assert learning_rate(options, step) == pytest.approx(optimiser.param_groups[0]["lr"])
        optimiser.step()
        twin.step()
    warm = configure(train={**train, "warmup": 4})
    expected = 0.3 * 0.5 * (1 + math.cos(math.pi / 20)) / 2  # step 1 of 20, 2 of 4 warm
    assert learning_rate(warm, 1) == pytest.approx(expected)


def test_cycles_along_half_a_cosine(configure):
    """Huang et al., equation 2, of two steps a cycle: the middle of the fall, then its end."""
    swa = {**SWA, "rate": "cosine", "highest": 0.5, "lowest": 0.1}
    options = configure(swa=swa)
    first = options.train.steps
    rates = [learning_rate(options, first + step) for step in range(4)]
    assert rates == pytest.approx([0.3, 0.1, 0.3, 0.1])


def test_a_constant_rate_while_weights_are_averaged(configure):
    swa = {**SWA, "rate": "constant", "highest": 0.5, "lowest": 0.1}
    options = configure(swa=swa)
    assert [learning_rate(options, step) for step in range(4, 8)] == [0.5] * 4
