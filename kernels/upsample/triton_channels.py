"""The average of independent channels at label resolution on a GPU, bit for bit naive.py's.

M models, G groups, C channels, T frames, [h, w] native and [H, W] label pixels. One thread holds
the sums of the ROWS x SLOTS label pixels between four native ones of one channel, and interpolates
every map as triton_maps.py does.

    resize="logits"          the sigmoid of the interpolated logits of every model
    resize="probabilities"   average/triton_channels.py makes the group means at native size, one
                             per resolution, band by band of rows; this kernel interpolates those
"""

# tuples grow as a kernel unrolls
# mypy: disable-error-code="assignment,var-annotated"
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import triton
import triton.language as tl
from triton import knobs

from fusion.kernels import channel_tiles, tiles
from fusion.kernels.arithmetic import NO_SCORE, Fused, bilinear_steps
from fusion.kernels.average import triton_channels as native
from fusion.kernels.call import Call, Pair, Upsampling
from fusion.kernels.numbers import ANGLE_TABLE
from fusion.kernels.upsample.cells import (
    COLUMNS,
    LENGTHS,
    Cells,
    Map,
    bands,
    blended,
    corner_offsets,
    geometry,
    of_frames,
    places,
    positions,
    shares,
)

MOST = 8  # label pixels of a thread
ANGLES = torch.from_numpy(ANGLE_TABLE)
FAR_BELOW = tl.constexpr(NO_SCORE)


@triton.jit
def finite(z: tl.tensor, angles: tl.tensor, KIND: tl.constexpr) -> tl.tensor:
    """Values of channels as float32: codes decoded, infinities made finite."""
    if KIND == tiles.CODES:
        return tl.load(angles + z.to(tl.int32))
    z = z.to(tl.float32)
    if KIND < tiles.PLAIN:
        infinity = float("inf")
        z = tl.where(z == infinity, -FAR_BELOW, tl.where(z == -infinity, FAR_BELOW, z))
    return z


@triton.jit
def add_interpolated(
    g: tl.tensor,
    tables: channel_tiles.Tables,
    columns: tl.tuple,
    rows: tl.tuple,
    frame: tl.tensor,  # [PLANES, 1] int64
    channel: tl.tensor,  # [PLANES, 1] int64
    strip: tl.tensor,  # [1, N]
    cell: tl.tensor,  # [1, N]
    steps: Cells,
    cells: tl.tensor,
    strips: tl.tensor,
    zero: tl.tensor,  # [PLANES, N]
    SLOTS: tl.constexpr,
    ROWS: tl.constexpr,
    KIND_SET: tl.constexpr,
) -> tl.tuple:
    """The sums of a group's probabilities, each [PLANES, N], in the order of its list."""
    sums = ()
    for _ in tl.static_range(SLOTS * ROWS):
        sums = sums + (zero,)
    for s in range(tl.load(tables.segments + g), tl.load(tables.segments + g + 1)):
        for KIND in tl.static_range(0, tiles.KIND_COUNT):
            if (KIND_SET >> KIND) & 1:
                bounds = tables.bounds + s * (tiles.KIND_COUNT + 1) + KIND
                for m in range(tl.load(bounds), tl.load(bounds + 1)):
                    entry = tables.address + m * COLUMNS
                    base = tiles.typed_pointer(tl.load(entry), KIND, 1)
                    base += channel * tl.load(entry + 1)
                    o = corner_offsets(entry, frame, strip, cell, steps, cells, strips)
                    across, down = shares(
                        entry, columns, rows, strip, cell, steps, cells, strips, SLOTS, ROWS
                    )
                    a = finite(tl.load(base + o[0]), tables.decoded, KIND)
                    b = finite(tl.load(base + o[1]), tables.decoded, KIND)
                    c = finite(tl.load(base + o[2]), tables.decoded, KIND)
                    d = finite(tl.load(base + o[3]), tables.decoded, KIND)
                    values = blended(a, b, c, d, across, down)
                    more = ()
                    for k in tl.static_range(SLOTS * ROWS):
                        z = values[k]
                        if KIND < tiles.PLAIN:
                            z = channel_tiles.sigmoid32(z, tl.load(tables.scale + m))
                        more = more + (sums[k] + z,)
                    sums = more
    return sums


@triton.jit
def channel_upsample_kernel(
    tables: channel_tiles.Tables,  # of native pixel (0, 0), strides (elements), resolution r
    steps: Cells,
    outputs: tiles.Outputs,
    groups: tl.tensor,  # G
    channels: tl.tensor,  # C
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
    PLANES: tl.constexpr,  # channels and frames of a program: one on a GPU
    BLOCK_P: tl.constexpr,  # cells of a program
    ROWS: tl.constexpr,
    SLOTS: tl.constexpr,
    KIND_SET: tl.constexpr,  # bit k: some model is of kind k
) -> None:
    blocks = tl.cdiv((end - first) * cells, BLOCK_P)
    plane = (tl.program_id(0) // blocks).to(tl.int64) * PLANES + tl.arange(0, PLANES)[:, None]
    plane = tl.minimum(plane, tl.cast(channels, tl.int64) * frames - 1)
    channel, frame = plane // frames, plane % frames
    n = (tl.program_id(0) % blocks) * BLOCK_P + tl.arange(0, BLOCK_P)[None, :]
    n = tl.minimum(n, (end - first) * cells - 1)
    strip, cell = first + n // cells, n % cells
    columns, rows = positions(strip, cell, steps, start, stop, SLOTS, ROWS)
    xs, ys = places(columns, rows, plane, strip, cell, steps, width, top, last)
    pixels = tl.cast(channels, tl.int64) * frames * (last - top) * width
    zero = tl.zeros([PLANES, BLOCK_P], tl.float32)
    scores, opposites = (), ()
    for _ in tl.static_range(SLOTS * ROWS):
        scores = scores + (zero,)
        opposites = opposites + (zero,)
    for g in range(0, groups):
        sums = add_interpolated(
            g, tables, columns, rows, frame, channel, strip, cell, steps, cells, strips,
            zero, SLOTS, ROWS, KIND_SET,
        )  # fmt: skip
        fused, against = (), ()
        for k in tl.static_range(SLOTS * ROWS):
            pixel = ys[k % ROWS] + xs[k // ROWS]
            score, opposite = channel_tiles.close_group(
                scores[k], opposites[k], sums[k], g, pixel, pixel >= 0, pixels, tables, outputs
            )
            fused, against = fused + (score,), against + (opposite,)
        scores, opposites = fused, against
    channel += tl.zeros([PLANES, BLOCK_P], tl.int64)
    for k in tl.static_range(SLOTS * ROWS):
        pixel = ys[k % ROWS] + xs[k // ROWS]
        channel_tiles.store_outputs(
            scores[k], opposites[k], channel, pixel, pixel >= 0, tables, outputs
        )


def configurations() -> list[triton.Config]:
    """One: a thread's work is fixed by the geometry."""
    planes, block = (64, 64) if knobs.runtime.interpret else (1, 128)
    return [triton.Config({"PLANES": planes, "BLOCK_P": block}, num_warps=4, num_stages=1)]


def upsample(call: Upsampling) -> Fused:
    """As `fusion.kernels.upsample_softmax_average` of channels, on a GPU.

    Extra device memory: tables, and with resize="probabilities" at most 256 MiB of group means, or
    those of one label row where they are larger.
    """
    made = call.allocate()
    if 0 in call.shape:
        return made
    if call.resize == "logits":
        maps = [Map(of_frames(z), 0, (z.shape[-2], z.shape[-1])) for z in call.logits]
        launch(maps, call.native(), None, call, call.rows, made)
        return made
    needed = [shape for group in call.groups for shape in _resolutions(call, group)]
    frames = call.frames or 1
    for band in bands(call, sum(4 * call.classes * frames * h * w for h, w in needed)):
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
    resolutions = tuple(dict.fromkeys(part.shape for part in maps))
    how = geometry(resolutions, call.size, call.device, MOST, max(LENGTHS))
    first, end = how.strips_of(band)
    addresses = [part.address(resolutions) for part in maps]
    tables, kind_set = channel_tiles.tables(average, addresses, sizes, [ANGLES] * len(maps))
    (config,) = configurations()
    frames = call.frames or 1
    blocks = triton.cdiv((end - first) * how.cells, config.kwargs["BLOCK_P"])
    planes = triton.cdiv(call.classes * frames, config.kwargs["PLANES"])
    channel_upsample_kernel[(blocks * planes,)](
        *(tables, how.steps, tiles.Outputs(**vars(made)), len(average.groups), call.classes),
        *(frames, how.cells, how.strips, first, end, call.size[1], *band, *call.rows),
        ROWS=how.rows,
        SLOTS=how.slots,
        KIND_SET=kind_set,
        **config.all_kwargs(),
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
        cut = tuple(call.logits[m][..., first : last + 1, :] for some in members for m in some)
        changes = {"weights": (1.0,) * len(chosen), "outputs": ("group_means",)}
        sizes = [len(call.groups[g]) for g in chosen]
        means = native.average(call.native().subset(members, logits=cut, **changes), sizes)
        assert means.group_means is not None
        for g, mean in zip(chosen, means.group_means, strict=True):
            parts[g, shape] = Map(of_frames(mean), first, shape)
    for g, group in enumerate(call.groups):
        for shape in _resolutions(call, group):
            groups[g].append(len(made))
            made.append(parts[g, shape])
    return made, tuple(map(tuple, groups))


def _shape(call: Upsampling, m: int) -> Pair:
    return call.logits[m].shape[-2], call.logits[m].shape[-1]


def _resolutions(call: Upsampling, group: Sequence[int]) -> list[Pair]:
    """Native sizes of a group's models, as they appear in it."""
    return list(dict.fromkeys(_shape(call, m) for m in group))
