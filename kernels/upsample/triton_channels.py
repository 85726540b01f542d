"""The average of independent channels at label resolution on a GPU, bit for bit naive.py's.

M models, G groups, C channels, [h, w] native and [H, W] label pixels. One program holds
[CELLS * SLOTS] sums of one label row of one channel and interpolates every map as triton.py does.

    resize="logits"          the sigmoid of the interpolated logits of every model
    resize="probabilities"   average/triton_channels.py makes the group means at native size, one
                             per resolution, band by band of rows; this kernel interpolates those
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import triton
import triton.language as tl
from triton import knobs

from fusion.kernels import channel_tiles, tiles
from fusion.kernels.arithmetic import Fused, bilinear_steps
from fusion.kernels.average import triton_channels as native
from fusion.kernels.call import Call, Pair, Upsampling
from fusion.kernels.numbers import ANGLE_TABLE
from fusion.kernels.upsample.cells import COLUMNS, Cells, Map, bands, geometry, interpolated

ANGLES = torch.from_numpy(ANGLE_TABLE)


@triton.jit
def add_interpolated(
    g: tl.tensor,
    tables: channel_tiles.Tables,
    steps: Cells,
    y: tl.tensor,
    channel: tl.tensor,
    cell: tl.tensor,  # [CELLS]
    cells: tl.tensor,
    height: tl.tensor,
    CELLS: tl.constexpr,
    SLOTS: tl.constexpr,
    KIND_SET: tl.constexpr,
    STAGES: tl.constexpr,
) -> tl.tensor:
    """The sum of a group's probabilities [CELLS * SLOTS], in the order of its list."""
    sums = tl.zeros([CELLS * SLOTS], tl.float32)
    row = channel + tl.arange(0, 1).to(tl.int64)
    real = row[:, None, None] >= 0
    for s in range(tl.load(tables.segments + g), tl.load(tables.segments + g + 1)):
        for KIND in tl.static_range(0, tiles.KIND_COUNT):
            if (KIND_SET >> KIND) & 1:
                bounds = tables.bounds + s * (tiles.KIND_COUNT + 1) + KIND
                for m in tl.range(tl.load(bounds), tl.load(bounds + 1), num_stages=STAGES):
                    z = interpolated(
                        tables.address + m * COLUMNS, y, cell, row, real, steps, cells, height,
                        tables.decoded, KIND, 1, CELLS, SLOTS,
                    )  # fmt: skip
                    z = tl.reshape(z, [CELLS * SLOTS])
                    if KIND < tiles.PLAIN:
                        z = channel_tiles.sigmoid32(z, tl.load(tables.scale + m))
                    sums += z
    return sums


@triton.jit
def channel_upsample_kernel(
    tables: channel_tiles.Tables,  # of native pixel (0, 0), strides (elements), resolution r
    steps: Cells,
    outputs: tiles.Outputs,
    groups: tl.tensor,  # G
    channels: tl.tensor,  # C
    cells: tl.tensor,
    height: tl.tensor,  # H
    width: tl.tensor,  # W
    first: tl.tensor,  # label row of the first program
    stop: tl.tensor,  # label row after the last program's
    top: tl.tensor,  # label row of the outputs' first row
    last: tl.tensor,  # label row after the outputs' last
    TILE: tl.constexpr,  # sums held by a program, CELLS * SLOTS
    SLOTS: tl.constexpr,
    KIND_SET: tl.constexpr,  # bit k: some model is of kind k
    WANTED: tl.constexpr,  # mask of the outputs: what runs is tuned for them
    STAGES: tl.constexpr,
) -> None:
    CELLS: tl.constexpr = TILE // SLOTS
    blocks = tl.cdiv(cells, CELLS)  # adjacent programs share native rows
    line = tl.program_id(0) // blocks
    y = first + line % (stop - first)
    channel = tl.cast(line // (stop - first), tl.int64)
    cell = (tl.program_id(0) % blocks) * CELLS + tl.arange(0, CELLS)
    slot = cell[:, None] * SLOTS + tl.arange(0, SLOTS)[None, :]
    column = tl.load(steps.column + slot, mask=(cell < cells)[:, None], other=-1)
    column = tl.reshape(column, [CELLS * SLOTS])
    inside = column >= 0
    pixel = (channel * (last - top) + (y - top)) * width + column
    pixels = tl.cast(channels, tl.int64) * (last - top) * width
    scores = tl.zeros([CELLS * SLOTS], tl.float32)
    opposites = tl.zeros([CELLS * SLOTS], tl.float32)
    for g in range(0, groups):
        sums = add_interpolated(
            g, tables, steps, y, channel, cell, cells, height, CELLS, SLOTS, KIND_SET, STAGES
        )
        scores, opposites = channel_tiles.close_group(
            scores, opposites, sums, g, pixel, inside, pixels, tables, outputs
        )
    channel += tl.zeros([CELLS * SLOTS], tl.int64)
    channel_tiles.store_outputs(scores, opposites, channel, pixel, inside, tables, outputs)


def configurations() -> list[triton.Config]:
    """2 to 8 label pixels per thread; the loads are gathers, which no pipeline covers."""
    if knobs.runtime.interpret:
        return [triton.Config({"TILE": 1 << 8, "STAGES": 1})]
    return [triton.Config({"TILE": b, "STAGES": 1}, num_warps=4) for b in (256, 512, 1024)]


def fitting(configs: list[triton.Config], named: object, **constants: int) -> list[triton.Config]:
    """The smallest alone where many kinds of value take the registers."""
    return configs if constants["KIND_SET"].bit_count() == 1 else configs[:1]


tuned_channel_upsample = triton.autotune(
    configurations(),
    key=["KIND_SET", "SLOTS", "WANTED"],
    prune_configs_by={"early_config_prune": fitting},
)(channel_upsample_kernel)


def upsample(call: Upsampling) -> Fused:
    """As `fusion.kernels.upsample_softmax_average` of channels, on a GPU.

    Extra device memory: tables, and with resize="probabilities" at most 32 MiB of group means, or
    those of one label row where they are larger.
    """
    made = call.allocate()
    if call.shape[0] * call.shape[1] == 0:
        return made
    if call.resize == "logits":
        maps = [Map(z, 0, (z.shape[1], z.shape[2])) for z in call.logits]
        launch(maps, call.native(), None, call, call.rows, made)
        return made
    needed = [shape for group in call.groups for shape in _resolutions(call, group)]
    for band in bands(call, sum(4 * call.classes * h * w for h, w in needed)):
        maps, groups = native_means(call, band)
        values = ("probabilities",) * len(maps)
        parts = replace(
            call.native(),
            logits=tuple(part.values for part in maps),
            groups=groups,
            temperatures=(1.0,) * len(maps),
            values=values,
        )
        launch(maps, parts, [1] * len(groups), call, band, made)
    return made


def launch(
    maps: Sequence[Map],
    average: Call,
    sizes: Sequence[int] | None,
    call: Upsampling,
    band: Pair,
    made: Fused,
) -> None:
    """Fills label rows `band` of `made`, which holds call.rows, with the average of the maps."""
    resolutions = tuple(dict.fromkeys(shape for *_, shape in maps))
    steps, slots = geometry(resolutions, call.size, call.device)
    cells, lines = len(steps.column), (band[1] - band[0]) * call.classes
    addresses = []
    for z, first, shape in maps:
        origin = z.data_ptr() - first * z.stride(1) * z.element_size()  # as if all rows existed
        addresses.append([origin, *z.stride(), resolutions.index(shape)])
    tables, kind_set = channel_tiles.tables(average, addresses, sizes, [ANGLES] * len(maps))
    tuned_channel_upsample[lambda meta: (triton.cdiv(cells, meta["TILE"] // slots) * lines,)](
        *(tables, steps, tiles.Outputs(**vars(made))),
        *(len(average.groups), call.classes, cells, *call.size, *band, *call.rows),
        SLOTS=slots,
        KIND_SET=kind_set,
        WANTED=tiles.mask(call.outputs),
        **tiles.compiler_options(holds_tile=True),
    )


def native_means(call: Upsampling, band: Pair) -> tuple[list[Map], tuple[tuple[int, ...], ...]]:
    """The parts of all groups' means that rows `band` need, one per resolution; groups of them."""
    made: list[Map] = []
    groups: list[list[int]] = [[] for _ in call.groups]
    parts: dict[tuple[int, Pair], Map] = {}
    for shape in dict.fromkeys(s for group in call.groups for s in _resolutions(call, group)):
        chosen = [g for g, group in enumerate(call.groups) if shape in _resolutions(call, group)]
        members = [[m for m in call.groups[g] if _shape(call, m) == shape] for g in chosen]
        upper, lower, _ = bilinear_steps(shape[0], call.size[0])
        first, last = int(upper[band[0]]), int(lower[band[1] - 1])
        cut = tuple(call.logits[m][:, first : last + 1] for some in members for m in some)
        changes = {"weights": (1.0,) * len(chosen), "outputs": ("group_means",)}
        sizes = [len(call.groups[g]) for g in chosen]
        means = native.average(call.native().subset(members, logits=cut, **changes), sizes)
        assert means.group_means is not None
        for g, mean in zip(chosen, means.group_means, strict=True):
            parts[g, shape] = Map(mean, first, shape)
    for g, group in enumerate(call.groups):
        for shape in _resolutions(call, group):
            groups[g].append(len(made))
            made.append(parts[g, shape])
    return made, tuple(map(tuple, groups))


def _shape(call: Upsampling, m: int) -> Pair:
    return call.logits[m].shape[1], call.logits[m].shape[2]


def _resolutions(call: Upsampling, group: Sequence[int]) -> list[Pair]:
    """Native sizes of a group's models, as they appear in it."""
    return list(dict.fromkeys(_shape(call, m) for m in group))
