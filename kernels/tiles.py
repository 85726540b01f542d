"""What a launch of the Triton kernels adds up: models in order of group and kind of value, with their factors.

M models, G groups. Kinds of value: float16, bfloat16, float32 logits, uint8 gap codes, and probabilities of the three float types; a kernel
has one loop per kind that occurs, so models of all kinds share one launch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from fusion.kernels.arithmetic import GAP_RANGE, Fused, label_dtype, normalised

MAX_CLASSES = 1024  # one tile holds every class of a pixel
LOG2_E = math.log2(math.e)
KINDS = {
    torch.float16: 0,
    torch.bfloat16: 1,
    torch.float32: 2,
    torch.uint8: 3,
}  # + 4 for values that are probabilities already
KIND_COUNT = tl.constexpr(8)
CODES = tl.constexpr(3)
PROBABILITIES = tl.constexpr(4)


def compiler_options(roomy: bool) -> dict[str, object]:
    """No contraction; averages hold a tile (`roomy`) and get up to 255 registers, where ptxas would rather use the stack."""
    limit = {"maxnreg": 255} if roomy and torch.version.hip is None else {}
    return {"enable_fp_fusion": False, **limit}


def block_classes(classes: int) -> int:
    """Classes padded to a power of two, at least 16 so that a tile keeps a sensible shape."""
    if classes > MAX_CLASSES:
        raise ValueError(
            f"logits: got {classes} classes; the GPU kernels take at most {MAX_CLASSES}, so move the logits to the CPU"
        )
    return max(16, triton.next_power_of_2(classes))


Sums = list[list[tuple[int, float]]]  # for each sum, the models in it and the coefficient of each


@dataclass(frozen=True)
class Terms:
    """The sum of one launch: `order` lists models by group, then by kind of value; bounds and factors as the kernel takes them."""

    order: list[int]
    factors: list[tuple[float, float]]
    bounds: list[list[int]]
    shares: list[tuple[float, float]]
    kind_set: int

    def tables(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """factors float32 [M, 2], bounds int64 [G, 9] and shares float32 [G, 2] on a device."""
        rows = (
            (self.factors, torch.float32),
            (self.bounds, torch.int64),
            (self.shares, torch.float32),
        )
        factors, bounds, shares = (
            torch.tensor(values, dtype=dtype).to(device) for values, dtype in rows
        )
        return factors, bounds, shares


def kinds_of(logits: Sequence[Tensor], values: Sequence[str]) -> list[int]:
    return [
        KINDS[t.dtype] + (0 if value == "logits" else PROBABILITIES.value)
        for t, value in zip(logits, values, strict=True)
    ]


def factor_of(kind: int, temperature: float) -> float:
    """What turns a logit, or the square of a gap code, into the exponent of 2."""
    return LOG2_E / temperature * (-GAP_RANGE / 255.0**2 if kind == CODES.value else 1.0)


def sums_of(
    weights: Sequence[float], groups: Sequence[Sequence[int]], separate: bool
) -> tuple[Sums, list[tuple[float, float]]]:
    """What is to be summed, and the share 1 / n_g and weight w_g of each group.

    Groups of weight 0 are left out and the rest become one sum, unless group means are wanted (`separate`).
    """
    shares = [
        (1.0 / len(group), weight)
        for group, weight in zip(groups, normalised(weights), strict=True)
    ]
    if separate:
        return [[(m, 1.0) for m in group] for group in groups], shares
    return [
        [
            (m, share * weight)
            for group, (share, weight) in zip(groups, shares, strict=True)
            if weight > 0
            for m in group
        ]
    ], shares


def terms(
    sums: Sums,
    shares: list[tuple[float, float]],
    kinds: Sequence[int],
    temperatures: Sequence[float],
) -> Terms:
    """The sums in the order in which the kernel walks over them."""
    order: list[int] = []
    factors: list[tuple[float, float]] = []
    bounds: list[list[int]] = []
    for members in sums:
        bounds.append([len(order)])
        for kind in range(KIND_COUNT.value):
            chosen = [(m, coefficient) for m, coefficient in members if kinds[m] == kind]
            order += [m for m, _ in chosen]
            factors += [
                (factor_of(kind, temperatures[m]), coefficient) for m, coefficient in chosen
            ]
            bounds[-1].append(len(order))
    return Terms(order, factors, bounds, shares, sum({1 << kinds[m] for m in order}))


def empty_outputs(
    classes: int, groups: int, shape: Sequence[int], outputs: Sequence[str], device: torch.device
) -> Fused:
    """Uninitialised tensors for the outputs that are asked for."""
    shapes = {"probabilities": (classes, *shape), "group_means": (groups, classes, *shape)}
    return Fused(
        **{
            name: torch.empty(
                shapes.get(name, tuple(shape)),
                dtype=label_dtype(classes) if name == "labels" else torch.float32,
                device=device,
            )
            for name in outputs
        }
    )
