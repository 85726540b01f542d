"""The Triton average against the oracle: interpreted, or unchanged on a real GPU.

tests/kernels/test_triton_interpreter.py runs this in a process of its own with TRITON_INTERPRET=1;
on a machine with a GPU also `pytest tests/kernels/average/triton_cases.py`.
"""

from __future__ import annotations

import pytest

from fusion.kernels.average import triton
from fusion.kernels.call import check
from tests.kernels.channels import AverageChannels
from tests.kernels.contract import AverageContract, Near
from tests.kernels.interpreted import DEVICE


class TestTriton(Near, AverageContract):
    backend = triton
    device = DEVICE

    def test_too_many_classes_are_refused(self):
        logits, _ = self.make("float16", 1, 1025, (1,))
        with pytest.raises(ValueError, match="1025 classes"):
            self.average(check(logits, [1]))


class TestTritonChannels(AverageChannels):
    """Equal bits here too."""

    backend = triton
    device = DEVICE
