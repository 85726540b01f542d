"""What contenders are given. M models, G groups, C classes, logits [C, ...]."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

BLOCK = 2048  # pixels whose scores stay in a second-level cache


@dataclass(frozen=True)
class Problem:
    """Logits of M models, one weight per group, label size. For confusion counts `logits` holds
    targets and labels."""

    logits: list[Tensor]
    weights: list[float]
    groups: list[list[int]]
    size: tuple[int, int]
    frames: int
    classes: int

    @classmethod
    def of(cls, logits: list[Tensor], size: tuple[int, int], frames: int) -> Problem:
        """Three groups of unequal size, weights 1, 1.4, 1, as in the paper's ensemble."""
        models = len(logits)
        first, second = max(1, models // 7), max(2, models * 8 // 11)
        groups = [list(range(first)), list(range(first, second)), list(range(second, models))]
        return cls(logits, [1.0, 1.4, 1.0], groups, size, frames, logits[0].shape[0])

    def to(self, device: torch.device) -> Problem:
        return replace(self, logits=[z.to(device) for z in self.logits])

    def shares(self) -> list[float]:
        """Each model's factor: its group's weight over the group's size and the sum of all
        weights."""
        shares = [0.0] * len(self.logits)
        for weight, group in zip(self.weights, self.groups, strict=True):
            for m in group:
                shares[m] = weight / len(group) / sum(self.weights)
        return shares

    def elements(self) -> int:
        return sum(z.numel() for z in self.logits)

    def bytes(self) -> int:
        """What must be read; labels written are a thousandth of it."""
        return sum(z.numel() * z.element_size() for z in self.logits)


def decoded(logits: Tensor) -> Tensor:
    """Gap codes by the plain formula, everything as float32."""
    if logits.dtype != torch.uint8:
        return logits.float()
    return (logits.float() * (1 / 255)).square_().mul_(-24.0)
