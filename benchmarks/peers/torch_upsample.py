"""torch: fused and interpolated to the labels' size, in either order."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.peers.peer import Peer
from benchmarks.peers.problem import Problem, decoded
from benchmarks.peers.torch_average import accumulated


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """[C, h, w] to [C, H, W]."""
    return torch.nn.functional.interpolate(
        maps[None], size=size, mode="bilinear", align_corners=False
    )[0]


def upsample_probabilities(p: Problem) -> Tensor:
    """Fuses at native size, interpolates once."""
    return resized(accumulated(p.logits, p.shares()), p.size).argmax(dim=0)


def upsample_logits(p: Problem) -> Tensor:
    """Interpolates every model's logits."""
    total = torch.zeros((p.classes, *p.size), device=p.logits[0].device)
    for z, share in zip(p.logits, p.shares(), strict=True):
        total += resized(decoded(z), p.size).softmax(dim=0) * share
    return total.argmax(dim=0)


PROBABILITIES = Peer("torch eager, probabilities", upsample_probabilities)
LOGITS = Peer("torch eager, logits", upsample_logits)
