"""torch: the ways people write an average of softmaxes, then its argmax."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.peers.peer import Peer
from benchmarks.peers.problem import BLOCK, Problem, decoded


def torch_stack(p: Problem) -> Tensor:
    """float32 stack, softmax, weighted mean, argmax: the way most ensembles are written."""
    stack = torch.stack([decoded(z) for z in p.logits]).softmax(dim=1)
    shares = torch.tensor(p.shares(), device=stack.device).view(-1, *[1] * (stack.ndim - 1))
    return (stack * shares).sum(dim=0).argmax(dim=0)


def torch_accumulate(p: Problem) -> Tensor:
    """One model after another into one accumulator."""
    return accumulated(p.logits, p.shares()).argmax(dim=0)


def accumulated(logits: list[Tensor], shares: list[float]) -> Tensor:
    total = decoded(logits[0]).softmax(dim=0) * shares[0]
    for z, share in zip(logits[1:], shares[1:], strict=True):
        total = total + decoded(z).softmax(dim=0) * share
    return total


def torch_blocked(p: Problem) -> Tensor:
    """Accumulating over blocks of pixels with buffers that are used again and exponentials in
    place: torch at its best on a CPU."""
    flat, shares = [z.flatten(1) for z in p.logits], p.shares()
    pixels, device = flat[0].shape[1], flat[0].device
    labels = torch.empty(pixels, dtype=torch.int64, device=device)
    total, scores = (torch.empty((p.classes, min(BLOCK, pixels)), device=device) for _ in range(2))
    for start in range(0, pixels, BLOCK):
        width = min(BLOCK, pixels - start)
        block, sums = scores[:, :width], total[:, :width].zero_()
        for z, share in zip(flat, shares, strict=True):
            block.copy_(z[:, start : start + width])
            if z.dtype == torch.uint8:
                block.mul_(1 / 255).square_().mul_(-24.0)
            else:
                block.sub_(block.amax(dim=0))
            block.exp_()
            sums.add_(block.mul_(share / block.sum(dim=0)))
        labels[start : start + width] = sums.argmax(dim=0)
    return labels.view(p.logits[0].shape[1:])


@functools.cache
def _compiled() -> Callable[[list[Tensor], list[float]], Tensor]:
    return torch.compile(lambda logits, shares: accumulated(logits, shares).argmax(dim=0))


def torch_compiled(p: Problem) -> Tensor:
    """torch.compile of the accumulation."""
    return _compiled()(p.logits, p.shares())


STACK = Peer("torch eager stack", torch_stack)
ACCUMULATE = Peer("torch eager accumulate", torch_accumulate)
BLOCKED = Peer("torch blocked", torch_blocked)
COMPILED = Peer("torch.compile", torch_compiled)
