"""The Triton average against the oracle: interpreted, or unchanged on a real GPU.

tests/kernels/test_triton_interpreter.py runs this in a process of its own with TRITON_INTERPRET=1;
on a machine with a GPU also `pytest tests/kernels/average/triton_cases.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import pytest
import torch

from fusion.kernels.average import naive, triton
from fusion.kernels.call import check
from tests.kernels.channels import AverageChannels
from tests.kernels.contract import AverageContract, Near
from tests.kernels.interpreted import DEVICE


def added_exactly(terms: Iterable[torch.Tensor]) -> torch.Tensor:
    return reduce(torch.add, (term.double() for term in terms)).to(torch.float32)


class TestTriton(Near, AverageContract):
    """Near the oracle with its sums rounded once: one class after another, in float32, it strays by
    1.2e-6 itself at 1000 classes, further than this kernel may."""

    backend = triton
    device = DEVICE

    @pytest.fixture(autouse=True)
    def sums_rounded_once(self, monkeypatch):
        monkeypatch.setattr(naive, "added", added_exactly)

    def test_too_many_classes_are_refused(self):
        logits, _ = self.make("float16", 1, 1025, (1,))
        with pytest.raises(ValueError, match="1025 classes"):
            self.average(check(logits, [1]))


class TestTritonChannels(AverageChannels):
    """Equal bits here too."""

    backend = triton
    device = DEVICE
