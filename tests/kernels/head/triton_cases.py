"""The Triton head against the oracle: interpreted, or unchanged on a real GPU.

tests/kernels/test_triton_interpreter.py runs this in a process of its own with TRITON_INTERPRET=1;
on a machine with a GPU also `pytest tests/kernels/head/triton_cases.py`.
"""

from __future__ import annotations

import pytest
import torch

from fusion.kernels.arithmetic import HEAD_OUTPUTS, Fused
from fusion.kernels.call import Head, check_head
from fusion.kernels.head import triton
from tests.kernels.head.contract import HeadContract
from tests.kernels.interpreted import DEVICE


class Close:
    """Scores as near as the bound says, labels equal where the margin is above it."""

    def agree(self, got: Fused, expected: Fused, call: Head) -> None:
        room = 2 * triton.bound(call)  # both may be off
        scores = expected.scores.double()
        if got.scores is not None:
            torch.testing.assert_close(
                got.scores.double() / room.view(-1, *(1,) * len(call.shape)),
                scores / room.view(-1, *(1,) * len(call.shape)),
                rtol=0, atol=1, equal_nan=True,
            )  # fmt: skip
        if got.labels is not None:
            assert got.labels.dtype == expected.labels.dtype
            best = scores.nan_to_num().sort(dim=0, descending=True).values
            clear = best[0] - best[min(1, len(best) - 1)] > 2 * room.max()
            clear |= scores.isnan().any(dim=0) | torch.tensor(len(best) == 1)
            differ = got.labels.to(torch.int64) != expected.labels.to(torch.int64)
            assert not (differ & clear).any(), (differ & clear).nonzero()
        if got.probabilities is not None:
            atol = 4 * float(room.max())  # of a softmax whose scores are off by `room`
            theirs = expected.probabilities
            torch.testing.assert_close(got.probabilities, theirs, rtol=0, atol=atol, equal_nan=True)


class TestTriton(Close, HeadContract):
    backend = triton
    device = DEVICE

    @pytest.mark.parametrize(("form", "most"), [("log", 1024), ("mix", 512)])
    def test_too_many_classes_are_refused(self, form, most):
        maps, _ = self.make("float16", 1, most + 1, (1,))
        with pytest.raises(ValueError, match=f"^maps: got {most + 1} classes|^logits: got"):
            self.head(check_head(maps, *self.weights(form, 1, most + 1)))

    def test_weights_keep_their_model_where_kinds_are_sorted(self):
        """Models are launched by kind of value; each has its own weights all the same."""
        maps, values = self.make("mixed", 5, 6, (70,))
        for form in ("log", "mix"):
            mixing, bias = self.weights(form, 5, 6)
            mixing *= torch.tensor([1.0, -2, 3, 0, 5]).view(-1, *(1,) * (mixing.ndim - 1))
            self.check(maps, mixing, bias, values=values, outputs=HEAD_OUTPUTS)
