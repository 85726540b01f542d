"""Maps of probabilities interpolated and added up on a GPU: the second step of the average at label
resolution with resize="probabilities".

K maps [C, T, h, w] of R resolutions, G groups, C classes, T frames, [H, W] label pixels. One thread
holds the ROWS x SLOTS label pixels between four native ones and walks over the classes:

    v     = interpolated as naive.py does, a * (1 - f) + b * f, horizontal before vertical, one
            rounding per operation; the horizontal steps are shared by the rows of a strip
    F_c   = v of the only map, or sum_g w_g sum_k coefficient_k v_k

No score but those of one class exists at a time: the best and its class, the second, the entropy
are carried along, so that registers do not depend on C, and no lane waits for another.
"""

# tuples grow as a kernel unrolls
# mypy: disable-error-code="assignment,var-annotated"
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import triton
import triton.language as tl
from triton import knobs

from fusion.kernels import tiles
from fusion.kernels.arithmetic import Fused
from fusion.kernels.call import Pair, Upsampling
from fusion.kernels.numbers import NARROW_VOID
from fusion.kernels.tiles import Pointer
from fusion.kernels.upsample.cells import (
    COLUMNS,
    LENGTHS,
    Cells,
    Map,
    blended,
    corner_offsets,
    geometry,
    on_device,
    places,
    positions,
    shares,
)

MOST = 16  # label pixels of a thread
NOTHING = tl.constexpr(-float("inf"))


class Parts(NamedTuple):
    """Tables of a launch, on its device."""

    address: Pointer  # int64 [K, 6]: address, strides of class, frame, row, column; resolution
    bounds: Pointer  # int64 [G + 1]: maps of group g: [g] .. [g + 1] - 1
    coefficient: Pointer  # float32 [K]
    weight: Pointer  # float32 [G]: w_g
    multiplier: Pointer  # float32 [C], which labels are decided with, or None


@triton.jit
def added(
    sums: tl.tuple,
    m: tl.tensor,
    row: tl.tensor,  # [BLOCK_C, 1] int64, classes
    parts: Parts,
    columns: tl.tuple,
    rows: tl.tuple,
    frame: tl.tensor,
    strip: tl.tensor,  # [1, N]
    cell: tl.tensor,  # [1, N]
    steps: Cells,
    cells: tl.tensor,
    strips: tl.tensor,
    SLOTS: tl.constexpr,
    ROWS: tl.constexpr,
) -> tl.tuple:
    """sums + coefficient * the values of map m."""
    entry = parts.address + m * COLUMNS
    base = tl.cast(tl.load(entry), tl.pointer_type(tl.float32)) + row * tl.load(entry + 1)
    o = corner_offsets(entry, frame, strip, cell, steps, cells, strips)
    across, down = shares(entry, columns, rows, strip, cell, steps, cells, strips, SLOTS, ROWS)
    a, b, c, d = (
        tl.load(base + o[0]),
        tl.load(base + o[1]),
        tl.load(base + o[2]),
        tl.load(base + o[3]),
    )
    values = blended(a, b, c, d, across, down)
    coefficient = tl.load(parts.coefficient + m)
    result = ()
    for k in tl.static_range(SLOTS * ROWS):
        result = result + (tl.fma(values[k], coefficient + tl.zeros_like(sums[k]), sums[k]),)
    return result


@triton.jit
def store_planes(
    plane: tl.tensor,  # [BLOCK_C, 1] pointers to the first pixel of classes
    scores: tl.tuple,
    xs: tl.tuple,
    ys: tl.tuple,
) -> None:
    for r in tl.static_range(len(ys)):
        line = plane + ys[r]
        for s in tl.static_range(len(xs)):
            tl.store(line + xs[s], scores[s * len(ys) + r])


@triton.jit
def rank_next(
    ranks: tl.tuple,  # of four tensors a pixel, [BLOCK_C, N]: best, label, second, decided
    scores: tl.tuple,
    row: tl.tensor,  # [BLOCK_C, 1] int32, the classes of the scores
    factor: tl.tensor,  # [BLOCK_C, 1] their multipliers
    MARGIN: tl.constexpr,
    SCALED: tl.constexpr,
) -> tl.tuple:
    """Ranks after one more class: the lowest class wins ties, a NaN stays in `best`."""
    result = ()
    for k in tl.static_range(len(scores)):
        score = scores[k]
        best, label, second, decided = ranks[4 * k : 4 * k + 4]
        if MARGIN:
            second = tl.maximum(second, tl.minimum(best, score))
        if SCALED:
            decisive = score * factor
            label = tl.where(decisive > decided, row, label)
            decided = tl.maximum(decided, decisive)
        else:
            label = tl.where(score > best, row, label)
        best = tl.maximum(best, score, propagate_nan=tl.PropagateNan.ALL)
        result = result + (best, label, second, decided)
    return result


@triton.jit
def winner(
    best: tl.tensor,  # [BLOCK_C, N]
    label: tl.tensor,
    second: tl.tensor,
    decided: tl.tensor,
    BLOCK_C: tl.constexpr,
    MARGIN: tl.constexpr,
    SCALED: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Of a pixel: best, its class, second, whether a score was NaN; each [1, N]."""
    undefined = best != best
    if BLOCK_C > 1:
        undefined = tl.max(undefined.to(tl.int32), axis=0, keep_dims=True) > 0
        known = tl.where(best == best, best, NOTHING)
        first = tl.max(known, axis=0, keep_dims=True)
        if MARGIN:  # the best of one class, and what is second to it in any
            holder = tl.where(known == first, label, 1 << 30)
            holder = tl.min(holder, axis=0, keep_dims=True)
            second = tl.where((known == first) & (label == holder), second, known)
            second = tl.max(second, axis=0, keep_dims=True)
        value = decided if SCALED else known
        top = tl.max(value, axis=0, keep_dims=True)
        label = tl.min(tl.where(value == top, label, 1 << 30), axis=0, keep_dims=True)
        best = first
    return best, label, second, undefined


@triton.jit
def fused(
    zero: tl.tensor,  # [BLOCK_C, BLOCK_P]
    row: tl.tensor,  # [BLOCK_C, 1] int64 classes
    parts: Parts,
    outputs: tiles.Outputs,
    groups: tl.tensor,  # G
    classes: tl.tensor,  # C
    pixels: tl.tensor,  # P
    xs: tl.tuple,
    ys: tl.tuple,
    columns: tl.tuple,
    rows: tl.tuple,
    frame: tl.tensor,
    strip: tl.tensor,
    cell: tl.tensor,
    steps: Cells,
    cells: tl.tensor,
    strips: tl.tensor,
    SLOTS: tl.constexpr,
    ROWS: tl.constexpr,
) -> tl.tuple:
    """Scores of several maps: sums of all, or of each group, which is stored; weight 0 is out."""
    scores = ()
    for _ in tl.static_range(ROWS * SLOTS):
        scores = scores + (zero,)
    for g in range(0, groups):
        sums = ()
        for _ in tl.static_range(ROWS * SLOTS):
            sums = sums + (zero,)
        for m in range(tl.load(parts.bounds + g), tl.load(parts.bounds + g + 1)):
            sums = added(
                sums, m, row, parts, columns, rows, frame, strip, cell, steps, cells, strips,
                SLOTS, ROWS,
            )  # fmt: skip
        if outputs.group_means is not None:
            weight = tl.load(parts.weight + g)
            plane = tl.cast(g, tl.int64) * classes + row
            store_planes(outputs.group_means + plane * pixels, sums, xs, ys)
            more = ()
            for k in tl.static_range(ROWS * SLOTS):
                score = tl.where(weight > 0, scores[k] + sums[k] * weight, scores[k])
                more = more + (score,)
            scores = more
        else:
            scores = sums
    return scores


@triton.jit
def store_pixels(
    ranks: tl.tuple,  # best, its class, second and what decides it, of every label pixel
    entropies: tl.tuple,
    xs: tl.tuple,
    ys: tl.tuple,
    outputs: tiles.Outputs,
    classes: tl.tensor,  # C
    BLOCK_C: tl.constexpr,
    RANKED: tl.constexpr,
    MARGIN: tl.constexpr,
    SCALED: tl.constexpr,
    WIDE: tl.constexpr,
) -> None:
    """What a pixel has one number of, each only where it is asked for."""
    for k in tl.static_range(len(entropies)):
        pixel = ys[k % len(ys)] + xs[k // len(ys)]
        if outputs.entropy is not None:
            entropy = entropies[k]
            if BLOCK_C > 1:
                entropy = tl.sum(entropy, axis=0, keep_dims=True)
            tl.store(outputs.entropy + pixel, -entropy)
        if RANKED:
            best, label, second, undefined = winner(
                ranks[4 * k], ranks[4 * k + 1], ranks[4 * k + 2], ranks[4 * k + 3],
                BLOCK_C, MARGIN, SCALED,
            )  # fmt: skip
            best = tl.where(undefined, float("nan"), best)
            if outputs.labels is not None:
                label = tl.where(undefined, tiles.WIDE if WIDE else tiles.NARROW, label)
                tl.store(outputs.labels + pixel, label.to(outputs.labels.dtype.element_ty))
            if outputs.confidence is not None:
                tl.store(outputs.confidence + pixel, best)
            if MARGIN:
                tl.store(outputs.margin + pixel, tl.where(classes > 1, best - second, best))


@triton.jit
def upsample_maps_kernel(
    parts: Parts,
    steps: Cells,
    outputs: tiles.Outputs,  # P = T * (last - top) * W
    groups: tl.tensor,  # G
    classes: tl.tensor,  # C
    frames: tl.tensor,  # T
    cells: tl.tensor,
    strips: tl.tensor,
    first: tl.tensor,  # strips that the launch fills: the first,
    end: tl.tensor,  # and one past the last
    width: tl.tensor,  # W
    start: tl.tensor,  # label rows that it fills
    stop: tl.tensor,
    top: tl.tensor,  # label rows that the outputs hold
    last: tl.tensor,
    BLOCK_C: tl.constexpr,  # classes at a time: one on a GPU
    BLOCK_P: tl.constexpr,  # cells of a program
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    ALONE: tl.constexpr,  # one map to a group, and no scores where there are several
    WIDE: tl.constexpr,  # more than 255 classes
) -> None:
    K: tl.constexpr = ROWS * SLOTS
    RANKED: tl.constexpr = (
        outputs.labels is not None or outputs.confidence is not None or outputs.margin is not None
    )
    MARGIN: tl.constexpr = outputs.margin is not None
    SCALED: tl.constexpr = outputs.labels is not None and parts.multiplier is not None
    SEPARATE: tl.constexpr = outputs.group_means is not None
    blocks = tl.cdiv((end - first) * cells, BLOCK_P)
    frame = tl.program_id(0) // blocks
    n = (tl.program_id(0) % blocks) * BLOCK_P + tl.arange(0, BLOCK_P)[None, :]
    n = tl.minimum(n, (end - first) * cells - 1)
    strip, cell = first + n // cells, n % cells
    columns, rows = positions(strip, cell, steps, start, stop, SLOTS, ROWS)
    xs, ys = places(columns, rows, frame, strip, cell, steps, width, top, last)
    pixels = tl.cast(frames, tl.int64) * (last - top) * width

    entry = parts.address + tl.program_id(1) * COLUMNS
    stride = tl.load(entry + 1)
    block = tl.arange(0, BLOCK_C)[:, None]
    base = tl.cast(tl.load(entry), tl.pointer_type(tl.float32))
    o = corner_offsets(entry, frame, strip, cell, steps, cells, strips)
    across, down = shares(entry, columns, rows, strip, cell, steps, cells, strips, SLOTS, ROWS)

    zero = tl.zeros([BLOCK_C, BLOCK_P], tl.float32)
    ranks, entropies = (), ()
    for _ in tl.static_range(K):
        least = zero + NOTHING
        ranks = ranks + (least, tl.zeros([BLOCK_C, BLOCK_P], tl.int32), least, least)
        entropies = entropies + (zero,)
    for c0 in range(0, classes, BLOCK_C):
        row = c0 + block
        if BLOCK_C > 1:
            row = tl.minimum(row, classes - 1)
        far = row.to(tl.int64)
        if ALONE:
            here = base + far * stride if BLOCK_C > 1 else base
            a, b, c, d = (
                tl.load(here + o[0]),
                tl.load(here + o[1]),
                tl.load(here + o[2]),
                tl.load(here + o[3]),
            )
            base += stride if BLOCK_C == 1 else 0
            scores = blended(a, b, c, d, across, down)
            if SEPARATE:
                plane = tl.program_id(1).to(tl.int64) * classes + far
                store_planes(outputs.group_means + plane * pixels, scores, xs, ys)
        else:
            scores = fused(
                zero, far, parts, outputs, groups, classes, pixels, xs, ys, columns, rows, frame,
                strip, cell, steps, cells, strips, SLOTS, ROWS,
            )  # fmt: skip
        if outputs.probabilities is not None:
            store_planes(outputs.probabilities + far * pixels, scores, xs, ys)
        if outputs.entropy is not None:
            more = ()
            for k in tl.static_range(K):
                term = scores[k] * tl.log(tl.where(scores[k] != 0.0, scores[k], 1.0))
                if BLOCK_C > 1:
                    term = tl.where(c0 + block < classes, term, 0.0)
                more = more + (entropies[k] + term,)
            entropies = more
        if RANKED:
            if BLOCK_C > 1:
                known = ()
                for k in tl.static_range(K):
                    known = known + (tl.where(c0 + block < classes, scores[k], NOTHING),)
                scores = known
            factor = row.to(tl.float32)
            if SCALED:
                factor = tl.load(parts.multiplier + row)
            ranks = rank_next(ranks, scores, row, factor, MARGIN, SCALED)

    store_pixels(
        ranks, entropies, xs, ys, outputs, classes, BLOCK_C, RANKED, MARGIN, SCALED, WIDE
    )  # fmt: skip


def configurations() -> list[triton.Config]:
    """One: a thread's work is fixed by the geometry, and no lane waits for another."""
    if knobs.runtime.interpret:
        return [triton.Config({"BLOCK_C": 128, "BLOCK_P": 256}, num_warps=4)]
    return [triton.Config({"BLOCK_C": 1, "BLOCK_P": 128}, num_warps=4, num_stages=1)]


def launch(
    groups: Sequence[Sequence[tuple[Map, float]]],
    weights: Sequence[float],
    call: Upsampling,
    band: Pair,
    made: Fused,
) -> None:
    """Fills label rows `band` of `made`, which holds call.rows.

    groups: the maps of every group and what each counts. weights: normalised, of the groups.
    """
    maps = [part for group in groups for part, _ in group]
    resolutions = tuple(dict.fromkeys(part.shape for part in maps))
    how = geometry(resolutions, call.size, call.device, MOST, max(LENGTHS))
    first, end = how.strips_of(band)
    alone = all(len(group) == 1 and group[0][1] == 1.0 for group in groups)
    alone &= len(groups) == 1 or call.outputs == ("group_means",)
    counts = [len(group) for group in groups]
    tables = Parts(
        *on_device(
            call.device,
            np.array([part.address(resolutions) for part in maps], np.int64),
            np.cumsum([0, *counts], dtype=np.int64),
            np.array([share for group in groups for _, share in group], np.float32),
            np.array(weights, np.float32),
            None if call.multipliers is None else np.array(call.multipliers, np.float32),
        )
    )
    (config,) = configurations()
    blocks = triton.cdiv((end - first) * how.cells, config.kwargs["BLOCK_P"])
    frames = call.frames or 1
    upsample_maps_kernel[blocks * frames, len(groups) if alone else 1](
        *(tables, how.steps, tiles.Outputs(**vars(made)), len(groups), call.classes, frames),
        *(how.cells, how.strips, first, end, call.size[1], *band, *call.rows),
        ROWS=how.rows,
        SLOTS=how.slots,
        ALONE=alone,
        WIDE=call.classes > NARROW_VOID,
        **config.all_kwargs(),
        **tiles.compiler_options(),
    )
