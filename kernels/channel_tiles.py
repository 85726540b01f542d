"""What the Triton kernels of independent channels share, bit for bit what naive.py computes.

M models, G groups, C channels, P pixels of all channels. The order of a group's list is kept: its
models lie in segments, one after another, in which kinds of value ascend. Models of one kind, which
is the rule, are one segment. Division and all else round to nearest, as `fp_fusion` is off.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from fusion.kernels import tables as device_tables
from fusion.kernels import tiles
from fusion.kernels.arithmetic import CEPHES, CEPHES_FIRST, normalised
from fusion.kernels.call import Call
from fusion.kernels.tiles import Pointer

PAD = 16  # bytes that divide the address of every table, so that launches are compiled alike
FIRST = tl.constexpr(CEPHES_FIRST)
SECOND, THIRD, FOURTH, FIFTH, LAST = (tl.constexpr(number) for number in CEPHES)


class Tables(NamedTuple):
    """Tables of a launch, on its device; models in the order of the groups."""

    address: Pointer  # int64 [M, 5]: address, and what the kernel needs to find a pixel
    codes: Pointer  # int64 [M]: where in `decoded` a model's codes are decoded
    bounds: Pointer  # int64 [S, 9]: models of kind k in segment s: [s, k] .. [s, k + 1] - 1
    segments: Pointer  # int64 [G + 1]: segments of group g: [g] .. [g + 1] - 1
    scale: Pointer  # float32 [M]: 1 / T
    group: Pointer  # float32 [G, 2]: 1 / n_g, w_g
    decoded: Pointer  # float32 [., 256]: what angle codes mean
    multiplier: Pointer  # float32 [C, 2], which labels are decided with, or None


@triton.jit
def exp32(x: tl.tensor) -> tl.tensor:
    """`fusion.kernels.arithmetic.exp32`; adding 1.5 * 2^23 rounds to the nearest integer, ties to
    even, and leaves it in the low bits."""
    shifted = x * 1.44269504088896341 + 12582912.0
    n = shifted - 12582912.0
    f = x - n * 0.693359375
    f = f - n * -2.12194440e-4
    y = tl.zeros_like(f) + FIRST
    y = y * f + SECOND
    y = y * f + THIRD
    y = y * f + FOURTH
    y = y * f + FIFTH
    y = y * f + LAST
    y = y * (f * f) + f + 1.0
    power = (shifted.to(tl.int32, bitcast=True) << 23) + 0x3F800000
    return tl.where(x < -87.0, 0.0, y * power.to(tl.float32, bitcast=True))


@triton.jit
def sigmoid32(z: tl.tensor, scale: tl.tensor) -> tl.tensor:
    """p_mc of float32 logits."""
    e = exp32(-tl.abs(z * scale))
    r = tl.div_rn(tl.full(e.shape, 1.0, tl.float32), 1.0 + e)
    return tl.where(z >= 0.0, r, e * r)


@triton.jit
def close_group(
    scores: tl.tensor,  # [N] F of the groups before
    opposites: tl.tensor,  # [N] N of the groups before
    sums: tl.tensor,  # [N] this group's sum
    g: tl.tensor,
    pixel: tl.tensor,  # [N] int64, index into the outputs
    inside: tl.tensor,  # [N] whether the pixel exists
    pixels: tl.tensor,  # P
    tables: Tables,
    outputs: tiles.Outputs,
) -> tuple[tl.tensor, tl.tensor]:
    """Stores a group's mean where asked; F and N with it. A group of weight 0 does not count."""
    mean = sums * tl.load(tables.group + g * 2)
    if outputs.group_means is not None:
        place = tl.cast(g, tl.int64) * pixels + pixel
        tl.store(outputs.group_means + place, mean, mask=inside)
    weight = tl.load(tables.group + g * 2 + 1)
    scores = tl.where(weight > 0, scores + mean * weight, scores)
    opposites = tl.where(weight > 0, opposites + (1.0 - mean) * weight, opposites)
    return scores, opposites


@triton.jit
def store_outputs(
    scores: tl.tensor,  # [N]
    opposites: tl.tensor,  # [N]
    channel: tl.tensor,  # [N]
    pixel: tl.tensor,  # [N] int64, index into the outputs
    inside: tl.tensor,  # [N]
    tables: Tables,
    outputs: tiles.Outputs,
) -> None:
    if outputs.probabilities is not None:
        tl.store(outputs.probabilities + pixel, scores, mask=inside)
    if outputs.labels is not None:
        above = scores > opposites
        if tables.multiplier is not None:
            place = tables.multiplier + channel * 2
            no = tl.load(place, mask=inside, other=1.0)
            yes = tl.load(place + 1, mask=inside, other=1.0)
            above = scores * yes > opposites * no
        label = tl.where(scores != scores, tiles.NARROW, tl.where(above, 1, 0))
        tl.store(outputs.labels + pixel, label.to(tl.uint8), mask=inside)


def segments(kinds: Sequence[int]) -> list[list[int]]:
    """Positions cut where the kind falls, and in every cut first those of kind 0, of kind 1, ..."""
    cuts = [0, *(k for k in range(1, len(kinds)) if kinds[k] < kinds[k - 1]), len(kinds)]
    made = []
    for start, stop in itertools.pairwise(cuts):
        before = [
            sum(k < kind for k in kinds[start:stop]) for kind in range(tiles.KIND_COUNT.value)
        ]
        made.append([start + count for count in (*before, stop - start)])
    return made


def tables(
    call: Call,
    addresses: Sequence[Sequence[int]],
    sizes: Sequence[int] | None,
    decoded: Sequence[Tensor],
) -> tuple[Tables, int]:
    """The tables of a launch over the call's groups, and the set of kinds that occur.

    Args:
        addresses: [M, 5] of the call's models.
        sizes: of how many models groups count; default: as many as they have.
        decoded: [256] for every model, what its angle codes mean.
    """
    order = [m for group in call.groups for m in group]
    bounds, first, count = [], [0], 0
    for group in call.groups:
        made = segments([call.kinds[m] for m in group])
        bounds += [count + k for segment in made for k in segment]
        first.append(first[-1] + len(made))
        count += len(group)
    distinct = {id(table): table for table in decoded}
    places = {key: 256 * k for k, key in enumerate(distinct)}
    shares = 1.0 / torch.tensor(sizes or [len(group) for group in call.groups], dtype=torch.float32)
    weights = torch.tensor(normalised(call.weights), dtype=torch.float32)
    scales = 1.0 / torch.tensor(call.temperatures, dtype=torch.float32)
    whole = [
        [number for m in order for number in addresses[m]],
        *([places[id(decoded[m])] for m in order], bounds, first),
    ]
    real = [scales[order], torch.stack([shares, weights], dim=1), torch.stack([*distinct.values()])]
    real += [] if call.multipliers is None else [torch.tensor(call.multipliers)]
    pointers: list[Any] = _on_device([torch.tensor(x) for x in whole], call.device)
    pointers += _on_device(real, call.device) + [None] * (call.multipliers is None)
    return Tables(*pointers), sum({1 << kind for kind in call.kinds})


def _on_device(arrays: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Flat arrays of one dtype, moved in one copy."""
    step = PAD // arrays[0].element_size()
    padded = [torch.nn.functional.pad(x.flatten(), (0, -x.numel() % step)) for x in arrays]
    whole = device_tables.moved(torch.cat(padded), device)
    return list(whole.split([len(x) for x in padded]))
