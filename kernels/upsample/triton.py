"""Weighted softmax average at label resolution on a GPU, interpolated inside the kernel.

M models, R native resolutions, G groups, C classes, [h, w] native and [H, W] label pixels. Label
columns that lie between the same two native columns of every model form a cell: its four corners
are loaded (and decoded) once, for up to SLOTS columns. One program holds the scores
[BLOCK_C, CELLS * SLOTS] of one label row and, for every model, interpolates horizontally, then
vertically, a * (1 - f) + b * f with the fractions of `bilinear_steps` and one rounding per
operation, so float logits are interpolated to the bits of naive.py.

    resize="logits"          softmax of the interpolated logits of every model, summed as in
                             average/triton.py
    resize="probabilities"   average/triton.py makes one weighted sum per resolution (and group, if
                             group means are asked for) at native size, band by band of rows; this
                             kernel interpolates those and adds them. No [C, H, W] map exists.

Gap codes are interpolated as -q^2, the rest of their factor comes with the exponent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import triton
import triton.language as tl
from triton import knobs

from fusion.kernels import tiles
from fusion.kernels.arithmetic import Fused, bilinear_steps
from fusion.kernels.average import triton as native
from fusion.kernels.call import Pair, Upsampling
from fusion.kernels.upsample import triton_channels
from fusion.kernels.upsample.cells import COLUMNS, Cells, Map, bands, geometry, interpolated


@triton.jit
def add_interpolated(
    total: tl.tensor,  # [BLOCK_C, CELLS * SLOTS]
    group: tl.tensor,
    models: tiles.Models,
    steps: Cells,
    y: tl.tensor,
    cell: tl.tensor,  # [CELLS]
    cells: tl.tensor,
    height: tl.tensor,
    CLASSES: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CELLS: tl.constexpr,
    SLOTS: tl.constexpr,
    KIND_SET: tl.constexpr,
    STAGES: tl.constexpr,
) -> tl.tensor:
    """total + the weighted softmaxes of one group's models."""
    row = tl.arange(0, BLOCK_C)
    real = row[:, None] < CLASSES
    corner_real = row[:, None, None] < CLASSES
    for KIND in tl.static_range(0, tiles.KIND_COUNT):
        if (KIND_SET >> KIND) & 1:
            first = tl.load(models.bounds + group * (tiles.KIND_COUNT + 1) + KIND)
            last = tl.load(models.bounds + group * (tiles.KIND_COUNT + 1) + KIND + 1)
            for m in tl.range(first, last, num_stages=STAGES):
                z = interpolated(
                    models.address + m * COLUMNS, y, cell, row.to(tl.int64), corner_real,
                    steps, cells, height, None, KIND, BLOCK_C, CELLS, SLOTS,
                )  # fmt: skip
                factor = tl.load(models.factor + m * 2)
                if KIND == tiles.CODES:
                    factor = -factor
                coefficient = tl.load(models.factor + m * 2 + 1)
                total = tiles.add_values(total, z, factor, coefficient, real, KIND, PEAKED=False)
    return total


@triton.jit
def upsample_average_kernel(
    models: tiles.Models,  # addresses of native pixel (0, 0), strides (elements), resolution r
    steps: Cells,
    outputs: tiles.Outputs,  # P = (last - top) * W
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
    WANTED: tl.constexpr,  # mask of the outputs: what runs is tuned for them
    STAGES: tl.constexpr,
) -> None:
    CELLS: tl.constexpr = TILE // BLOCK_C // SLOTS
    blocks = tl.cdiv(cells, CELLS)  # adjacent programs share native rows
    y = first + tl.program_id(0) // blocks
    cell = (tl.program_id(0) % blocks) * CELLS + tl.arange(0, CELLS)
    slot = cell[:, None] * SLOTS + tl.arange(0, SLOTS)[None, :]
    column = tl.load(steps.column + slot, mask=(cell < cells)[:, None], other=-1)
    column = tl.reshape(column, [CELLS * SLOTS])
    inside = column >= 0
    pixel = tl.cast(y - top, tl.int64) * width + column
    pixels = tl.cast(last - top, tl.int64) * width
    scores = tl.zeros([BLOCK_C, CELLS * SLOTS], tl.float32)
    if outputs.group_means is None:
        scores = add_interpolated(
            scores, 0, models, steps, y, cell, cells, height,
            CLASSES, BLOCK_C, CELLS, SLOTS, KIND_SET, STAGES,
        )  # fmt: skip
    else:
        for g in range(0, groups):
            sums = add_interpolated(
                tl.zeros_like(scores), g, models, steps, y, cell, cells, height,
                CLASSES, BLOCK_C, CELLS, SLOTS, KIND_SET, STAGES,
            )  # fmt: skip
            scores = tiles.close_group(
                scores, sums, g, pixel, inside, pixels, models, outputs, CLASSES, BLOCK_C
            )
    tiles.store_outputs(scores, pixel, inside, pixels, models, outputs, CLASSES, BLOCK_C)


def configurations() -> list[triton.Config]:
    """16 to 64 scores per thread; the loads are gathers, which no pipeline covers."""
    if knobs.runtime.interpret:
        return [triton.Config({"TILE": 1 << 12, "STAGES": 1})]
    shapes = [(2048, 4), (4096, 4), (8192, 4), (4096, 8), (8192, 8)]
    return [triton.Config({"TILE": tile, "STAGES": 1}, num_warps=warps) for tile, warps in shapes]


def fitting(configs: list[triton.Config], named: object, **constants: int) -> list[triton.Config]:
    """Configurations of at least one cell and two label columns that leave registers free."""
    if knobs.runtime.interpret:
        return configs
    slots = constants["SLOTS"]
    room = {1: 16, 2: 32, 4: 64, 8: 64}[slots]  # scores per thread, beside their corners
    if constants["WANTED"] & tiles.GROUP_MEANS and slots > 1:
        room //= 2
    least = max(2, slots) * constants["BLOCK_C"]
    return [c for c in configs if least <= c.kwargs["TILE"] <= room * 32 * c.num_warps]


tuned_upsample_average = triton.autotune(
    configurations(),
    key=["CLASSES", "KIND_SET", "SLOTS", "WANTED"],
    prune_configs_by={"early_config_prune": fitting},
)(upsample_average_kernel)


def upsample(call: Upsampling) -> Fused:
    """As `fusion.kernels.upsample_softmax_average`, on a GPU.

    ValueError beyond 1024 classes. Extra device memory: tables, and with resize="probabilities" at
    most 32 MiB of native sums, or those of one label row where they are larger. Independent
    channels: triton_channels.py.
    """
    if call.channels:
        return triton_channels.upsample(call.used())
    tiles.block_classes(call.classes)
    made = call.allocate()
    if call.shape[0] * call.shape[1] == 0:
        return made
    maps = [Map(z, 0, (z.shape[1], z.shape[2])) for z in call.logits]
    sums, weighting = tiles.sums(call), tiles.weighting(call)
    if call.resize == "logits":
        launch(maps, tiles.terms(call, sums, weighting, call.multipliers), call, call.rows, made)
        return made
    needed = [shape for members in sums for shape in {maps[m].shape for m, _ in members}]
    for band in bands(call, sum(4 * call.classes * h * w for h, w in needed)):
        native_maps, over_maps = native_sums(maps, sums, call, band)
        added = replace(call.over_maps(len(native_maps)), logits=tuple(z for z, *_ in native_maps))
        launch(
            native_maps,
            tiles.terms(added, over_maps, weighting, call.multipliers),
            call,
            band,
            made,
        )
    return made


def launch(
    maps: Sequence[Map], terms: tiles.Terms, call: Upsampling, band: Pair, made: Fused
) -> None:
    """Fills label rows `band` of `made`, which holds call.rows."""
    resolutions = tuple(dict.fromkeys(shape for *_, shape in maps))
    steps, slots = geometry(resolutions, call.size, call.device)
    cells, height, block = len(steps.column), band[1] - band[0], tiles.block_classes(call.classes)
    addresses = []
    for z, first, shape in (maps[m] for m in terms.order):
        origin = z.data_ptr() - first * z.stride(1) * z.element_size()  # as if all rows existed
        addresses.append([origin, *z.stride(), resolutions.index(shape)])

    def grid(meta: dict[str, int]) -> tuple[int]:
        return (triton.cdiv(cells, meta["TILE"] // block // slots) * height,)

    tuned_upsample_average[grid](
        *(terms.models(addresses, call.device), steps, tiles.Outputs(**vars(made))),
        *(len(terms.bounds), cells, *call.size, band[0], *call.rows),
        SLOTS=slots,
        **terms.constants(call),
    )


def native_sums(
    maps: Sequence[Map], sums: tiles.Sums, call: Upsampling, band: Pair
) -> tuple[list[Map], tiles.Sums]:
    """For every sum and resolution a map of probabilities that rows `band` need; sums over them."""
    made: list[Map] = []
    over_maps: tiles.Sums = [[] for _ in sums]
    for members, over in zip(sums, over_maps, strict=True):
        for shape in dict.fromkeys(maps[m].shape for m, _ in members):
            same = {m: weight for m, weight in members if maps[m].shape == shape}
            upper, lower, _ = bilinear_steps(shape[0], call.size[0])
            first, last = int(upper[band[0]]), int(lower[band[1] - 1])
            cut = tuple(call.logits[m][:, first : last + 1] for m in same)
            changes = {"weights": tuple(same.values()), "outputs": ("probabilities",)}
            part = call.native().subset([[m] for m in same], logits=cut, **changes)
            mean = native.average(part).probabilities
            assert mean is not None
            over.append((len(made), sum(same.values())))
            made.append(Map(mean, first, shape))
    return made, over_maps
