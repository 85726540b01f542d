"""Weighted softmax average at label resolution on a GPU, from native maps, interpolated inside the kernel.

M models, R native resolutions, G groups, C classes, [h, w] native and [H, W] label pixels. Label columns that lie between the same two
native columns of every model form a cell: its four corners are loaded (and decoded) once, for up to SLOTS columns. One program holds the
scores [BLOCK_C, CELLS * SLOTS] of one label row and, for every model, interpolates horizontally, then vertically, a * (1 - f) + b * f
with the fractions of `reference.bilinear_steps` and one rounding per operation, so float logits are interpolated to the bits of the twin.

    resize="logits"          softmax of the interpolated logits of every model, summed as in triton_average.py
    resize="probabilities"   triton_average.py makes one weighted sum per resolution (and group, if group means are asked for) at native
                             size, band by band of rows; this kernel interpolates those and adds them. No [C, H, W] map exists.

-inf counts as -1e30 while interpolating, and a native pixel of nothing but -inf as NaN, as in the reference. Gap codes are interpolated as
-q^2, the rest of their factor comes with the exponent.

Method: "5th Place Solution for VSPW 2021 Challenge", section 2.3, equation 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs

from fusion.kernels.arithmetic import NO_SCORE, Fused, bilinear_steps
from fusion.kernels.average.triton import add_softmax, softmax_average, store_outputs, typed_pointer
from fusion.kernels.tiles import (
    CODES,
    KIND_COUNT,
    PROBABILITIES,
    Terms,
    block_classes,
    compiler_options,
    empty_outputs,
    kinds_of,
    sums_of,
    terms,
)
from fusion.kernels.upsample.cells import Shape, geometry

BAND_BYTES = 32 << 20  # native sums that exist at a time with resize="probabilities"
FAR_BELOW = tl.constexpr(NO_SCORE)
COLUMNS = tl.constexpr(
    5
)  # of the address table: address of pixel (0, 0), strides of class, row and column, resolution


@triton.jit
def finite_corners(
    a: tl.tensor, b: tl.tensor, c: tl.tensor, d: tl.tensor, real: tl.tensor
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Corners [BLOCK_C, CELLS, 1] with -inf made finite, and NaN where no class of the pixel is above -inf.

    One reduction counts the live classes of all four corners, 16 bits each.
    """
    dead = -float("inf")
    counts = (a != dead).to(tl.int64) + ((b != dead).to(tl.int64) << 16)
    counts += ((c != dead).to(tl.int64) << 32) + ((d != dead).to(tl.int64) << 48)
    counts = tl.sum(tl.where(real, counts, 0), axis=0, keep_dims=True)
    undefined = float("nan")
    a = tl.where((counts & 0xFFFF) > 0, tl.where(a == dead, FAR_BELOW, a), undefined)
    b = tl.where(((counts >> 16) & 0xFFFF) > 0, tl.where(b == dead, FAR_BELOW, b), undefined)
    c = tl.where(((counts >> 32) & 0xFFFF) > 0, tl.where(c == dead, FAR_BELOW, c), undefined)
    d = tl.where(((counts >> 48) & 0xFFFF) > 0, tl.where(d == dead, FAR_BELOW, d), undefined)
    return a, b, c, d


@triton.jit
def interpolated(
    entry: tl.tensor,
    y: tl.tensor,
    cell: tl.tensor,
    mask: tl.tensor,
    real: tl.tensor,
    corner_ptr: tl.tensor,
    x_fraction_ptr: tl.tensor,
    row_ptr: tl.tensor,
    y_fraction_ptr: tl.tensor,
    cells: tl.tensor,
    height: tl.tensor,
    KIND: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CELLS: tl.constexpr,
    SLOTS: tl.constexpr,
) -> tl.tensor:
    """One model's values [BLOCK_C, CELLS * SLOTS] at label row y."""
    base = typed_pointer(tl.load(entry), KIND, 1)
    r = tl.load(entry + 4)
    present = cell < cells
    place = r * cells + cell
    stride_x = tl.load(entry + 3)
    left = (tl.load(corner_ptr + place * 2, mask=present, other=0) * stride_x)[None, :, None]
    right = (tl.load(corner_ptr + place * 2 + 1, mask=present, other=0) * stride_x)[None, :, None]
    slot = place[:, None] * SLOTS + tl.arange(0, SLOTS)[None, :]
    fx = tl.load(x_fraction_ptr + slot, mask=present[:, None], other=0.0)[None, :, :]
    upper = tl.load(row_ptr + (r * height + y) * 2) * tl.load(entry + 2)
    lower = tl.load(row_ptr + (r * height + y) * 2 + 1) * tl.load(entry + 2)
    fy = tl.load(y_fraction_ptr + r * height + y)
    rows = base + (tl.arange(0, BLOCK_C).to(tl.int64) * tl.load(entry + 1))[:, None, None]
    a = tl.load(rows + (upper + left), mask=mask, other=0.0).to(tl.float32)
    b = tl.load(rows + (upper + right), mask=mask, other=0.0).to(tl.float32)
    c = tl.load(rows + (lower + left), mask=mask, other=0.0).to(tl.float32)
    d = tl.load(rows + (lower + right), mask=mask, other=0.0).to(tl.float32)
    if KIND == CODES:
        a, b, c, d = -a * a, -b * b, -c * c, -d * d
    elif KIND < PROBABILITIES:
        a, b, c, d = finite_corners(a, b, c, d, real)
    top = a * (1.0 - fx) + b * fx
    bottom = c * (1.0 - fx) + d * fx
    return tl.reshape(top * (1.0 - fy) + bottom * fy, [BLOCK_C, CELLS * SLOTS])


@triton.jit
def add_interpolated(
    total: tl.tensor,
    group: tl.tensor,
    address_ptr: tl.tensor,
    factor_ptr: tl.tensor,
    bounds_ptr: tl.tensor,
    corner_ptr: tl.tensor,
    x_fraction_ptr: tl.tensor,
    row_ptr: tl.tensor,
    y_fraction_ptr: tl.tensor,
    y: tl.tensor,
    cell: tl.tensor,
    cells: tl.tensor,
    height: tl.tensor,
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CELLS: tl.constexpr,
    SLOTS: tl.constexpr,
    KIND_SET: tl.constexpr,
    STAGES: tl.constexpr,
) -> tl.tensor:
    """total [BLOCK_C, CELLS * SLOTS] + the weighted softmaxes of one group's models."""
    row = tl.arange(0, BLOCK_C)
    real = row[:, None] < CLASSES
    corner_real = row[:, None, None] < CLASSES
    mask = corner_real & (cell < cells)[None, :, None]
    for KIND in tl.static_range(0, KIND_COUNT):
        if (KIND_SET >> KIND) & 1:
            first = tl.load(bounds_ptr + group * (KIND_COUNT + 1) + KIND)
            last = tl.load(bounds_ptr + group * (KIND_COUNT + 1) + KIND + 1)
            for m in tl.range(first, last, num_stages=STAGES):
                z = interpolated(
                    address_ptr + m * COLUMNS, y, cell, mask, corner_real, corner_ptr, x_fraction_ptr, row_ptr, y_fraction_ptr,
                    cells, height, KIND, BLOCK_C, CELLS, SLOTS,
                )  # fmt: skip
                factor = tl.load(factor_ptr + m * 2)
                coefficient = tl.load(factor_ptr + m * 2 + 1)
                if KIND >= PROBABILITIES:
                    total = tl.fma(z, coefficient + tl.zeros_like(total), total)
                else:
                    total = add_softmax(
                        total,
                        z,
                        -factor if KIND == CODES else factor,
                        coefficient,
                        real,
                        PEAKED=False,
                    )
    return total


@triton.jit
def upsample_average_kernel(
    address_ptr: tl.tensor,  # int64 [M, 5]: address of native pixel (0, 0), strides (elements) of class, row, column, resolution r
    factor_ptr: tl.tensor,  # float32 [M, 2]: factor, coefficient
    bounds_ptr: tl.tensor,  # int64 [G, 9]: the models of kind k in group g are bounds[g, k] .. bounds[g, k + 1] - 1
    group_ptr: tl.tensor,  # float32 [G, 2]: 1 / n_g, w_g
    corner_ptr: tl.tensor,  # int64 [R, cells, 2]: left and right native column
    x_fraction_ptr: tl.tensor,  # float32 [R, cells, SLOTS]
    column_ptr: tl.tensor,  # int64 [cells, SLOTS]: label column, -1 where the slot is empty
    row_ptr: tl.tensor,  # int64 [R, H, 2]: upper and lower native row
    y_fraction_ptr: tl.tensor,  # float32 [R, H]
    labels_ptr: tl.tensor,  # [P] uint8 or uint16, or None; so for all outputs; P = (last - top) * W
    probabilities_ptr: tl.tensor,  # [C, P] float32
    confidence_ptr: tl.tensor,  # [P] float32
    margin_ptr: tl.tensor,  # [P] float32
    entropy_ptr: tl.tensor,  # [P] float32
    means_ptr: tl.tensor,  # [G, C, P] float32; without it G is 1 and the coefficients hold the weights
    groups: tl.tensor,  # G
    cells: tl.tensor,
    height: tl.tensor,  # H
    width: tl.tensor,  # W
    first: tl.tensor,  # label row of the first program
    top: tl.tensor,  # label row of the outputs' first row
    last: tl.tensor,  # label row after the outputs' last
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    TILE: tl.constexpr,  # scores held by a program, BLOCK_C * CELLS * SLOTS
    SLOTS: tl.constexpr,
    KIND_SET: tl.constexpr,  # bit k: some model is of kind k
    SEPARATE: tl.constexpr,  # group means are wanted
    STAGES: tl.constexpr,
) -> None:
    CELLS: tl.constexpr = TILE // BLOCK_C // SLOTS
    blocks = tl.cdiv(cells, CELLS)  # adjacent programs share native rows
    y = first + tl.program_id(0) // blocks
    cell = (tl.program_id(0) % blocks) * CELLS + tl.arange(0, CELLS)
    slot = cell[:, None] * SLOTS + tl.arange(0, SLOTS)[None, :]
    column = tl.reshape(
        tl.load(column_ptr + slot, mask=(cell < cells)[:, None], other=-1), [CELLS * SLOTS]
    )
    inside = column >= 0
    pixel = tl.cast(y - top, tl.int64) * width + column
    pixels = tl.cast(last - top, tl.int64) * width
    row = tl.arange(0, BLOCK_C)[:, None]
    real = row < CLASSES
    scores = tl.zeros([BLOCK_C, CELLS * SLOTS], tl.float32)
    if not SEPARATE:
        scores = add_interpolated(
            scores, 0, address_ptr, factor_ptr, bounds_ptr, corner_ptr, x_fraction_ptr, row_ptr, y_fraction_ptr, y, cell, cells, height,
            CLASSES, BLOCK_C, CELLS, SLOTS, KIND_SET, STAGES,
        )  # fmt: skip
    else:
        for g in range(0, groups):
            mean = add_interpolated(
                tl.zeros_like(scores), g, address_ptr, factor_ptr, bounds_ptr, corner_ptr, x_fraction_ptr, row_ptr, y_fraction_ptr,
                y, cell, cells, height, CLASSES, BLOCK_C, CELLS, SLOTS, KIND_SET, STAGES,
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
    """16 to 64 scores per thread; the loads are gathers, which no pipeline covers. One tile when interpreting."""
    if knobs.runtime.interpret:
        return [triton.Config({"TILE": 1 << 12, "STAGES": 1})]
    shapes = [(2048, 4), (4096, 4), (8192, 4), (4096, 8), (8192, 8)]
    return [triton.Config({"TILE": tile, "STAGES": 1}, num_warps=warps) for tile, warps in shapes]


def fitting(
    configs: list[triton.Config], named: dict[str, object], **constants: int
) -> list[triton.Config]:
    """Configurations of at least one cell and two label columns whose scores and corners leave registers free."""
    if knobs.runtime.interpret:
        return configs
    room = {1: 16, 2: 32, 4: 64, 8: 64}[constants["SLOTS"]] // (
        2 if constants["SEPARATE"] and constants["SLOTS"] > 1 else 1
    )
    return [
        c
        for c in configs
        if max(2, constants["SLOTS"]) * constants["BLOCK_C"]
        <= c.kwargs["TILE"]
        <= room * 32 * c.num_warps
    ]


tuned_upsample_average = triton.autotune(
    configurations(),
    key=["CLASSES", "KIND_SET", "SLOTS", "SEPARATE"],
    prune_configs_by={"early_config_prune": fitting},
)(upsample_average_kernel)


def launch(
    maps: Sequence[Tensor],
    origins: Sequence[int],
    shapes: Sequence[Shape],
    total: Terms,
    size: Shape,
    rows: Shape,
    band: Shape,
    made: Fused,
) -> None:
    """Fill label rows `band` of `made`, which holds `rows`, from maps [C, ., w] that begin at native rows `origins` of maps [h, w]."""
    classes, device, separate = len(maps[0]), maps[0].device, made.group_means is not None
    resolutions = tuple(dict.fromkeys(shapes))
    tables, slots = geometry(resolutions, size, device)
    cells, block = len(tables[2]), block_classes(classes)
    addresses = []
    for m in total.order:
        pixel = maps[m].data_ptr() - origins[m] * maps[m].stride(1) * maps[m].element_size()
        addresses.append([pixel, *maps[m].stride(), resolutions.index(shapes[m])])
    tuned_upsample_average[
        lambda meta: (triton.cdiv(cells, meta["TILE"] // block // slots) * (band[1] - band[0]),)
    ](
        torch.tensor(addresses, dtype=torch.int64).to(device),
        *total.tables(device),
        *tables,
        made.labels,
        made.probabilities,
        made.confidence,
        made.margin,
        made.entropy,
        made.group_means,
        len(total.bounds),
        cells,
        *size,
        band[0],
        *rows,
        CLASSES=classes,
        BLOCK_C=block,
        SLOTS=slots,
        KIND_SET=total.kind_set,
        SEPARATE=separate,
        **compiler_options(roomy=True),
    )


def native_sums(
    logits: Sequence[Tensor], sums: Sequence[Sequence[tuple[int, float]]], temperatures: Sequence[float], values: Sequence[str],
    band: Shape, size: Shape,
) -> tuple[list[Tensor], list[int], list[Shape], list[list[tuple[int, float]]]]:  # fmt: skip
    """For every sum and resolution one map [C, ., w] of probabilities with what label rows `band` need.

    Returns the maps, the native row at which each begins, the resolution of each, and the same sums over maps instead of models.
    """
    maps: list[Tensor] = []
    origins: list[int] = []
    shapes: list[Shape] = []
    over_maps: list[list[tuple[int, float]]] = []
    for members in sums:
        over_maps.append([])
        for shape in dict.fromkeys(tuple(logits[m].shape[1:]) for m, _ in members):
            chosen = [
                (m, coefficient)
                for m, coefficient in members
                if tuple(logits[m].shape[1:]) == shape
            ]
            upper, lower, _ = bilinear_steps(shape[0], size[0])
            first, end = int(upper[band[0]]), int(lower[band[1] - 1]) + 1
            mean = softmax_average(
                [logits[m][:, first:end] for m, _ in chosen],
                [coefficient for _, coefficient in chosen],
                temperatures=[temperatures[m] for m, _ in chosen],
                values=[values[m] for m, _ in chosen],
                outputs=("probabilities",),
            ).probabilities
            assert mean is not None
            over_maps[-1].append((len(maps), sum(coefficient for _, coefficient in chosen)))
            maps.append(mean)
            origins.append(first)
            shapes.append((shape[0], shape[1]))
    return maps, origins, shapes, over_maps


def bands_of(rows: Shape, size: Shape, native_bytes: int) -> list[Shape]:
    """Label rows in bands whose native sums, `native_bytes` for the whole height, stay within the budget."""
    height = max(1, size[0] * BAND_BYTES // max(native_bytes, 1))
    return [(first, min(first + height, rows[1])) for first in range(*rows, height)]


def upsample_softmax_average(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    size: Shape,
    *,
    groups: Sequence[Sequence[int]] | None = None,
    temperatures: Sequence[float] | None = None,
    values: Sequence[str] | str = "logits",
    resize: str = "probabilities",
    rows: Shape | None = None,
    outputs: Sequence[str] = ("labels",),
) -> Fused:
    """The average at label resolution from logits [C, h, w] on a GPU; parameters as `fusion.kernels.upsample_softmax_average`.

    Takes checked arguments. ValueError beyond 1024 classes. Extra device memory: tables, and with resize="probabilities" at most 32 MiB of
    native sums, or those of one label row where they are larger.
    """
    classes, device, size = len(logits[0]), logits[0].device, (size[0], size[1])
    block_classes(classes)
    groups = groups or [[m] for m in range(len(logits))]
    temperatures = temperatures or [1.0] * len(logits)
    values = [values] * len(logits) if isinstance(values, str) else values
    first, end = rows or (0, size[0])
    made = empty_outputs(classes, len(groups), (end - first, size[1]), outputs, device)
    if (end - first) * size[1] == 0:
        return made
    logits = [tensor.detach() for tensor in logits]
    sums, shares = sums_of(weights, groups, separate=made.group_means is not None)
    if resize == "logits":
        total = terms(sums, shares, kinds_of(logits, values), temperatures)
        shapes = [(t.shape[1], t.shape[2]) for t in logits]
        launch(logits, [0] * len(logits), shapes, total, size, (first, end), (first, end), made)
        return made
    maps_of_all = [
        shape for members in sums for shape in {tuple(logits[m].shape[1:]) for m, _ in members}
    ]
    for band in bands_of((first, end), size, sum(4 * classes * h * w for h, w in maps_of_all)):
        maps, origins, shapes, over_maps = native_sums(
            logits, sums, temperatures, values, band, size
        )
        total = terms(
            over_maps, shares, kinds_of(maps, ["probabilities"] * len(maps)), [1.0] * len(maps)
        )
        launch(maps, origins, shapes, total, size, (first, end), band, made)
        del maps
    return made
