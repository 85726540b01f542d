"""What the Triton kernels share: which models a launch adds up, and what follows from their sum.

M models, G groups, C classes, P pixels. Kinds of value: float16, bfloat16, float32 logits, uint8
gap codes, and probabilities of the three float types; a kernel has one loop per kind that occurs,
so models of all kinds share one launch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs

from fusion.errors import InputError
from fusion.kernels import tables
from fusion.kernels.arithmetic import KINDS, PROBABILITIES, normalised
from fusion.kernels.call import Call, Maps
from fusion.kernels.numbers import GAP_RANGE, LAST_CODE, NARROW_VOID, WIDE_VOID

MAX_CLASSES = 1024  # one tile holds every class of a pixel
LOG2_E = math.log2(math.e)
KIND_COUNT = tl.constexpr(2 * PROBABILITIES)
HALF = tl.constexpr(KINDS[torch.float16])
CODES = tl.constexpr(KINDS[torch.uint8])
PLAIN = tl.constexpr(PROBABILITIES)  # this and all above need no softmax
NARROW = tl.constexpr(NARROW_VOID)
WIDE = tl.constexpr(WIDE_VOID)
COLUMNS = tl.constexpr(5)  # of a table of addresses: strides of the class and three pixel axes

Pointer = Any  # a tensor or None to a launch, a pointer to its kernel, a type to the compiler
Sums = list[list[tuple[int, float]]]  # for each sum, the models in it and the coefficient of each


class Models(NamedTuple):
    """Tables of a launch, on its device. Without group means there is one group, of all models."""

    address: Pointer  # int64 [M, 5]: address, and what the kernel needs to find a pixel
    factor: Pointer  # float32 [M, 2]: factor, coefficient
    bounds: Pointer  # int64 [G, 9]: models of kind k in group g: [g, k] .. [g, k + 1] - 1
    group: Pointer  # float32 [G, 2]: 1 / n_g, w_g
    multiplier: Pointer  # float32 [C], which labels are decided with, or None


class Outputs(NamedTuple):
    """`Fused` as kernels take it: addresses, None where not asked for."""

    labels: Pointer  # [P] uint8 or uint16
    probabilities: Pointer  # [C, P] float32
    confidence: Pointer  # [P] float32
    margin: Pointer  # [P] float32
    entropy: Pointer  # [P] float32
    group_means: Pointer  # [G, C, P] float32; without it the coefficients hold the weights
    scores: Pointer  # [C, P] float32, of a head


GROUP_MEANS = 1 << Outputs._fields.index("group_means")  # in a mask of outputs


@triton.jit
def typed_pointer(address: tl.tensor, KIND: tl.constexpr, ALIGN: tl.constexpr) -> tl.tensor:
    """The address of a tensor as a pointer to its kind of value; a multiple of ALIGN elements."""
    if KIND % 4 == 0:
        return tl.multiple_of(tl.cast(address, tl.pointer_type(tl.float16)), ALIGN * 2)
    elif KIND % 4 == 1:
        return tl.multiple_of(tl.cast(address, tl.pointer_type(tl.bfloat16)), ALIGN * 2)
    elif KIND % 4 == 2:
        return tl.multiple_of(tl.cast(address, tl.pointer_type(tl.float32)), ALIGN * 4)
    else:
        return tl.multiple_of(tl.cast(address, tl.pointer_type(tl.uint8)), ALIGN)


@triton.jit
def first_class(
    entry: tl.tensor,  # of the table of addresses: address, strides of the class and 3 pixel axes
    pixel: tl.tensor,  # [N] int64
    height: tl.tensor,  # of pixel axis 1
    width: tl.tensor,  # of pixel axis 2
    KIND: tl.constexpr,
    ALIGN: tl.constexpr,
    FLAT: tl.constexpr,  # the pixels are one contiguous axis
    UNIT: tl.constexpr,  # pixel axis 2 is contiguous
) -> tl.tensor:
    """[N] where the pixels' values of class 0 lie, of a map whose strides are read in place."""
    offset = pixel
    if not FLAT:
        offset = pixel % width
        if not UNIT:
            offset = offset * tl.load(entry + 4)
        offset += pixel // width % height * tl.multiple_of(tl.load(entry + 3), ALIGN)
        offset += pixel // width // height * tl.multiple_of(tl.load(entry + 2), ALIGN)
    return typed_pointer(tl.load(entry), KIND, ALIGN) + offset


@triton.jit
def add_values(
    total: tl.tensor,  # [BLOCK_C, N]
    z: tl.tensor,  # [BLOCK_C, N] values of one model
    factor: tl.tensor,  # turns z into an exponent of 2
    coefficient: tl.tensor,
    real: tl.tensor,  # [BLOCK_C, 1] whether the row is a class, not padding
    KIND: tl.constexpr,
    PEAKED: tl.constexpr,  # the largest z of every pixel is 0 already
) -> tl.tensor:
    """total + coefficient * softmax(z) over axis 0, or * z where z are probabilities already."""
    if KIND >= PLAIN:
        return tl.fma(z, coefficient + tl.zeros_like(total), total)
    if not PEAKED:
        z = tl.where(real, z, -float("inf"))
        z = z - tl.max(z, axis=0, keep_dims=True)
    exponentials = tl.where(real, tl.exp2(z * factor), 0.0)
    share = coefficient / tl.sum(exponentials, axis=0, keep_dims=True)
    return tl.fma(exponentials, share + tl.zeros_like(total), total)


@triton.jit
def close_group(
    scores: tl.tensor,  # [BLOCK_C, N] weighted means of the groups before
    sums: tl.tensor,  # [BLOCK_C, N] this group's sum
    g: tl.tensor,
    pixel: tl.tensor,  # [N] int64, index into the outputs
    inside: tl.tensor,  # [N] whether the pixel exists
    pixels: tl.tensor,  # P
    models: Models,
    outputs: Outputs,
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
) -> tl.tensor:
    """Stores a group's mean; the scores with it added. A group of weight 0 does not count."""
    row = tl.arange(0, BLOCK_C)[:, None]
    mean = sums * tl.load(models.group + g * 2)
    place = (tl.cast(g, tl.int64) * CLASSES + row) * pixels + pixel[None, :]
    tl.store(outputs.group_means + place, mean, mask=(row < CLASSES) & inside[None, :])
    weight = tl.load(models.group + g * 2 + 1)
    return tl.where(weight > 0, scores + mean * weight, scores)


@triton.jit
def rank(scores: tl.tensor, real: tl.tensor) -> tl.tensor:
    """Of every pixel: whether a score is NaN, the others' scores, their best and its class."""
    undefined = tl.max(tl.where(real & (scores != scores), 1, 0), axis=0) > 0
    ranked = tl.where(real & (scores == scores), scores, -float("inf"))
    best, top = tl.max(ranked, 0, return_indices=True, return_indices_tie_break_left=True)
    return undefined, ranked, best, top


@triton.jit
def store_labels(
    label: tl.tensor,  # [N]
    undefined: tl.tensor,  # [N]
    pixel: tl.tensor,  # [N] int64, index into the outputs
    inside: tl.tensor,  # [N] whether the pixel exists
    outputs: Outputs,
    CLASSES: tl.constexpr,
) -> None:
    """Labels, void where undefined."""
    label = tl.where(undefined, NARROW if CLASSES <= NARROW else WIDE, label)
    dtype = outputs.labels.dtype.element_ty
    tl.store(outputs.labels + pixel, label.to(dtype), mask=inside)


@triton.jit
def store_outputs(
    scores: tl.tensor,  # [BLOCK_C, N] fused scores of N pixels
    pixel: tl.tensor,  # [N] int64, index into the outputs
    inside: tl.tensor,  # [N] whether the pixel exists
    pixels: tl.tensor,  # P
    models: Models,
    outputs: Outputs,
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
) -> None:
    """Everything that follows from the scores of a pixel, each only where it is asked for."""
    row = tl.arange(0, BLOCK_C)[:, None]
    real = row < CLASSES
    if outputs.probabilities is not None:
        place = row.to(tl.int64) * pixels + pixel[None, :]
        tl.store(outputs.probabilities + place, scores, mask=real & inside[None, :])
    if outputs.entropy is not None:
        terms = scores * tl.log(tl.where(real & (scores != 0.0), scores, 1.0))
        tl.store(outputs.entropy + pixel, -tl.sum(terms, axis=0), mask=inside)
    if outputs.labels is not None or outputs.confidence is not None or outputs.margin is not None:
        undefined, ranked, best, top = rank(scores, real)
        best = tl.where(undefined, float("nan"), best)
        if outputs.labels is not None:
            label = top
            if models.multiplier is not None:
                decisive = ranked * tl.load(models.multiplier + row, mask=real, other=1.0)
                _, label = tl.max(
                    decisive, 0, return_indices=True, return_indices_tie_break_left=True
                )
            store_labels(label, undefined, pixel, inside, outputs, CLASSES)
        if outputs.confidence is not None:
            tl.store(outputs.confidence + pixel, best, mask=inside)
        if outputs.margin is not None:
            second = tl.max(tl.where(row == top[None, :], -float("inf"), ranked), axis=0)
            margin = best - second if CLASSES > 1 else best
            tl.store(outputs.margin + pixel, margin, mask=inside)


def compiler_options(*, holds_tile: bool = False) -> dict[str, object]:
    """No contraction. Holding a tile takes 255 registers; ptxas would rather use the stack."""
    limit = {"maxnreg": 255} if holds_tile and torch.version.hip is None else {}
    return {"enable_fp_fusion": False, **limit}


def architecture(device: torch.device) -> str:
    """As Triton's targets call it: "90", "gfx942"; "" where kernels are interpreted."""
    if device.type != "cuda":
        return ""
    properties = torch.cuda.get_device_properties(device)
    if torch.version.hip is not None:
        return str(properties.gcnArchName).split(":")[0]
    return f"{properties.major}{properties.minor}"


def configurations() -> list[triton.Config]:
    """32 or 64 scores per thread; a pipeline hides the latency of loads with fewer programs."""
    if knobs.runtime.interpret:
        return [triton.Config({"TILE": 1 << 15, "STAGES": 1})]
    shapes = [(4096, 4), (8192, 4), (8192, 8)]
    return [
        triton.Config({"TILE": tile, "STAGES": stages}, num_warps=warps)
        for tile, warps in shapes
        for stages in (1, 3)
    ]


def check_classes(classes: int) -> None:
    """ValueError beyond what a program holds."""
    if classes > MAX_CLASSES:
        most = f"the GPU kernels take at most {MAX_CLASSES}, so move the logits to the CPU"
        raise InputError(f"logits: got {classes} classes; {most}")


def block_classes(classes: int) -> int:
    """Classes padded to a power of two, at least 16 so that a tile keeps a sensible shape."""
    check_classes(classes)
    return max(16, triton.next_power_of_2(classes))


def merged_axes(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors [C, ...] of one shape as views [C, a, b, c] (copies beyond three pixel axes).

    Merges the pixel axes that all of them allow to merge.
    """
    tensors, axis = list(tensors), 1
    while axis + 1 < tensors[0].ndim:
        size, inner = tensors[0].shape[axis : axis + 2]
        if size == 1 or all(t.stride(axis) == t.stride(axis + 1) * inner for t in tensors):
            tensors = [t.flatten(axis, axis + 1) for t in tensors]
        else:
            axis += 1
    if tensors[0].ndim > 4:
        return merged_axes([t.contiguous() for t in tensors])
    while tensors[0].ndim < 4:
        tensors = [t.unsqueeze(1) for t in tensors]
    return tensors


def alignment(tensors: Sequence[Tensor], *extents: int) -> int:
    """The largest power of two up to 16 that divides the extents and all that leads to a pixel.

    That is every address, in elements, and every stride that matters.
    """
    common = math.gcd(16, *extents)
    for tensor in tensors:
        axes = zip(tensor.stride()[:-1], tensor.shape[:-1], strict=True)
        common = math.gcd(common, *(stride for stride, size in axes if size > 1))
        while tensor.data_ptr() % (common * tensor.element_size()):
            common //= 2
    return common


@dataclass(frozen=True)
class Terms:
    """What a launch adds up: `order` lists models by group, then by kind of value."""

    order: list[int]
    factors: list[tuple[float, float]]
    bounds: list[list[int]]
    weighting: list[tuple[float, float]] | None
    kind_set: int
    multipliers: tuple[float, ...] | None

    def models(self, addresses: Sequence[Sequence[int]], device: torch.device) -> Models:
        """The tables on a device; addresses [M, 5] of the models in order."""
        whole, real = torch.int64, torch.float32
        numbers: list[tuple[Any, torch.dtype]] = [
            (addresses, whole),
            (self.factors, real),
            (self.bounds, whole),
        ]
        numbers += [(self.weighting, real), (self.multipliers, real)]
        made = (None if x is None else tables.table(x, t, device) for x, t in numbers)
        return Models(*made)

    def constants(self, call: Maps) -> dict[str, Any]:
        """Compile-time values and compiler options of a launch that makes the call's outputs."""
        made = {"CLASSES": call.classes, "BLOCK_C": block_classes(call.classes)}
        made |= {"KIND_SET": self.kind_set, "WANTED": mask(call.outputs)}
        return {**made, **compiler_options(holds_tile=True)}


def mask(outputs: Sequence[str]) -> int:
    """Bit k: field k of Outputs is wanted."""
    return sum(1 << Outputs._fields.index(name) for name in set(outputs))


def sums(call: Call) -> Sums:
    """What is to be added: each group where group means are wanted, else one sum of all used."""
    if "group_means" in call.outputs:
        return [[(m, 1.0) for m in group] for group in call.groups]
    pairs = zip(call.groups, weighting(call), strict=True)
    return [[(m, share * w) for group, (share, w) in pairs if w > 0 for m in group]]


def weighting(call: Call) -> list[tuple[float, float]]:
    """1 / n_g and w_g of every group."""
    pairs = zip(call.groups, normalised(call.weights), strict=True)
    return [(1.0 / len(group), weight) for group, weight in pairs]


def terms(
    call: Maps,
    added: Sums,
    group_table: list[tuple[float, float]] | None = None,
    multipliers: tuple[float, ...] | None = None,
) -> Terms:
    """Sums over the models of `call`, in the order in which the kernel walks over them."""
    order: list[int] = []
    factors: list[tuple[float, float]] = []
    bounds: list[list[int]] = []
    for members in added:
        bounds.append([len(order)])
        for kind in range(KIND_COUNT.value):
            chosen = [(m, c) for m, c in members if call.kinds[m] == kind]
            order += [m for m, _ in chosen]
            unit = -GAP_RANGE / LAST_CODE**2 if kind == CODES.value else 1.0  # of a squared code
            factors += [(LOG2_E / call.temperatures[m] * unit, c) for m, c in chosen]
            bounds[-1].append(len(order))
    kinds = sum({1 << call.kinds[m] for m in order})
    return Terms(order, factors, bounds, group_table, kinds, multipliers)
