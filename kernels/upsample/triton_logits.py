"""Logits interpolated on a GPU before their softmax: the average with resize="logits".

M models, R native resolutions, G groups, C classes, T frames, [H, W] label pixels. A thread holds
the ROWS label pixels of one column of a strip, in CH of the C classes; CL lanes of its warp hold
the others, and no warp waits for another. For every model

    z     = interpolated as naive.py does, a * (1 - f) + b * f, horizontal before vertical, one
            rounding per operation; the horizontal steps are shared by the rows of a strip
    e_c   = 2^((z_c - max_c z_c) * factor_m)     factor_m = log2(e) / T_m; of codes z = -q^2, and
                                                 the rest of what they mean is in the factor
    F_c  += e_c * (coefficient_m / sum_c e_c)

spread.py says how scores lie in registers. Padded classes repeat the last. Where temperatures are
not tiny, float16 and codes take one fused step to the exponent: it errs by the same power of two in
every class of a pixel, which the division takes out again.
"""

# tuples grow as a kernel unrolls
# mypy: disable-error-code="assignment,var-annotated"
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import triton
import triton.language as tl
from triton import knobs

from fusion.kernels import tiles
from fusion.kernels.arithmetic import NO_SCORE, Fused
from fusion.kernels.call import Upsampling
from fusion.kernels.lanes import reciprocal
from fusion.kernels.upsample.cells import (
    COLUMNS,
    Cells,
    Map,
    blended,
    corner_offsets,
    geometry,
    of_frames,
    on_device,
    places,
    positions,
    shares,
)
from fusion.kernels.upsample.spread import (
    NOTHING,
    largest,
    store_planes,
    store_ranks,
    summed,
    tile_classes,
)

TWICE = 512  # classes whose sum of a group and of all groups a thread holds beside each other
SHARP = 1e-3  # temperatures below this leave the fused exponent no room
FAR_BELOW = tl.constexpr(NO_SCORE)
HALF, BRAIN = tl.constexpr(0), tl.constexpr(1)  # float16, bfloat16
SQUARE = tl.constexpr(0x4B000000)  # the bits of 2^23: q^2 added to them is the float 2^23 + q^2
UNIT = tl.constexpr(8388608.0)


@triton.jit
def finite(z: tl.tensor, KIND: tl.constexpr) -> tl.tensor:
    """float32 values to interpolate."""
    if KIND == tiles.CODES:
        q = z.to(tl.int32)
        return UNIT - (q * q + SQUARE).to(tl.float32, bitcast=True)
    z = z.to(tl.float32)
    if KIND == HALF:
        return tl.maximum(z, FAR_BELOW, propagate_nan=tl.PropagateNan.ALL)
    elif KIND < tiles.PLAIN:
        return tl.where(z == NOTHING, FAR_BELOW, z)
    return z


@triton.jit
def exponentials(
    z: tl.tuple,
    factor: tl.tensor,
    names: tl.tuple,  # classes of every tile
    KIND: tl.constexpr,
    CLASSES: tl.constexpr,
    CL: tl.constexpr,
    ROWS: tl.constexpr,
    FUSED: tl.constexpr,
) -> tl.tuple:
    """2 to the scaled gap between each class and the best one; 0 for padded classes."""
    made = ()
    tops = ()
    for r in tl.static_range(ROWS):
        tops = tops + (largest(z, r, ROWS),)
    for i in tl.static_range(len(names)):
        for r in tl.static_range(ROWS):
            value = z[i * ROWS + r]
            if FUSED:
                zero = tl.zeros_like(value)
                e = tl.exp2(tl.fma(value, factor + zero, tops[r] * -factor + zero))
            else:
                e = tl.exp2((value - tops[r]) * factor)
            if i == len(names) - 1 and CLASSES % CL != 0:
                e = tl.where(names[i] < CLASSES, e, 0.0)
            made = made + (e,)
    return made


@triton.jit
def add_models(
    totals: tl.tuple,
    g: tl.tensor,
    models: tiles.Models,
    columns: tl.tuple,
    rows: tl.tuple,
    frame: tl.tensor,
    strip: tl.tensor,  # [1, W, 1, PL]
    cell: tl.tensor,
    steps: Cells,
    cells: tl.tensor,
    strips: tl.tensor,
    CLASSES: tl.constexpr,
    CL: tl.constexpr,
    ROWS: tl.constexpr,
    KIND_SET: tl.constexpr,
    SMOOTH: tl.constexpr,
) -> tl.tuple:
    """totals + the weighted softmaxes of a group's models: a loop per kind of value that occurs."""
    names = tile_classes(CLASSES, CL)
    for KIND in tl.static_range(0, tiles.KIND_COUNT):
        if (KIND_SET >> KIND) & 1:
            bounds = models.bounds + g * (tiles.KIND_COUNT + 1) + KIND
            for m in range(tl.load(bounds), tl.load(bounds + 1)):
                entry = models.address + m * COLUMNS
                base = tiles.typed_pointer(tl.load(entry), KIND, 1)
                stride = tl.load(entry + 1)
                o = corner_offsets(entry, frame, strip, cell, steps, cells, strips)
                across, down = shares(
                    entry, columns, rows, strip, cell, steps, cells, strips, 1, ROWS
                )
                z = ()
                tops = ()
                for i in tl.static_range(len(names)):
                    name = names[i]
                    if i == len(names) - 1 and CLASSES % CL != 0:
                        name = tl.minimum(name, CLASSES - 1)
                    first = base + name.to(tl.int64) * stride
                    a, b = tl.load(first + o[0]), tl.load(first + o[1])
                    c, d = tl.load(first + o[2]), tl.load(first + o[3])
                    if KIND < tiles.CODES:
                        tops = tops + (
                            tl.max(a.to(tl.float32), axis=0, keep_dims=True),
                            tl.max(b.to(tl.float32), axis=0, keep_dims=True),
                            tl.max(c.to(tl.float32), axis=0, keep_dims=True),
                            tl.max(d.to(tl.float32), axis=0, keep_dims=True),
                        )
                    z = z + blended(
                        finite(a, KIND), finite(b, KIND), finite(c, KIND), finite(d, KIND),
                        across, down,
                    )  # fmt: skip
                factor = tl.load(models.factor + m * 2)
                coefficient = tl.load(models.factor + m * 2 + 1)
                sums = ()
                if KIND >= tiles.PLAIN:
                    for k in tl.static_range(len(totals)):
                        zero = tl.zeros_like(totals[k])
                        sums = sums + (tl.fma(z[k], coefficient + zero, totals[k]),)
                else:
                    if KIND == tiles.CODES:
                        factor = -factor
                    FUSED: tl.constexpr = SMOOTH and (KIND == HALF or KIND == tiles.CODES)
                    e = exponentials(z, factor, names, KIND, CLASSES, CL, ROWS, FUSED)
                    parts = ()
                    for r in tl.static_range(ROWS):
                        parts = parts + (reciprocal(summed(e, r, ROWS)) * coefficient,)
                    if KIND < tiles.CODES:
                        parts = undefined_where_dead(parts, tops)
                    for i in tl.static_range(len(names)):
                        for r in tl.static_range(ROWS):
                            term, total = e[i * ROWS + r], totals[i * ROWS + r]
                            sums = sums + (tl.fma(term, parts[r] + tl.zeros_like(term), total),)
                totals = sums
    return totals


@triton.jit
def undefined_where_dead(parts: tl.tuple, tops: tl.tuple) -> tl.tuple:
    """NaN where a corner is -inf in every class; one sum over lanes counts for all corners."""
    count = tl.zeros(tops[0].shape, tl.int32)
    for corner in tl.static_range(4):
        top = tops[corner]
        for i in tl.static_range(1, len(tops) // 4):
            top = tl.maximum(top, tops[4 * i + corner])
        count += (top != NOTHING).to(tl.int32) << (8 * corner)  # of at most 32 lanes
    count = tl.sum(count, axis=2, keep_dims=True)
    dead = (count & 0xFF) == 0
    for corner in tl.static_range(1, 4):
        dead = dead | ((count >> (8 * corner) & 0xFF) == 0)
    made = ()
    for r in tl.static_range(len(parts)):
        made = made + (tl.where(dead, float("nan"), parts[r]),)
    return made


@triton.jit
def upsample_logits_kernel(
    models: tiles.Models,  # addresses of native pixel (0, 0), strides (elements), resolution r
    steps: Cells,
    outputs: tiles.Outputs,  # P = T * (last - top) * W
    groups: tl.tensor,  # G
    frames: tl.tensor,  # T
    cells: tl.tensor,  # W: columns are cells of one
    strips: tl.tensor,
    first: tl.tensor,  # strips that the launch fills: the first,
    end: tl.tensor,  # and one past the last
    width: tl.tensor,  # W
    start: tl.tensor,  # label rows that it fills
    stop: tl.tensor,
    top: tl.tensor,  # label rows that the outputs hold
    last: tl.tensor,
    CLASSES: tl.constexpr,
    WARPS: tl.constexpr,
    CL: tl.constexpr,
    PL: tl.constexpr,
    ROWS: tl.constexpr,
    KIND_SET: tl.constexpr,  # bit k: some model is of kind k
    SMOOTH: tl.constexpr,  # no temperature is tiny
) -> None:
    COLUMNS_P: tl.constexpr = WARPS * PL
    blocks = tl.cdiv((end - first) * cells, COLUMNS_P)
    frame = tl.program_id(0) // blocks
    lane = tl.arange(0, WARPS)[None, :, None, None] * PL + tl.arange(0, PL)[None, None, None, :]
    n = (tl.program_id(0) % blocks) * COLUMNS_P + lane
    n = tl.minimum(n, (end - first) * cells - 1)
    strip, cell = first + n // cells, n % cells
    columns, rows = positions(strip, cell, steps, start, stop, 1, ROWS)
    xs, ys = places(columns, rows, frame, strip, cell, steps, width, top, last)
    pixels = tl.cast(frames, tl.int64) * (last - top) * width
    names = tile_classes(CLASSES, CL)
    zeros = ()
    for i in tl.static_range(len(names)):
        for _ in tl.static_range(ROWS):
            zeros = zeros + (tl.zeros([names[i].shape[0], WARPS, CL, PL], tl.float32),)
    scores = zeros
    if outputs.group_means is None:
        scores = add_models(
            scores, 0, models, columns, rows, frame, strip, cell, steps, cells, strips,
            CLASSES, CL, ROWS, KIND_SET, SMOOTH,
        )  # fmt: skip
    else:
        for g in range(0, groups):
            sums = add_models(
                zeros, g, models, columns, rows, frame, strip, cell, steps, cells, strips,
                CLASSES, CL, ROWS, KIND_SET, SMOOTH,
            )  # fmt: skip
            share, weight = tl.load(models.group + g * 2), tl.load(models.group + g * 2 + 1)
            means, fused = (), ()
            for k in tl.static_range(len(sums)):
                mean = sums[k] * share
                means = means + (mean,)
                fused = fused + (tl.where(weight > 0, scores[k] + mean * weight, scores[k]),)
            plane = outputs.group_means + tl.cast(g, tl.int64) * CLASSES * pixels
            store_planes(plane, means, pixels, xs[0], ys, CLASSES, CL)
            scores = fused
    if outputs.probabilities is not None:
        store_planes(outputs.probabilities, scores, pixels, xs[0], ys, CLASSES, CL)
    RANKED: tl.constexpr = (
        outputs.labels is not None
        or outputs.confidence is not None
        or outputs.margin is not None
        or outputs.entropy is not None
    )
    if RANKED:
        for r in tl.static_range(ROWS):
            store_ranks(scores, ys[r] + xs[0], models, outputs, r, CLASSES, CL, ROWS)


def configurations() -> list[triton.Config]:
    """One: lanes and rows follow from the classes, and no warp waits for another."""
    warps = 32 if knobs.runtime.interpret else 4
    return [triton.Config({"WARPS": warps}, num_warps=4, num_stages=1)]


def lanes_and_rows(classes: int, *, separate: bool) -> tuple[int, int]:
    """CL and the most ROWS: about 64 scores a thread; half where groups are summed apart."""
    room = 40 if separate else 76
    for rows, lanes in ((4, 1), (4, 2), (4, 4), (4, 8), (4, 16), (4, 32)):
        if math.ceil(classes / lanes) * rows <= room:
            return lanes, rows
    return 32, 1


def launch(call: Upsampling, made: Fused) -> None:
    """Fills `made`; of more classes than fit a thread twice, group means and the rest in turn."""
    rest = tuple(name for name in call.outputs if name != "group_means")
    if call.classes <= TWICE or not rest or len(rest) == len(call.outputs):
        return _launch(call, made)
    for names in (("group_means",), rest):
        some = {name: getattr(made, name) for name in names}
        _launch(replace(call, outputs=names), Fused(**some))


def _launch(call: Upsampling, made: Fused) -> None:
    maps = [Map(of_frames(z), 0, (z.shape[-2], z.shape[-1])) for z in call.logits]
    terms = tiles.terms(call, tiles.sums(call), tiles.weighting(call), call.multipliers)
    resolutions = tuple(dict.fromkeys(part.shape for part in maps))
    lanes, rows = lanes_and_rows(call.classes, separate="group_means" in call.outputs)
    how = geometry(resolutions, call.size, call.device, rows, 1)
    first, end = how.strips_of(call.rows)
    tables = tiles.Models(
        *on_device(
            call.device,
            np.array([maps[m].address(resolutions) for m in terms.order], np.int64),
            np.array(terms.factors, np.float32),
            np.array(terms.bounds, np.int64),
            np.array(terms.weighting, np.float32),
            None if terms.multipliers is None else np.array(terms.multipliers, np.float32),
        )
    )
    (config,) = configurations()
    columns = config.kwargs["WARPS"] * (32 // lanes)
    blocks, frames = triton.cdiv((end - first) * how.cells, columns), call.frames or 1
    upsample_logits_kernel[(blocks * frames,)](
        *(tables, how.steps, tiles.Outputs(**vars(made)), len(terms.bounds), frames),
        *(how.cells, how.strips, first, end, call.size[1], *call.rows, *call.rows),
        CLASSES=call.classes,
        CL=lanes,
        PL=32 // lanes,
        ROWS=how.rows,
        KIND_SET=terms.kind_set,
        SMOOTH=min(call.temperatures) >= SHARP,
        **config.all_kwargs(),
        **tiles.compiler_options(holds_tile=True),
    )
