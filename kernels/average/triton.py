"""Weighted softmax average on a GPU: every logit is read once, nothing but the outputs is written.

M models, G groups, C classes, P pixels (all axes after the class axis, flattened). One program
holds all scores of its pixels in registers, spread over few lanes (lanes.py), and walks over the
models:

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

How scores are spread over lanes and warps is `chosen`'s, so no call tunes.
"""

from __future__ import annotations

import math
from dataclasses import replace

import triton
import triton.language as tl
from triton import knobs

from fusion.kernels import chosen, lane_outputs, lanes, tiles
from fusion.kernels.arithmetic import Fused
from fusion.kernels.average import triton_channels
from fusion.kernels.call import Call

MOST_INTERPRETED = 128  # warps along the pixels where kernels are interpreted
STEEP = 4096.0  # log2(e) / T from which 2^16 times its rounding error is more than a few bits


@triton.jit
def add_models(
    sums: tl.tuple,
    group: tl.tensor,
    models: tiles.Models,
    first_pixel: tl.tensor,  # [1, 1, W, 1, PL, 1] int64, of runs of PV pixels
    height: tl.tensor,
    width: tl.tensor,
    CLASSES: tl.constexpr,
    WC: tl.constexpr,
    CL: tl.constexpr,
    PV: tl.constexpr,
    KIND_SET: tl.constexpr,
    ALIGN: tl.constexpr,
    FLAT: tl.constexpr,
    UNIT: tl.constexpr,
    NEAR: tl.constexpr,
    STEEP: tl.constexpr,
) -> tl.tuple:
    """sums + the weighted softmaxes of a group's models: a loop per kind of value that occurs."""
    for KIND in tl.static_range(0, tiles.KIND_COUNT):
        if (KIND_SET >> KIND) & 1:
            first = tl.load(models.bounds + group * (tiles.KIND_COUNT + 1) + KIND)
            last = tl.load(models.bounds + group * (tiles.KIND_COUNT + 1) + KIND + 1)
            for m in range(first, last):
                entry = models.address + m * tiles.COLUMNS
                raw = lanes.load(
                    entry, first_pixel, height, width,
                    CLASSES, WC, CL, PV, KIND, ALIGN, FLAT, UNIT, NEAR,
                )  # fmt: skip
                factor = tl.load(models.factor + m * 2)
                coefficient = tl.load(models.factor + m * 2 + 1)
                sums = lanes.add(sums, raw, factor, coefficient, CLASSES, WC, CL, KIND, STEEP)
    return sums


@triton.jit
def softmax_average_kernel(
    models: tiles.Models,  # addresses with the strides (elements) of class and pixel axes 0, 1, 2
    outputs: tiles.Outputs,
    groups: tl.tensor,  # G
    pixels: tl.tensor,  # P
    height: tl.tensor,  # of pixel axis 1
    width: tl.tensor,  # of pixel axis 2
    CLASSES: tl.constexpr,
    WC: tl.constexpr,  # how scores are spread over warps and lanes: lanes.py
    W: tl.constexpr,
    CL: tl.constexpr,
    PL: tl.constexpr,
    PV: tl.constexpr,  # divides ALIGN
    KIND_SET: tl.constexpr,  # bit k: some model is of kind k
    ALIGN: tl.constexpr,  # divides P, all strides but those of 1, and all addresses in elements
    FLAT: tl.constexpr,  # the pixels of every model are one contiguous axis
    UNIT: tl.constexpr,  # pixel axis 2 of every model is contiguous
    NEAR: tl.constexpr,  # whether a row of classes lies within 2^32 elements
    STEEP: tl.constexpr,  # a temperature is so low that float16 logits need more care
) -> None:
    pixels = tl.multiple_of(tl.cast(pixels, tl.int64), ALIGN)
    width = tl.multiple_of(tl.cast(width, tl.int64), ALIGN)
    first_pixel, exists = lanes.runs_of(pixels // PV, W, PL, PV)
    pixel = first_pixel + lanes.within_run(PV)
    inside = exists & (pixel >= 0)
    scores = lanes.zeros(CLASSES, WC, W, CL, PL, PV)
    if outputs.group_means is None:
        scores = add_models(
            scores, 0, models, first_pixel, height, width,
            CLASSES, WC, CL, PV, KIND_SET, ALIGN, FLAT, UNIT, NEAR, STEEP,
        )  # fmt: skip
    else:
        for g in range(0, groups):
            sums = add_models(
                lanes.zeros(CLASSES, WC, W, CL, PL, PV), g, models, first_pixel, height, width,
                CLASSES, WC, CL, PV, KIND_SET, ALIGN, FLAT, UNIT, NEAR, STEEP,
            )  # fmt: skip
            scores = lane_outputs.close_group(
                scores, sums, g, pixel, inside, pixels, models, outputs, CLASSES, WC, CL
            )
    lane_outputs.store_outputs(scores, pixel, inside, pixels, models, outputs, CLASSES, WC, CL)


def average(call: Call) -> Fused:
    """As `fusion.kernels.softmax_average`, on a GPU.

    ValueError beyond 1024 classes. Extra device memory: tables of 56 bytes per model, and copies of
    logits whose pixel axes do not merge to three. Independent channels: triton_channels.py.
    """
    if call.channels:
        return triton_channels.average(call.used())
    tiles.check_classes(call.classes)
    made, pixels = call.allocate(), math.prod(call.shape)
    if pixels == 0:
        return made
    terms = tiles.terms(call, tiles.sums(call), tiles.weighting(call), call.multipliers)
    tensors = tiles.merged_axes([call.logits[m] for m in terms.order])
    first, height, width = tensors[0].shape[1:]
    unit = all(t.stride(3) == 1 or width == 1 for t in tensors)
    align = tiles.alignment(tensors, pixels, width)
    spread = chosen.spread(
        call.classes,
        codes=terms.kind_set == 1 << tiles.CODES.value,
        means="group_means" in call.outputs,
        more=call.outputs != ("labels",) or terms.kind_set.bit_count() > 1,
        align=align if unit else 1,
        architecture=tiles.architecture(call.device),
    )
    if knobs.runtime.interpret:
        warps = triton.cdiv(pixels * spread.W, spread.pixels)  # along all pixels
        spread = replace(spread, W=min(MOST_INTERPRETED, triton.next_power_of_2(warps)))
    addresses = [[t.data_ptr(), *t.stride()] for t in tensors]
    softmax_average_kernel[(triton.cdiv(pixels, spread.pixels),)](
        *(terms.models(addresses, call.device), tiles.Outputs(**vars(made))),
        *(len(terms.bounds), pixels, height, width),
        CLASSES=call.classes,
        KIND_SET=terms.kind_set,
        ALIGN=align,
        FLAT=unit and first == height == 1,
        UNIT=unit,
        NEAR=all(t.stride(0) * spread.WC * spread.CL < 1 << 32 for t in tensors),
        STEEP=any(factor > STEEP for factor, _ in terms.factors),
        **spread.letters,
        num_warps=spread.warps,
        num_stages=1,
        **tiles.compiler_options(holds_tile=True),
    )
    return made
