"""What every backend of `confusion` must do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fusion.kernels.confusion import naive as confusion_naive
from tests.kernels.contract import Agreement


class ConfusionContract(Agreement):
    """`confusion(targets, labels, classes)` of a backend against the oracle."""

    def counts(self, targets, labels, classes, **options) -> np.ndarray:
        counts = self.backend.confusion(targets, labels, classes, **options)
        assert counts.dtype == torch.int64
        return counts.cpu().numpy()

    def expected(self, targets, labels, classes, ignore=255) -> np.ndarray:
        arrays = (targets.cpu().numpy(), labels.cpu().numpy())
        return confusion_naive.confusion(*arrays, classes, ignore=ignore)

    def pair(self, classes, shape, dtype, void=255) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(math.prod(shape))
        targets = torch.randint(0, classes + 1, shape, generator=generator)
        targets = torch.where(targets == classes, void, targets)
        labels = torch.randint(0, classes, shape, generator=generator)
        labels = torch.where(targets == void, 200, labels)  # beside void: does not count
        return targets.to(dtype).to(self.device), labels.to(dtype).to(self.device)

    @pytest.mark.parametrize(
        "dtype", [torch.uint8, torch.uint16, torch.int16, torch.int32, torch.int64]
    )
    @pytest.mark.parametrize(
        ("classes", "shape"),
        [(1, (1,)), (2, (4097,)), (11, (3, 70_001)), (11, (25920,)), (124, (1023,))],
    )
    def test_counts(self, classes, shape, dtype):
        targets, labels = self.pair(classes, shape, dtype)
        flipped = [ids.movedim(0, -1) for ids in (targets, labels)]
        counts = self.counts(targets, labels, classes)
        assert np.array_equal(counts, self.expected(targets, labels, classes))
        assert np.array_equal(counts, self.counts(flipped[0], flipped[1], classes))
        assert counts.sum() == int((targets.to(torch.int64) != 255).sum())

    def test_many_classes_and_void(self):
        ids = torch.arange(4000, dtype=torch.int32, device=self.device).reshape(50, 80)
        targets, labels = ids.T % 1000, (ids.T % 1000).flip(0)
        counts = self.counts(targets, labels, 1000, ignore=7)
        assert np.array_equal(counts, self.expected(targets, labels, 1000, ignore=7))
        assert not self.counts(torch.full_like(labels, 7), labels + 5000, 1000, ignore=7).any()
        assert self.counts(targets[:0], labels[:0], 3).shape == (3, 3)

    @pytest.mark.parametrize(
        ("target", "label", "name"),
        [
            *((5, 0, "targets hold 5 "), (0, 5, "labels hold 5 "), (-1, 0, "targets hold -1 ")),
            *((0, -1, "labels hold -1 "), (255, 255, "targets hold 255 ")),
        ],
    )
    def test_what_is_outside_is_refused_by_name(self, target, label, name):
        ids = ([0] * 5000 + [target], [0] * 5000 + [label])
        pair = [torch.tensor(x, dtype=torch.int16, device=self.device) for x in ids]
        with pytest.raises(ValueError, match=rf"{name}outside 0\.\.4; "):
            self.counts(*pair, 5, ignore=254)
