"""The average of independent channels on a GPU, bit for bit what naive.py returns.

M models, G groups, C channels, P pixels of all channels. No step crosses channels, so the class
axis is one more pixel axis and a program holds [TILE] sums: every value is read once, whatever C
is. Angle codes are looked up in a table of 256 probabilities for each temperature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton import knobs

from fusion.kernels import channel_tiles, tiles
from fusion.kernels.arithmetic import Fused, sigmoid32
from fusion.kernels.call import Call
from fusion.kernels.numbers import ANGLE_TABLE


@triton.jit
def add_members(
    g: tl.tensor,
    tables: channel_tiles.Tables,
    pixel: tl.tensor,  # [TILE] int64
    inside: tl.tensor,  # [TILE] whether the pixel exists
    height: tl.tensor,
    width: tl.tensor,
    TILE: tl.constexpr,
    KIND_SET: tl.constexpr,
    ALIGN: tl.constexpr,
    FLAT: tl.constexpr,
    UNIT: tl.constexpr,
    STAGES: tl.constexpr,
) -> tl.tensor:
    """The sum of a group's probabilities [TILE], in the order of its list."""
    sums = tl.zeros([TILE], tl.float32)
    for s in range(tl.load(tables.segments + g), tl.load(tables.segments + g + 1)):
        for KIND in tl.static_range(0, tiles.KIND_COUNT):
            if (KIND_SET >> KIND) & 1:
                bounds = tables.bounds + s * (tiles.KIND_COUNT + 1) + KIND
                for m in tl.range(tl.load(bounds), tl.load(bounds + 1), num_stages=STAGES):
                    entry = tables.address + m * tiles.COLUMNS
                    start = tiles.first_class(entry, pixel, height, width, KIND, ALIGN, FLAT, UNIT)
                    z = tl.load(start, mask=inside, other=0.0)
                    if KIND == tiles.CODES:
                        decoded = tables.decoded + tl.load(tables.codes + m)
                        z = tl.load(decoded + z.to(tl.int32))
                    elif KIND < tiles.PLAIN:
                        z = channel_tiles.sigmoid32(z.to(tl.float32), tl.load(tables.scale + m))
                    sums += z.to(tl.float32)
    return sums


@triton.jit
def channel_of(first: tl.tensor, plane: tl.tensor, TILE: tl.constexpr) -> tl.tensor:
    """[TILE] int64 channels of the pixels from `first` on; no lane divides 64-bit numbers."""
    channel = first // plane
    within = first - channel * plane + tl.arange(0, TILE)
    # a block reaches into the next channel at most, or channels are small
    small = tl.minimum(plane, TILE).to(tl.int32)
    further = tl.where(plane >= TILE, (within >= plane).to(tl.int32), within.to(tl.int32) // small)
    return channel + further


@triton.jit
def channel_average_kernel(
    tables: channel_tiles.Tables,  # addresses with the strides (elements) of three pixel axes
    outputs: tiles.Outputs,
    groups: tl.tensor,  # G
    pixels: tl.tensor,  # P
    plane: tl.tensor,  # pixels of a channel
    height: tl.tensor,  # of pixel axis 1
    width: tl.tensor,  # of pixel axis 2
    TILE: tl.constexpr,
    KIND_SET: tl.constexpr,  # bit k: some model is of kind k
    ALIGN: tl.constexpr,  # divides P, all strides but those of 1, and all addresses in elements
    FLAT: tl.constexpr,  # the pixels of every model are one contiguous axis
    UNIT: tl.constexpr,  # pixel axis 2 of every model is contiguous
    WANTED: tl.constexpr,  # mask of the outputs: what runs is tuned for them
    STAGES: tl.constexpr,
) -> None:
    pixels = tl.multiple_of(tl.cast(pixels, tl.int64), ALIGN)
    width = tl.multiple_of(tl.cast(width, tl.int64), ALIGN)
    first = tl.program_id(0).to(tl.int64) * TILE
    pixel = first + tl.arange(0, TILE)
    inside = pixel < pixels
    scores = tl.zeros([TILE], tl.float32)
    opposites = tl.zeros([TILE], tl.float32)
    for g in range(0, groups):
        sums = add_members(
            g, tables, pixel, inside, height, width,
            TILE, KIND_SET, ALIGN, FLAT, UNIT, STAGES,
        )  # fmt: skip
        scores, opposites = channel_tiles.close_group(
            scores, opposites, sums, g, pixel, inside, pixels, tables, outputs
        )
    channel = channel_of(first, tl.cast(plane, tl.int64), TILE)
    channel_tiles.store_outputs(scores, opposites, channel, pixel, inside, tables, outputs)


def configurations() -> list[triton.Config]:
    """8 to 32 pixels per thread. Pipelines were dropped: shared memory, a barrier a model and up to
    1.7 times the instructions."""
    if knobs.runtime.interpret:
        return [triton.Config({"TILE": 1 << 12, "STAGES": 1})]
    sizes = (1024, 2048, 4096)
    return [triton.Config({"TILE": t, "STAGES": 1}, num_warps=4) for t in sizes]


def fitting(configs: list[triton.Config], named: object, **constants: int) -> list[triton.Config]:
    """The smallest alone where addresses or many kinds of value take the registers."""
    roomy = constants["FLAT"] and constants["KIND_SET"].bit_count() == 1
    return configs if roomy else configs[:1]


tuned_channel_average = triton.autotune(
    configurations(),
    key=["KIND_SET", "ALIGN", "FLAT", "WANTED"],
    prune_configs_by={"early_config_prune": fitting},
)(channel_average_kernel)


@cache
def probabilities(temperature: float) -> Tensor:
    """[256] float32 of all angle codes."""
    return sigmoid32(torch.from_numpy(ANGLE_TABLE), temperature)


def average(call: Call, sizes: Sequence[int] | None = None) -> Fused:
    """As `fusion.kernels.softmax_average` of channels, on a GPU; any number of them.

    Groups count as of `sizes` models; default: as many as they have. Extra device memory: tables,
    and copies of logits whose channel and pixel axes do not merge to three.
    """
    made, pixels = call.allocate(), call.classes * math.prod(call.shape)
    if pixels == 0:
        return made
    maps = tiles.merged_axes([z.unsqueeze(0) for z in call.logits])
    first, height, width = maps[0].shape[1:]
    unit = all(z.stride(3) == 1 or width == 1 for z in maps)
    addresses = [[z.data_ptr(), *z.stride()] for z in maps]
    decoded = [probabilities(t) for t in call.temperatures]
    tables, kind_set = channel_tiles.tables(call, addresses, sizes, decoded)
    tuned_channel_average[lambda meta: (triton.cdiv(pixels, meta["TILE"]),)](
        *(tables, tiles.Outputs(**vars(made)), len(call.groups)),
        *(pixels, pixels // call.classes, height, width),
        KIND_SET=kind_set,
        ALIGN=tiles.alignment(maps, pixels, width),
        FLAT=unit and first == height == 1,
        UNIT=unit,
        WANTED=tiles.mask(call.outputs),
        **tiles.compiler_options(holds_tile=True),
    )
    return made
