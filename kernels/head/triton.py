"""A linear head over log-probabilities on a GPU: maps stream through, scores stay in registers.

M models, C classes, P pixels (all axes after the class axis, flattened). One program holds
[BLOCK_C, BLOCK_P] scores and walks over the models:

    x_mk  = (z_mk - max_k z_mk) * factor_m       factor_m = log2(e) / T_m
    x_mk  = q_mk^2 * factor_m                    gap codes: factor_m = -24 / 255^2 log2(e) / T_m,
                                                 no maximum needed
    l_mk  = max(ln(2) * (x_mk - log2(sum_k 2^x_mk)), -24)
    l_mk  = ln(2) * log2(max(p_mk, e^-24))       where the map holds probabilities
    S_c  += W_mc l_mc                            or, mixed, sum_k W_mck l_mk

Without mixing a value is read once. With it a model's sum of exponentials comes first, then CHUNK
classes k at a time, read again from the cache, meet their weights [BLOCK_C, CHUNK] in `tl.dot`, so
that shared memory holds a chunk whatever C is. The products are tf32x3 on NVIDIA (each factor in
two parts of 11 bits, three products of four) and ieee on AMD; `bound` says what that may cost.

Addresses, strides and kinds of value are those of the average, whose docstring says how models of
different dtypes share a launch. naive.py is the twin. 2^x and log2 are the hardware's, contraction
into fused multiply-add is off except where `tl.fma` says so, no step depends on timing: runs repeat
bit by bit.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs

from fusion.errors import InputError
from fusion.kernels import tiles
from fusion.kernels.arithmetic import Fused
from fusion.kernels.call import Head
from fusion.kernels.numbers import GAP_RANGE, LEAST_PROBABILITY
from fusion.kernels.tiles import configurations

MAX_MIXED = 512  # classes: weights of a chunk for all of them fit into shared memory
LN_2 = tl.constexpr(math.log(2))
LOG2_E = tl.constexpr(tiles.LOG2_E)
FLOOR = tl.constexpr(-GAP_RANGE)
LEAST = tl.constexpr(LEAST_PROBABILITY)


@triton.jit
def exponents(z: tl.tensor, factor: tl.tensor, KIND: tl.constexpr) -> tl.tensor:
    """x of codes, or of logits less their maximum."""
    if KIND == tiles.CODES:
        z = z * z
    return z * factor


@triton.jit
def log_probabilities(
    z: tl.tensor,  # probabilities, codes, or logits less their maximum
    factor: tl.tensor,
    normaliser: tl.tensor,  # log2 of the sum of exponentials
    KIND: tl.constexpr,
) -> tl.tensor:
    """l of values."""
    if KIND >= tiles.PLAIN:
        return tl.log2(tl.where(z < LEAST, LEAST, z)) * LN_2
    logs = (exponents(z, factor, KIND) - normaliser) * LN_2
    return tl.where(logs < FLOOR, FLOOR, logs)


@triton.jit
def add_chunks(
    scores: tl.tensor,  # [BLOCK_C, N]
    start: tl.tensor,  # [N] where the pixels' values of class 0 lie
    stride: tl.tensor,  # to the next class
    weights: tl.tensor,  # [BLOCK_C, 1] where the weights for class 0 lie
    inside: tl.tensor,  # [N] whether the pixel exists
    top: tl.tensor,  # [1, N]
    normaliser: tl.tensor,  # [1, N] log2 of the sum of exponentials
    factor: tl.tensor,
    CLASSES: tl.constexpr,
    CHUNK: tl.constexpr,
    KIND: tl.constexpr,
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
) -> tl.tensor:
    """scores + weights x l of one model; NaN where an l is NaN, whatever a product makes of it."""
    undefined = tl.max(tl.where(normaliser != normaliser, 1, 0), axis=0)
    for first in tl.range(0, CLASSES, CHUNK, num_stages=STAGES):
        k = first + tl.arange(0, CHUNK)
        mask = (k < CLASSES)[:, None] & inside[None, :]
        values = start[None, :] + k.to(tl.int64)[:, None] * stride
        z = tl.load(values, mask=mask, other=0.0).to(tl.float32)
        logs = log_probabilities(z - top, factor, normaliser, KIND)  # of padding: weights are 0
        undefined = tl.maximum(undefined, tl.max(tl.where(logs != logs, 1, 0), axis=0))
        scores = tl.dot(tl.load(weights + k[None, :]), logs, scores, input_precision=PRECISION)
    return tl.where((undefined > 0)[None, :], float("nan"), scores)


@triton.jit
def head_kernel(
    models: tiles.Models,  # addresses as those of the average; no groups
    mixing_ptr: tl.tensor,  # [M, BLOCK_C], or [M, BLOCK_C, C padded to CHUNK] with zeros
    bias_ptr: tl.tensor,  # [BLOCK_C]
    outputs: tiles.Outputs,
    pixels: tl.tensor,  # P
    height: tl.tensor,  # of pixel axis 1
    width: tl.tensor,  # of pixel axis 2
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    TILE: tl.constexpr,  # scores held by a program, BLOCK_C * BLOCK_P
    CHUNK: tl.constexpr,  # classes k of a product; 0: classes do not mix
    KIND_SET: tl.constexpr,  # bit k: some model is of kind k
    ALIGN: tl.constexpr,  # divides P, all strides but those of 1, and all addresses in elements
    FLAT: tl.constexpr,  # the pixels of every model are one contiguous axis
    UNIT: tl.constexpr,  # pixel axis 2 of every model is contiguous
    WANTED: tl.constexpr,  # mask of the outputs: what runs is tuned for them
    PRECISION: tl.constexpr,
    STAGES: tl.constexpr,
) -> None:
    BLOCK_P: tl.constexpr = TILE // BLOCK_C
    MIXES: tl.constexpr = CHUNK > 0
    PADDED: tl.constexpr = (CLASSES + CHUNK - 1) // CHUNK * CHUNK if MIXES else 1
    pixels = tl.multiple_of(tl.cast(pixels, tl.int64), ALIGN)
    width = tl.multiple_of(tl.cast(width, tl.int64), ALIGN)
    pixel = tl.program_id(0).to(tl.int64) * BLOCK_P + tl.arange(0, BLOCK_P)
    inside = pixel < pixels
    row = tl.arange(0, BLOCK_C)[:, None]
    real = row < CLASSES
    mask = real & inside[None, :]
    scores = tl.load(bias_ptr + row) + tl.zeros([BLOCK_C, BLOCK_P], tl.float32)
    for KIND in tl.static_range(0, tiles.KIND_COUNT):
        if (KIND_SET >> KIND) & 1:
            first = tl.load(models.bounds + KIND)
            last = tl.load(models.bounds + KIND + 1)
            for m in tl.range(first, last, num_stages=1 if MIXES else STAGES):
                entry = models.address + m * tiles.COLUMNS
                start = tiles.first_class(entry, pixel, height, width, KIND, ALIGN, FLAT, UNIT)
                stride = tl.multiple_of(tl.load(entry + 1), ALIGN)
                factor = tl.load(models.factor + m * 2)
                weights = mixing_ptr + (tl.cast(m, tl.int64) * BLOCK_C + row) * PADDED
                top = tl.zeros([1, BLOCK_P], tl.float32)
                normaliser = tl.zeros([1, BLOCK_P], tl.float32)
                if KIND < tiles.PLAIN or not MIXES:
                    values = start[None, :] + row.to(tl.int64) * stride
                    z = tl.load(values, mask=mask, other=0.0).to(tl.float32)
                    if KIND < tiles.PLAIN:
                        if KIND != tiles.CODES:
                            z = tl.where(real, z, -float("inf"))
                            top = tl.max(z, axis=0, keep_dims=True)
                        z = z - top
                        powers = tl.where(real, tl.exp2(exponents(z, factor, KIND)), 0.0)
                        normaliser = tl.log2(tl.sum(powers, axis=0, keep_dims=True))
                    if not MIXES:
                        logs = log_probabilities(z, factor, normaliser, KIND)
                        scores = tl.fma(logs, tl.load(weights) + tl.zeros_like(scores), scores)
                if MIXES:
                    scores = add_chunks(
                        scores, start, stride, weights, inside, top, normaliser, factor,
                        CLASSES, CHUNK, KIND, PRECISION, STAGES,
                    )  # fmt: skip
    place = row.to(tl.int64) * pixels + pixel[None, :]
    if outputs.scores is not None:
        tl.store(outputs.scores + place, scores, mask=mask)
    if outputs.labels is not None or outputs.probabilities is not None:
        undefined, _, best, label = tiles.rank(scores, real)
        if outputs.labels is not None:
            tiles.store_labels(label, undefined, pixel, inside, outputs, CLASSES)
        if outputs.probabilities is not None:
            powers = tl.where(real, tl.exp2((scores - best[None, :]) * LOG2_E), 0.0)
            share = 1.0 / tl.sum(powers, axis=0, keep_dims=True)
            tl.store(outputs.probabilities + place, powers * share, mask=mask)


def fitting(configs: list[triton.Config], named: object, **constants: int) -> list[triton.Config]:
    """Tiles wide enough for a product or a load of 16 bytes, that leave registers free."""
    if knobs.runtime.interpret:
        return configs
    mixes = constants["CHUNK"] > 0
    crowded = mixes or constants["KIND_SET"].bit_count() > 1
    least, room = (16 if mixes else 8) * constants["BLOCK_C"], 32 if crowded else 64
    return [c for c in configs if least <= c.kwargs["TILE"] <= room * 32 * c.num_warps]


tuned_head = triton.autotune(
    configurations(),
    key=["CLASSES", "KIND_SET", "ALIGN", "FLAT", "WANTED", "CHUNK"],
    prune_configs_by={"early_config_prune": fitting},
)(head_kernel)


def chunk(classes: int) -> int:
    """Classes of a product: what its weights and logarithms take of shared memory is bounded."""
    return 32 if 16 < classes <= 128 else 16


def precision(hip: bool = torch.version.hip is not None) -> str:
    """Of the products of a mixed head."""
    return "ieee" if hip else "tf32x3"


def bound(call: Head) -> Tensor:
    """[C] float64: how far a score here, or naive.py's, may be from exact arithmetic.

    Of n terms |W l| <= 24 |W|: 2^-23 for each of n additions, should a tensor core cut off instead
    of rounding; 2^-19 for a product of parts and for the hardware's exponential and logarithm.
    """
    terms = call.mixing.double().abs().movedim(1, -1).flatten(0, -2)
    size = call.bias.double().abs() + GAP_RANGE * terms.sum(dim=0)
    return size * (len(terms) * 2.0**-23 + 2.0**-19)


def head(call: Head) -> Fused:
    """As `fusion.kernels.head`, on a GPU.

    ValueError beyond 1024 classes, or 512 where they mix. Extra device memory: tables, the mixing
    weights padded, and copies of maps whose pixel axes do not merge to three.
    """
    block, pixels = tiles.block_classes(call.classes), math.prod(call.shape)
    if call.mixes and call.classes > MAX_MIXED:
        most = f"the GPU kernels mix at most {MAX_MIXED}, so move the maps to the CPU"
        raise InputError(f"maps: got {call.classes} classes; {most}")
    made = call.allocate()
    if pixels == 0:
        return made
    terms = tiles.terms(call, [[(m, 1.0) for m in range(len(call.logits))]])
    tensors = tiles.merged_axes([call.logits[m] for m in terms.order])
    first, height, width = tensors[0].shape[1:]
    unit = all(t.stride(3) == 1 or width == 1 for t in tensors)
    addresses = [[t.data_ptr(), *t.stride()] for t in tensors]
    step = chunk(call.classes) if call.mixes else 0
    rows, pad = block - call.classes, torch.nn.functional.pad
    mixing = call.mixing[terms.order]
    mixing = pad(mixing, (0, -call.classes % step, 0, rows) if call.mixes else (0, rows))
    tuned_head[lambda meta: (triton.cdiv(pixels, meta["TILE"] // block),)](
        *(terms.models(addresses, call.device), mixing, pad(call.bias, (0, rows))),
        *(tiles.Outputs(**vars(made)), pixels, height, width),
        ALIGN=tiles.alignment(tensors, pixels, width),
        FLAT=unit and first == height == 1,
        UNIT=unit,
        CHUNK=step,
        PRECISION=precision(),
        **terms.constants(call),
    )
    return made
