"""torch: an average of sigmoids, and more than one half of it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.peers.peer import Peer
from benchmarks.peers.problem import Problem


def channel_probabilities(values: Tensor) -> Tensor:
    """Of logits, or angle codes, of independent channels."""
    if values.dtype != torch.uint8:
        return values.float().sigmoid_()
    return (values.float() + 0.5).mul_(torch.pi / 512).sin_().square_()


def channels_stack(p: Problem) -> Tensor:
    """float32 stack of sigmoids, weighted mean, more than one half."""
    stack = torch.stack([channel_probabilities(z) for z in p.logits])
    shares = torch.tensor(p.shares(), device=stack.device).view(-1, *[1] * (stack.ndim - 1))
    return (stack * shares).sum(dim=0) > 0.5


def channels_accumulate(p: Problem) -> Tensor:
    """One model after another into one accumulator."""
    return _accumulated(p.logits, p.shares())


def _accumulated(logits: list[Tensor], shares: list[float]) -> Tensor:
    total = channel_probabilities(logits[0]) * shares[0]
    for z, share in zip(logits[1:], shares[1:], strict=True):
        total = total + channel_probabilities(z) * share
    return total > 0.5


@functools.cache
def _compiled() -> Callable[[list[Tensor], list[float]], Tensor]:
    return torch.compile(_accumulated)


def channels_compiled(p: Problem) -> Tensor:
    """torch.compile of the accumulation."""
    return _compiled()(p.logits, p.shares())


STACK = Peer("torch eager stack", channels_stack)
ACCUMULATE = Peer("torch eager accumulate", channels_accumulate)
COMPILED = Peer("torch.compile", channels_compiled)
