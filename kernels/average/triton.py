"""Weighted softmax average on a GPU: every logit is read once, nothing but the outputs is written.

M models, G groups, C classes, P pixels (all axes after the class axis, flattened). One program holds [BLOCK_C, BLOCK_P] scores in
registers and walks over the models:

    e_mc  = 2^((z_mc - max_c z_mc) * factor_m)       factor_m = log2(e) / T_m
    e_mc  = 2^(q_mc^2 * factor_m)                    gap codes: factor_m = -24 / 255^2 log2(e) / T_m, no maximum needed
    F_c  += e_mc * (coefficient_m / sum_c e_mc)      coefficient_m = w_g / n_g

With group means asked for, each group is summed first: P_gc = (sum_m e_mc / sum_c e_mc) / n_g, F_c = sum_g w_g P_gc.

Models of different dtypes and layouts share one launch: the kernel gets a table of addresses and strides, sorted by kind of value. Any
strides are read in place as long as the pixel axes, merged where all models allow it, are at most three; more are copied.
kernels/reference.py is the twin. Sums over classes run in another order here and 2^x is the hardware's, so probabilities differ in the
last bits; contraction into fused multiply-add is off except where `tl.fma` says so. No step depends on timing: runs repeat bit by bit.

Method: "5th Place Solution for VSPW 2021 Challenge", section 2.3, equation 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs

from fusion.kernels.arithmetic import Fused
from fusion.kernels.tiles import (
    CODES,
    KIND_COUNT,
    PROBABILITIES,
    block_classes,
    compiler_options,
    empty_outputs,
    kinds_of,
    sums_of,
    terms,
)

COLUMNS = tl.constexpr(
    5
)  # of the address table: address, strides of the class axis and of three pixel axes


@triton.jit
def typed_pointer(address: tl.tensor, KIND: tl.constexpr, ALIGN: tl.constexpr) -> tl.tensor:
    """The address of a tensor as a pointer to its kind of value; it is a multiple of ALIGN elements."""
    if KIND % 4 == 0:
        pointer = tl.multiple_of(tl.cast(address, tl.pointer_type(tl.float16)), ALIGN * 2)
    elif KIND % 4 == 1:
        pointer = tl.multiple_of(tl.cast(address, tl.pointer_type(tl.bfloat16)), ALIGN * 2)
    elif KIND % 4 == 2:
        pointer = tl.multiple_of(tl.cast(address, tl.pointer_type(tl.float32)), ALIGN * 4)
    else:
        pointer = tl.multiple_of(tl.cast(address, tl.pointer_type(tl.uint8)), ALIGN)
    return pointer


@triton.jit
def add_softmax(
    total: tl.tensor,
    z: tl.tensor,
    factor: tl.tensor,
    coefficient: tl.tensor,
    real: tl.tensor,
    PEAKED: tl.constexpr,
) -> tl.tensor:
    """total + coefficient * softmax(z) over axis 0, z in units that `factor` turns into powers of two; padded classes count nothing.

    PEAKED: the largest z of every pixel is 0 already.
    """
    if not PEAKED:
        z = tl.where(real, z, -float("inf"))
        z = z - tl.max(z, axis=0, keep_dims=True)
    exponentials = tl.where(real, tl.exp2(z * factor), 0.0)
    return tl.fma(
        exponentials,
        coefficient / tl.sum(exponentials, axis=0, keep_dims=True) + tl.zeros_like(total),
        total,
    )


@triton.jit
def store_outputs(
    scores: tl.tensor,  # [BLOCK_C, N] fused scores of N pixels
    real: tl.tensor,  # [BLOCK_C, 1] whether the row is a class, not padding
    pixel: tl.tensor,  # [N] int64, index into the outputs
    inside: tl.tensor,  # [N] whether the pixel exists
    labels_ptr: tl.tensor,  # [P] uint8 or uint16, or None; so for all that follow
    probabilities_ptr: tl.tensor,  # [C, P] float32
    confidence_ptr: tl.tensor,  # [P] float32
    margin_ptr: tl.tensor,  # [P] float32
    entropy_ptr: tl.tensor,  # [P] float32
    pixels: tl.tensor,  # P
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
) -> None:
    """Everything that follows from the scores of a pixel, each only where its pointer is given."""
    row = tl.arange(0, BLOCK_C)[:, None]
    if probabilities_ptr is not None:
        tl.store(
            probabilities_ptr + row.to(tl.int64) * pixels + pixel[None, :],
            scores,
            mask=real & inside[None, :],
        )
    if entropy_ptr is not None:
        terms = scores * tl.log(tl.where(real & (scores != 0.0), scores, 1.0))
        tl.store(entropy_ptr + pixel, -tl.sum(terms, axis=0), mask=inside)
    if labels_ptr is not None or confidence_ptr is not None or margin_ptr is not None:
        undefined = tl.max(tl.where(real & (scores != scores), 1, 0), axis=0) > 0
        ranked = tl.where(real & (scores == scores), scores, -float("inf"))
        best, label = tl.max(
            ranked, axis=0, return_indices=True, return_indices_tie_break_left=True
        )
        best = tl.where(undefined, float("nan"), best)
        if labels_ptr is not None:
            label = tl.where(undefined, 255 if CLASSES <= 255 else 65535, label)
            tl.store(labels_ptr + pixel, label.to(labels_ptr.dtype.element_ty), mask=inside)
        if confidence_ptr is not None:
            tl.store(confidence_ptr + pixel, best, mask=inside)
        if margin_ptr is not None:
            second = tl.max(tl.where(row == label[None, :], -float("inf"), ranked), axis=0)
            tl.store(margin_ptr + pixel, best - second if CLASSES > 1 else best, mask=inside)


@triton.jit
def add_models(
    total: tl.tensor,
    group: tl.tensor,
    address_ptr: tl.tensor,
    factor_ptr: tl.tensor,
    bounds_ptr: tl.tensor,
    pixel: tl.tensor,
    inside: tl.tensor,
    real: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    BLOCK_C: tl.constexpr,
    KIND_SET: tl.constexpr,
    ALIGN: tl.constexpr,
    FLAT: tl.constexpr,
    UNIT: tl.constexpr,
    STAGES: tl.constexpr,
) -> tl.tensor:
    """total [BLOCK_C, N] + the weighted softmaxes of one group's models, one loop per kind of value that occurs."""
    row = tl.arange(0, BLOCK_C).to(tl.int64)[:, None]
    mask = real & inside[None, :]
    for KIND in tl.static_range(0, KIND_COUNT):
        if (KIND_SET >> KIND) & 1:
            first = tl.load(bounds_ptr + group * (KIND_COUNT + 1) + KIND)
            last = tl.load(bounds_ptr + group * (KIND_COUNT + 1) + KIND + 1)
            for m in tl.range(first, last, num_stages=STAGES):
                entry = address_ptr + m * COLUMNS
                base = typed_pointer(tl.load(entry), KIND, ALIGN)
                offset = pixel
                if not FLAT:
                    offset = pixel % width
                    if not UNIT:
                        offset = offset * tl.load(entry + 4)
                    offset += pixel // width % height * tl.multiple_of(tl.load(entry + 3), ALIGN)
                    offset += pixel // width // height * tl.multiple_of(tl.load(entry + 2), ALIGN)
                pointers = base + row * tl.multiple_of(tl.load(entry + 1), ALIGN) + offset[None, :]
                z = tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
                factor = tl.load(factor_ptr + m * 2)
                coefficient = tl.load(factor_ptr + m * 2 + 1)
                if KIND >= PROBABILITIES:
                    total = tl.fma(z, coefficient + tl.zeros_like(total), total)
                elif KIND == CODES:
                    total = add_softmax(total, z * z, factor, coefficient, real, PEAKED=True)
                else:
                    total = add_softmax(total, z, factor, coefficient, real, PEAKED=False)
    return total


@triton.jit
def softmax_average_kernel(
    address_ptr: tl.tensor,  # int64 [M, 5]: address, strides (elements) of the class axis and of pixel axes 0, 1, 2
    factor_ptr: tl.tensor,  # float32 [M, 2]: factor, coefficient
    bounds_ptr: tl.tensor,  # int64 [G, 9]: the models of kind k in group g are bounds[g, k] .. bounds[g, k + 1] - 1
    group_ptr: tl.tensor,  # float32 [G, 2]: 1 / n_g, w_g
    labels_ptr: tl.tensor,  # [P] uint8 or uint16, or None; so for all outputs
    probabilities_ptr: tl.tensor,  # [C, P] float32
    confidence_ptr: tl.tensor,  # [P] float32
    margin_ptr: tl.tensor,  # [P] float32
    entropy_ptr: tl.tensor,  # [P] float32
    means_ptr: tl.tensor,  # [G, C, P] float32; without it G is 1 and the coefficients hold the weights
    groups: tl.tensor,  # G
    pixels: tl.tensor,  # P
    height: tl.tensor,  # of pixel axis 1
    width: tl.tensor,  # of pixel axis 2
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    TILE: tl.constexpr,  # scores held by a program, BLOCK_C * BLOCK_P
    KIND_SET: tl.constexpr,  # bit k: some model is of kind k
    ALIGN: tl.constexpr,  # divides P, every stride but those of 1, and every address in elements
    FLAT: tl.constexpr,  # the pixels of every model are one contiguous axis
    UNIT: tl.constexpr,  # pixel axis 2 of every model is contiguous
    SEPARATE: tl.constexpr,  # group means are wanted
    STAGES: tl.constexpr,
) -> None:
    BLOCK_P: tl.constexpr = TILE // BLOCK_C
    pixels = tl.multiple_of(tl.cast(pixels, tl.int64), ALIGN)
    width = tl.multiple_of(tl.cast(width, tl.int64), ALIGN)
    pixel = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = pixel < pixels
    row = tl.arange(0, BLOCK_C)[:, None]
    real = row < CLASSES
    scores = tl.zeros([BLOCK_C, BLOCK_P], tl.float32)
    if not SEPARATE:
        scores = add_models(
            scores, 0, address_ptr, factor_ptr, bounds_ptr, pixel, inside, real, height, width,
            BLOCK_C, KIND_SET, ALIGN, FLAT, UNIT, STAGES,
        )  # fmt: skip
    else:
        for g in range(0, groups):
            mean = add_models(
                tl.zeros_like(scores), g, address_ptr, factor_ptr, bounds_ptr, pixel, inside, real, height, width,
                BLOCK_C, KIND_SET, ALIGN, FLAT, UNIT, STAGES,
            ) * tl.load(group_ptr + g * 2)  # fmt: skip
            place = (tl.cast(g, tl.int64) * CLASSES + row) * pixels + pixel[None, :]
            tl.store(means_ptr + place, mean, mask=real & inside[None, :])
            weight = tl.load(group_ptr + g * 2 + 1)
            scores = tl.where(weight > 0, scores + mean * weight, scores)
    store_outputs(
        scores,
        real,
        pixel,
        inside,
        labels_ptr,
        probabilities_ptr,
        confidence_ptr,
        margin_ptr,
        entropy_ptr,
        pixels,
        CLASSES,
        BLOCK_C,
    )


def configurations() -> list[triton.Config]:
    """32 or 64 scores per thread; a pipeline hides the latency of loads with fewer resident programs. One tile when interpreting."""
    if knobs.runtime.interpret:
        return [triton.Config({"TILE": 1 << 15, "STAGES": 1})]
    shapes = [(4096, 4), (8192, 4), (8192, 8)]
    return [
        triton.Config({"TILE": tile, "STAGES": stages}, num_warps=warps)
        for tile, warps in shapes
        for stages in (1, 3)
    ]


def fitting(
    configs: list[triton.Config], named: dict[str, object], **constants: int
) -> list[triton.Config]:
    """Configurations whose tile is at least 8 pixels wide (a row of 16 bytes in float16) and, with group means, has registers left."""
    if knobs.runtime.interpret:
        return configs
    room = 32 if constants["SEPARATE"] else 64  # scores per thread
    return [
        c
        for c in configs
        if 8 * constants["BLOCK_C"] <= c.kwargs["TILE"] <= room * 32 * c.num_warps
    ]


tuned_softmax_average = triton.autotune(
    configurations(),
    key=["CLASSES", "KIND_SET", "ALIGN", "FLAT", "SEPARATE"],
    prune_configs_by={"early_config_prune": fitting},
)(softmax_average_kernel)


def merged_axes(tensors: Sequence[Tensor]) -> tuple[list[Tensor], tuple[int, int, int]]:
    """Tensors [C, ...] of one shape as views (copies beyond three pixel axes) [C, a, b, c], merging what all of them allow."""
    tensors = [tensor.detach() for tensor in tensors]
    axis = 1
    while axis + 1 < tensors[0].ndim:
        if all(
            t.stride(axis) == t.stride(axis + 1) * t.shape[axis + 1] or t.shape[axis] == 1
            for t in tensors
        ):
            tensors = [t.flatten(axis, axis + 1) for t in tensors]
        else:
            axis += 1
    if tensors[0].ndim > 4:
        return merged_axes([t.contiguous() for t in tensors])
    while tensors[0].ndim < 4:
        tensors = [t.unsqueeze(1) for t in tensors]
    first, second, third = tensors[0].shape[1:]
    return tensors, (first, second, third)


def alignment(tensors: Sequence[Tensor], *extents: int) -> int:
    """The largest power of two up to 16 that divides the extents and, in elements, every address and every stride that matters."""
    common = math.gcd(16, *extents)
    for tensor in tensors:
        strides = [
            s for s, size in zip(tensor.stride()[:-1], tensor.shape[:-1], strict=True) if size > 1
        ]
        common = math.gcd(common, *strides)
        while tensor.data_ptr() % (common * tensor.element_size()):
            common //= 2
    return common


def softmax_average(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    *,
    groups: Sequence[Sequence[int]] | None = None,
    temperatures: Sequence[float] | None = None,
    values: Sequence[str] | str = "logits",
    outputs: Sequence[str] = ("labels",),
) -> Fused:
    """Weighted mean of the softmaxes of M models' logits [C, ...] on a GPU; parameters as `fusion.kernels.softmax_average`.

    Takes checked arguments. ValueError beyond 1024 classes. Extra device memory: tables of 56 bytes per model, and copies of logits
    whose pixel axes do not merge to three.
    """
    classes, *shape = logits[0].shape
    device = logits[0].device
    block = block_classes(classes)
    groups = groups or [[m] for m in range(len(logits))]
    made = empty_outputs(classes, len(groups), shape, outputs, device)
    separate = made.group_means is not None
    kinds = kinds_of(logits, [values] * len(logits) if isinstance(values, str) else values)
    total = terms(*sums_of(weights, groups, separate), kinds, temperatures or [1.0] * len(logits))
    pixels = math.prod(shape)
    if pixels == 0:
        return made
    tensors, (first, height, width) = merged_axes([logits[m] for m in total.order])
    unit = all(t.stride(3) == 1 or width == 1 for t in tensors)
    tuned_softmax_average[lambda meta: (triton.cdiv(pixels, meta["TILE"] // block),)](
        torch.tensor([[t.data_ptr(), *t.stride()] for t in tensors], dtype=torch.int64).to(device),
        *total.tables(device),
        made.labels,
        made.probabilities,
        made.confidence,
        made.margin,
        made.entropy,
        made.group_means,
        len(total.bounds),
        pixels,
        height,
        width,
        CLASSES=classes,
        BLOCK_C=block,
        KIND_SET=total.kind_set,
        ALIGN=alignment(tensors, pixels, width),
        FLAT=unit and first == height == 1,
        UNIT=unit,
        SEPARATE=separate,
        **compiler_options(roomy=True),
    )
    return made
