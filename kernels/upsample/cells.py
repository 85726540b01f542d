"""Which native pixels every label pixel is interpolated from: tables for the Triton kernels, and
the step that reads them.

R native resolutions [h, w], label size [H, W]. A cell is a run of label columns that lie between
the same two native columns at every resolution, at most SLOTS long. -inf counts as -1e30 while
interpolating, and a native pixel of nothing but -inf as NaN; each channel's infinities as +-1e30.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from fusion.kernels import tiles
from fusion.kernels.arithmetic import NO_SCORE, bilinear_steps
from fusion.kernels.call import Pair, Upsampling
from fusion.kernels.tables import kept
from fusion.kernels.tiles import Pointer

BAND_BYTES = 32 << 20  # native sums that exist at a time with resize="probabilities"
FAR_BELOW = tl.constexpr(NO_SCORE)
COLUMNS = tl.constexpr(5)  # of the table of addresses: strides of class, row, column; resolution
CELL_COST = 6  # loading a cell's corners costs about as much as interpolating this many columns


class Cells(NamedTuple):
    """Tables of interpolation, on a launch's device."""

    corner: Pointer  # int64 [R, cells, 2]: left and right native column
    x_fraction: Pointer  # float32 [R, cells, SLOTS]
    column: Pointer  # int64 [cells, SLOTS]: label column, -1 where the slot is empty
    row: Pointer  # int64 [R, H, 2]: upper and lower native row
    y_fraction: Pointer  # float32 [R, H]


def axis_steps(source: int, target: int, identity: bool) -> tuple[Tensor, Tensor]:
    """Neighbours [target, 2] and fractions [target] of `bilinear_steps`.

    A map that already has the label's size reads no neighbours, so that a NaN stays where it is.
    """
    left, right, fraction = bilinear_steps(source, target)
    return torch.stack([left, left if identity else right], dim=1), fraction


def in_cells(corners: Sequence[list[int]], slots: int) -> list[list[int]]:
    """Label columns in runs of equal corners, at most `slots` long."""
    cells: list[list[int]] = []
    for x, corner in enumerate(corners):
        if cells and len(cells[-1]) < slots and corners[cells[-1][0]] == corner:
            cells[-1].append(x)
        else:
            cells.append([x])
    return cells


@kept(64)
def geometry(shapes: tuple[Pair, ...], size: Pair, device: torch.device) -> tuple[Cells, int]:
    """The tables, and SLOTS: the number of columns that makes cells cheapest."""
    columns = [axis_steps(w, size[1], (h, w) == size) for h, w in shapes]
    rows = [axis_steps(h, size[0], (h, w) == size) for h, w in shapes]
    corners = torch.cat([sides for sides, _ in columns], dim=1).tolist()
    layouts = {slots: in_cells(corners, slots) for slots in (1, 2, 4, 8)}
    slots = min(layouts, key=lambda s: len(layouts[s]) * (CELL_COST + s))
    column = torch.tensor([cell + [-1] * (slots - len(cell)) for cell in layouts[slots]])
    tables = (
        torch.stack([sides[column[:, 0]] for sides, _ in columns]),
        torch.stack([fraction[column.clamp(min=0)] for _, fraction in columns]),
        column,
        torch.stack([sides for sides, _ in rows]),
        torch.stack([fraction for _, fraction in rows]),
    )
    return Cells(*(table.contiguous().to(device) for table in tables)), slots


class Map(NamedTuple):
    """What a launch interpolates: values [C, ., w] that are native rows first.. of a map [h, w]."""

    values: Tensor
    first: int
    shape: Pair


def bands(call: Upsampling, native_bytes: int) -> list[Pair]:
    """Label rows in bands whose native sums, `native_bytes` for all rows, keep to the budget."""
    height = max(1, call.size[0] * BAND_BYTES // max(native_bytes, 1))
    first, last = call.rows
    return [(y, min(y + height, last)) for y in range(first, last, height)]


@triton.jit
def finite_corners(
    a: tl.tensor, b: tl.tensor, c: tl.tensor, d: tl.tensor, real: tl.tensor
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Corners [BLOCK_C, CELLS, 1] with -inf made finite, NaN where a pixel is -inf in all classes.

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
def channel_logits(z: tl.tensor, angles: tl.tensor, KIND: tl.constexpr) -> tl.tensor:
    """Corners of channels: codes decoded, infinities made finite."""
    if KIND == tiles.CODES:
        return tl.load(angles + z.to(tl.int32))
    infinity = float("inf")
    return tl.where(z == infinity, -FAR_BELOW, tl.where(z == -infinity, FAR_BELOW, z))


@triton.jit
def interpolated(
    entry: tl.tensor,  # the model's line of the table of addresses
    y: tl.tensor,
    cell: tl.tensor,  # [CELLS]
    row: tl.tensor,  # [BLOCK_C] int64, classes
    real: tl.tensor,  # [BLOCK_C, 1, 1] whether the row is a class, not padding
    steps: Cells,
    cells: tl.tensor,
    height: tl.tensor,
    angles: tl.tensor,  # [256] decoded angle codes; None where classes are no channels
    KIND: tl.constexpr,
    BLOCK_C: tl.constexpr,
    CELLS: tl.constexpr,
    SLOTS: tl.constexpr,
) -> tl.tensor:
    """One model's values [BLOCK_C, CELLS * SLOTS] at label row y."""
    base = tiles.typed_pointer(tl.load(entry), KIND, 1)
    r = tl.load(entry + 4)
    present = cell < cells
    mask = real & present[None, :, None]
    place = r * cells + cell
    stride_x = tl.load(entry + 3)
    left = (tl.load(steps.corner + place * 2, mask=present, other=0) * stride_x)[None, :, None]
    right = (tl.load(steps.corner + place * 2 + 1, mask=present, other=0) * stride_x)[None, :, None]
    slot = place[:, None] * SLOTS + tl.arange(0, SLOTS)[None, :]
    fx = tl.load(steps.x_fraction + slot, mask=present[:, None], other=0.0)[None, :, :]
    upper = tl.load(steps.row + (r * height + y) * 2) * tl.load(entry + 2)
    lower = tl.load(steps.row + (r * height + y) * 2 + 1) * tl.load(entry + 2)
    fy = tl.load(steps.y_fraction + r * height + y)
    rows = base + (row * tl.load(entry + 1))[:, None, None]
    a = tl.load(rows + (upper + left), mask=mask, other=0.0).to(tl.float32)
    b = tl.load(rows + (upper + right), mask=mask, other=0.0).to(tl.float32)
    c = tl.load(rows + (lower + left), mask=mask, other=0.0).to(tl.float32)
    d = tl.load(rows + (lower + right), mask=mask, other=0.0).to(tl.float32)
    if angles is not None and KIND < tiles.PLAIN:
        a, b = channel_logits(a, angles, KIND), channel_logits(b, angles, KIND)
        c, d = channel_logits(c, angles, KIND), channel_logits(d, angles, KIND)
    elif KIND == tiles.CODES:
        a, b, c, d = -a * a, -b * b, -c * c, -d * d
    elif KIND < tiles.PLAIN:
        a, b, c, d = finite_corners(a, b, c, d, real)
    top = a * (1.0 - fx) + b * fx
    bottom = c * (1.0 - fx) + d * fx
    return tl.reshape(top * (1.0 - fy) + bottom * fy, [BLOCK_C, CELLS * SLOTS])
