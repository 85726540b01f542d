"""Weighted softmax average on a GPU: every logit is read once, nothing but the outputs is written.

M models, G groups, C classes, P pixels (all axes after the class axis, flattened). One program
holds [BLOCK_C, BLOCK_P] scores in registers and walks over the models:

    e_mc  = 2^((z_mc - max_c z_mc) * factor_m)   factor_m = log2(e) / T_m
    e_mc  = 2^(q_mc^2 * factor_m)                gap codes: factor_m = -24 / 255^2 log2(e) / T_m,
                                                 no maximum needed
    F_c  += e_mc * (coefficient_m / sum_c e_mc)  coefficient_m = w_g / n_g

With group means asked for, each group is summed first: P_gc = (sum_m e_mc / sum_c e_mc) / n_g,
F_c = sum_g w_g P_gc.

Models of different dtypes and layouts share one launch: the kernel gets a table of addresses and
strides, sorted by kind of value. Any strides are read in place as long as the pixel axes, merged
where all models allow it, are at most three; more are copied. naive.py is the twin. Sums over
classes run in another order here and 2^x is the hardware's, so probabilities differ in the last
bits; contraction into fused multiply-add is off except where `tl.fma` says so. No step depends on
timing: runs repeat bit by bit.
"""

from __future__ import annotations

import math

import triton
import triton.language as tl
from triton import knobs

from fusion.kernels import tiles
from fusion.kernels.arithmetic import Fused
from fusion.kernels.average import triton_channels
from fusion.kernels.call import Call


@triton.jit
def add_models(
    total: tl.tensor,  # [BLOCK_C, N]
    group: tl.tensor,
    models: tiles.Models,
    pixel: tl.tensor,  # [N] int64
    inside: tl.tensor,  # [N] whether the pixel exists
    height: tl.tensor,
    width: tl.tensor,
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    KIND_SET: tl.constexpr,
    ALIGN: tl.constexpr,
    FLAT: tl.constexpr,
    UNIT: tl.constexpr,
    STAGES: tl.constexpr,
) -> tl.tensor:
    """total + the weighted softmaxes of a group's models: a loop per kind of value that occurs."""
    row = tl.arange(0, BLOCK_C).to(tl.int64)[:, None]
    real = tl.arange(0, BLOCK_C)[:, None] < CLASSES
    mask = real & inside[None, :]
    for KIND in tl.static_range(0, tiles.KIND_COUNT):
        if (KIND_SET >> KIND) & 1:
            first = tl.load(models.bounds + group * (tiles.KIND_COUNT + 1) + KIND)
            last = tl.load(models.bounds + group * (tiles.KIND_COUNT + 1) + KIND + 1)
            for m in tl.range(first, last, num_stages=STAGES):
                entry = models.address + m * tiles.COLUMNS
                start = tiles.first_class(entry, pixel, height, width, KIND, ALIGN, FLAT, UNIT)
                pointers = start[None, :] + row * tl.multiple_of(tl.load(entry + 1), ALIGN)
                z = tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
                if KIND == tiles.CODES:
                    z = z * z
                factor = tl.load(models.factor + m * 2)
                coefficient = tl.load(models.factor + m * 2 + 1)
                total = tiles.add_values(
                    total, z, factor, coefficient, real, KIND, KIND == tiles.CODES
                )
    return total


@triton.jit
def softmax_average_kernel(
    models: tiles.Models,  # addresses with the strides (elements) of class and pixel axes 0, 1, 2
    outputs: tiles.Outputs,
    groups: tl.tensor,  # G
    pixels: tl.tensor,  # P
    height: tl.tensor,  # of pixel axis 1
    width: tl.tensor,  # of pixel axis 2
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    TILE: tl.constexpr,  # scores held by a program, BLOCK_C * BLOCK_P
    KIND_SET: tl.constexpr,  # bit k: some model is of kind k
    ALIGN: tl.constexpr,  # divides P, all strides but those of 1, and all addresses in elements
    FLAT: tl.constexpr,  # the pixels of every model are one contiguous axis
    UNIT: tl.constexpr,  # pixel axis 2 of every model is contiguous
    WANTED: tl.constexpr,  # mask of the outputs: what runs is tuned for them
    STAGES: tl.constexpr,
) -> None:
    BLOCK_P: tl.constexpr = TILE // BLOCK_C
    pixels = tl.multiple_of(tl.cast(pixels, tl.int64), ALIGN)
    width = tl.multiple_of(tl.cast(width, tl.int64), ALIGN)
    pixel = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = pixel < pixels
    scores = tl.zeros([BLOCK_C, BLOCK_P], tl.float32)
    if outputs.group_means is None:
        scores = add_models(
            scores, 0, models, pixel, inside, height, width,
            CLASSES, BLOCK_C, KIND_SET, ALIGN, FLAT, UNIT, STAGES,
        )  # fmt: skip
    else:
        for g in range(0, groups):
            sums = add_models(
                tl.zeros_like(scores), g, models, pixel, inside, height, width,
                CLASSES, BLOCK_C, KIND_SET, ALIGN, FLAT, UNIT, STAGES,
            )  # fmt: skip
            scores = tiles.close_group(
                scores, sums, g, pixel, inside, pixels, models, outputs, CLASSES, BLOCK_C
            )
    tiles.store_outputs(scores, pixel, inside, pixels, models, outputs, CLASSES, BLOCK_C)


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


def fitting(configs: list[triton.Config], named: object, **constants: int) -> list[triton.Config]:
    """Those of tiles at least 8 pixels wide (16 bytes in float16) that leave registers free."""
    if knobs.runtime.interpret:
        return configs
    room = 32 if constants["WANTED"] & tiles.GROUP_MEANS else 64  # scores per thread
    least = 8 * constants["BLOCK_C"]
    return [c for c in configs if least <= c.kwargs["TILE"] <= room * 32 * c.num_warps]


tuned_softmax_average = triton.autotune(
    configurations(),
    key=["CLASSES", "KIND_SET", "ALIGN", "FLAT", "WANTED"],
    prune_configs_by={"early_config_prune": fitting},
)(softmax_average_kernel)


def average(call: Call) -> Fused:
    """As `fusion.kernels.softmax_average`, on a GPU.

    ValueError beyond 1024 classes. Extra device memory: tables of 56 bytes per model, and copies of
    logits whose pixel axes do not merge to three. Independent channels: triton_channels.py.
    """
    if call.channels:
        return triton_channels.average(call.used())
    block, pixels = tiles.block_classes(call.classes), math.prod(call.shape)
    made = call.allocate()
    if pixels == 0:
        return made
    terms = tiles.terms(call, tiles.sums(call), tiles.weighting(call), call.multipliers)
    tensors = tiles.merged_axes([call.logits[m] for m in terms.order])
    first, height, width = tensors[0].shape[1:]
    unit = all(t.stride(3) == 1 or width == 1 for t in tensors)
    addresses = [[t.data_ptr(), *t.stride()] for t in tensors]
    tuned_softmax_average[lambda meta: (triton.cdiv(pixels, meta["TILE"] // block),)](
        *(terms.models(addresses, call.device), tiles.Outputs(**vars(made))),
        *(len(terms.bounds), pixels, height, width),
        ALIGN=tiles.alignment(tensors, pixels, width),
        FLAT=unit and first == height == 1,
        UNIT=unit,
        **terms.constants(call),
    )
    return made
