"""Tiny networks that count their calls, and what the tests of hooks share."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

CLASSES = ["sky", "road", "car"]


class Net(nn.Module):
    """[N, 3, H, W] to logits [N, 3, H / 4, W / 4], the same whatever it is batched with."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.mix = nn.Parameter(torch.randn(3, 3, generator=generator))
        self.frozen = nn.Dropout(0.5).eval()
        self.calls = []  # images of each

    def forward(self, images):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.calls.append(len(images))
        small = images[..., ::4, ::4]
        return torch.stack([torch.tensordot(self.mix, one, 1) for one in small])


def pictures(count: int, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def halves(predictions: torch.Tensor) -> np.ndarray:
    """What an "exact" store reads as: the nearest float16."""
    return predictions.detach().float().numpy().astype(np.float16).astype(np.float32)


def expected(images: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return halves(Net().eval()(images))
