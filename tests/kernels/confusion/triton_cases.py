"""The Triton confusion counts against the oracle: interpreted, or on a real GPU."""

from __future__ import annotations

import torch

from fusion.kernels.confusion import triton
from tests.kernels.confusion.contract import ConfusionContract
from tests.kernels.interpreted import DEVICE


class TestTriton(ConfusionContract):
    backend = triton
    device = DEVICE

    def test_nothing_is_written_for_what_is_outside(self):
        targets, labels = (
            torch.tensor(ids, dtype=torch.int16, device=DEVICE)
            for ids in ([0, 1, 5, 2, -1, 9], [0, 1, 0, 7, 0, -3])
        )
        counts = torch.zeros(3, 3, 3, dtype=torch.int64, device=DEVICE)
        outside = torch.zeros(1, dtype=torch.int32, device=DEVICE)
        given = (targets, labels, counts[1:2], outside, 6, 3, 255)
        triton.confusion_kernel[(1,)](*given, COPIES=1, BLOCK_P=128)
        assert counts.nonzero().tolist() == [[1, 0, 0], [1, 1, 1]]
        assert outside.item() == 1
