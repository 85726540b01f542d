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

    def test_a_class_stride_beyond_32_bits(self):
        """Only the touched pages of this memory exist."""
        far = 2**32 + 64
        memory = torch.empty(far + 4096, dtype=torch.uint8, device=self.device)
        view = memory.as_strided((2, 64), (far, 1))
        view.copy_(self.make("codes", 1, 2, (64,))[0][0])
        self.check([view], [1.0], outputs=("labels", "probabilities"))

    @pytest.mark.parametrize("temperature", [1e-6, 3e-4, 1e4])
    def test_any_temperature(self, temperature):
        """At the lowest one a shift by the scaled maximum would err by more than float32 holds."""
        logits, _ = self.make("float16", 2, 9, (70,))
        logits = [(6000 * z).clamp(-65504, 65504) for z in logits]
        options = {"temperatures": [temperature] * 2, "outputs": ("labels", "probabilities")}
        got = self.check(logits, [1, 1], **options)
        assert not got.probabilities.isnan().any()


class TestTritonChannels(AverageChannels):
    """Equal bits here too."""

    backend = triton
    device = DEVICE
