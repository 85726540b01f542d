"""How else the same labels are made: the ways people write it today.

M models, G groups, C classes, logits [C, ...]. Every peer decodes gap codes with the plain formula
and averages in float32.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
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
    if logits.dtype != torch.uint8:
        return logits.float()
    return (logits.float() * (1 / 255)).square_().mul_(-24.0)


def numpy_stack(p: Problem) -> Tensor:
    """float32 stack, softmax, weighted mean, argmax."""
    stack = np.stack([decoded(z.cpu()).numpy() for z in p.logits])
    stack = np.exp(stack - stack.max(axis=1, keepdims=True))
    stack /= stack.sum(axis=1, keepdims=True)
    shares = np.array(p.shares(), dtype=np.float32).reshape(-1, *[1] * (stack.ndim - 1))
    return torch.from_numpy((stack * shares).sum(axis=0).argmax(axis=0)).to(p.logits[0].device)


def torch_stack(p: Problem) -> Tensor:
    """The same in torch: the way most ensembles are written."""
    stack = torch.stack([decoded(z) for z in p.logits]).softmax(dim=1)
    shares = torch.tensor(p.shares(), device=stack.device).view(-1, *[1] * (stack.ndim - 1))
    return (stack * shares).sum(dim=0).argmax(dim=0)


def torch_accumulate(p: Problem) -> Tensor:
    """One model after another into one accumulator."""
    return _accumulate(p.logits, p.shares()).argmax(dim=0)


def _accumulate(logits: list[Tensor], shares: list[float]) -> Tensor:
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
    return torch.compile(lambda logits, shares: _accumulate(logits, shares).argmax(dim=0))


def torch_compiled(p: Problem) -> Tensor:
    """torch.compile of the accumulation."""
    return _compiled()(p.logits, p.shares())


AVERAGE: dict[str, Callable[[Problem], Tensor]] = {
    "torch eager stack": torch_stack,
    "torch eager accumulate": torch_accumulate,
    "torch blocked": torch_blocked,
    "numpy stack": numpy_stack,
    "torch.compile": torch_compiled,
}


@functools.cache
def _numba_step() -> Callable[..., None]:
    import numba

    @numba.njit(parallel=True, fastmath=True)
    def step(z: np.ndarray, share: float, total: np.ndarray) -> None:
        classes, pixels = z.shape
        for i in numba.prange(pixels):
            top, scale = z[0, i], np.float32(0)
            for c in range(1, classes):
                top = max(top, z[c, i])
            for c in range(classes):
                scale += np.exp(z[c, i] - top)
            for c in range(classes):
                total[c, i] += np.exp(z[c, i] - top) * (share / scale)

    return step


def numba_loop(p: Problem) -> Tensor:
    """A hand-written loop over pixels, one model after another."""
    total = np.zeros(p.logits[0].flatten(1).shape, dtype=np.float32)
    for z, share in zip(p.logits, p.shares(), strict=True):
        _numba_step()(decoded(z.cpu()).flatten(1).numpy(), np.float32(share), total)
    return torch.from_numpy(total.argmax(axis=0)).view(p.logits[0].shape[1:])


if importlib.util.find_spec("numba"):
    AVERAGE["numba loop"] = numba_loop


def cupy_stack(p: Problem) -> Tensor:
    """float32 stack, softmax, weighted mean, argmax, on the GPU."""
    import cupy

    stack = cupy.stack([cupy.from_dlpack(decoded(z)) for z in p.logits])
    exponentials = cupy.exp(stack - stack.max(axis=1, keepdims=True))
    shares = cupy.asarray(p.shares(), dtype=cupy.float32)
    fused = cupy.tensordot(shares, exponentials / exponentials.sum(axis=1, keepdims=True), axes=1)
    return torch.from_dlpack(fused.argmax(axis=0))


if importlib.util.find_spec("cupy") and torch.cuda.is_available():
    AVERAGE["cupy stack"] = cupy_stack


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return torch.nn.functional.interpolate(
        maps[None], size=size, mode="bilinear", align_corners=False
    )[0]


def upsample_probabilities(p: Problem) -> Tensor:
    """Fuses at native size, interpolates once."""
    return _resized(_accumulate(p.logits, p.shares()), p.size).argmax(dim=0)


def upsample_logits(p: Problem) -> Tensor:
    """Interpolates every model's logits."""
    total = torch.zeros((p.classes, *p.size), device=p.logits[0].device)
    for z, share in zip(p.logits, p.shares(), strict=True):
        total += _resized(decoded(z), p.size).softmax(dim=0) * share
    return total.argmax(dim=0)


UPSAMPLE = {"probabilities": upsample_probabilities, "logits": upsample_logits}


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
    return _accumulated_channels(p.logits, p.shares())


def _accumulated_channels(logits: list[Tensor], shares: list[float]) -> Tensor:
    total = channel_probabilities(logits[0]) * shares[0]
    for z, share in zip(logits[1:], shares[1:], strict=True):
        total = total + channel_probabilities(z) * share
    return total > 0.5


@functools.cache
def _compiled_channels() -> Callable[[list[Tensor], list[float]], Tensor]:
    return torch.compile(_accumulated_channels)


def channels_compiled(p: Problem) -> Tensor:
    """torch.compile of the accumulation."""
    return _compiled_channels()(p.logits, p.shares())


CHANNELS: dict[str, Callable[[Problem], Tensor]] = {
    "torch eager stack": channels_stack,
    "torch eager accumulate": channels_accumulate,
    "torch.compile": channels_compiled,
}


def bincount(p: Problem) -> Tensor:
    """The usual one-liner."""
    targets, labels = (z.flatten().long() for z in p.logits)
    counted = targets != 255
    return torch.bincount(
        targets[counted] * p.classes + labels[counted], minlength=p.classes**2
    ).view(p.classes, p.classes)
