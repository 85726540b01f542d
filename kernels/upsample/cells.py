"""Which native pixels every label pixel is interpolated from: tables for the Triton kernels, and
the steps that read them.

R native resolutions [h, w], label size [H, W]. A cell is a run of label columns that lie between
the same two native columns at every resolution, at most SLOTS long; a strip is such a run of label
rows, at most ROWS. All label pixels where a cell and a strip meet share four corners, which one
thread loads and decodes once, and the horizontal steps at their upper and lower edge.

-inf counts as -1e30 while interpolating, and a native pixel of nothing but -inf as NaN; each
channel's infinities as +-1e30.
"""

# tuples grow as a kernel unrolls
# mypy: disable-error-code="assignment,var-annotated"
from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from fusion.kernels import tables
from fusion.kernels.arithmetic import NO_SCORE, bilinear_steps
from fusion.kernels.call import Pair, Upsampling
from fusion.kernels.tables import kept
from fusion.kernels.tiles import Pointer

BAND_BYTES = 256 << 20  # native sums that exist at a time with resize="probabilities"
FAR_BELOW = tl.constexpr(NO_SCORE)
COLUMNS = tl.constexpr(6)  # of the table of addresses: strides of class, frame, row, column;
RESOLUTION = tl.constexpr(5)  # and the resolution
LENGTHS = (1, 2, 4)  # of cells and strips
CELL_COST = 24  # loading four corners costs about as much as 24 operations of a label pixel


class Cells(NamedTuple):
    """Tables of interpolation, on a launch's device."""

    side: Pointer  # int32 [R, cells, 2]: left and right native column
    x_share: Pointer  # float32 [R, cells, SLOTS, 2]: of the left and the right column
    column: Pointer  # int32 [cells, 2]: first label column, and how many
    edge: Pointer  # int32 [R, strips, 2]: upper and lower native row
    y_share: Pointer  # float32 [R, strips, ROWS, 2]: of the upper and the lower row
    line: Pointer  # int32 [strips, 2]: first label row, and how many


@dataclass(frozen=True)
class Geometry:
    """The tables, and what a launch has to know of them."""

    steps: Cells
    rows: int
    slots: int
    first_lines: tuple[int, ...]

    @property
    def cells(self) -> int:
        return len(self.steps.column)

    @property
    def strips(self) -> int:
        return len(self.first_lines)

    def strips_of(self, band: Pair) -> Pair:
        """First strip, and one past the last, of which label rows lie in a band."""
        last = bisect.bisect_left(self.first_lines, band[1])
        return bisect.bisect_right(self.first_lines, band[0]) - 1, last


class Map(NamedTuple):
    """What a launch interpolates: values [C, T, ., w], native rows first.. of a map [h, w]."""

    values: Tensor
    first: int
    shape: Pair

    def address(self, resolutions: Sequence[Pair]) -> list[int]:
        """Its line of the table of addresses: as if all rows existed."""
        origin = self.first * self.values.stride(2) * self.values.element_size()
        place = self.values.data_ptr() - origin
        return [place, *self.values.stride(), resolutions.index(self.shape)]


def of_frames(values: Tensor) -> Tensor:
    """[C, h, w], or [C, T, h, w], as the latter."""
    return values if values.ndim == 4 else values.unsqueeze(1)


class Axis(NamedTuple):
    """Runs of label columns or rows: what their tables hold."""

    neighbours: Tensor  # int32 [R, runs, 2]
    share: Tensor  # float32 [R, runs, length, 2]: 1 - f and f
    runs: Tensor  # int32 [runs, 2]


def in_runs(corners: Sequence[Any], most: int) -> list[list[int]]:
    """Label columns or rows in runs of equal neighbours, at most `most` long."""
    runs: list[list[int]] = []
    for x, corner in enumerate(corners):
        if runs and len(runs[-1]) < most and corners[runs[-1][0]] == corner:
            runs[-1].append(x)
        else:
            runs.append([x])
    return runs


def axis(sources: Sequence[int], target: int, same: Sequence[bool], length: int) -> Axis:
    """The axis whose neighbours and fractions are those of `bilinear_steps`.

    A map that already has the label's size reads no neighbours, so that a NaN stays where it is.
    """
    steps = [bilinear_steps(source, target) for source in sources]
    sides = [
        torch.stack([left, left if identity else right], dim=1)
        for (left, right, _), identity in zip(steps, same, strict=True)
    ]
    runs = in_runs(torch.cat(sides, dim=1).tolist(), length)
    first = torch.tensor([run[0] for run in runs])
    place = (first[:, None] + torch.arange(length)).clamp(max=target - 1)
    f = torch.stack([fraction[place] for *_, fraction in steps])
    return Axis(
        torch.stack([side[first] for side in sides]).to(torch.int32),
        torch.stack([1.0 - f, f], dim=-1),
        torch.tensor([[run[0], len(run)] for run in runs], dtype=torch.int32),
    )


@kept(64)
def geometry(
    shapes: tuple[Pair, ...], size: Pair, device: torch.device, most: int, slots: int
) -> Geometry:
    """The tables with the ROWS and SLOTS that make all cells together cheapest.

    most: label pixels that a thread has room for. slots: the longest cell.
    """
    same = [shape == size for shape in shapes]
    down = {n: axis([h for h, _ in shapes], size[0], same, n) for n in LENGTHS}
    across = {n: axis([w for _, w in shapes], size[1], same, n) for n in LENGTHS if n <= slots}

    def cost(pair: Pair) -> int:
        rows, columns = pair
        of_cell = CELL_COST + columns * 6 + rows * columns * 6
        return len(down[rows].runs) * len(across[columns].runs) * of_cell

    fitting = [pair for pair in itertools.product(down, across) if pair[0] * pair[1] <= most]
    rows, columns = min(fitting, key=cost)
    lines = down[rows].runs[:, 0].tolist()
    steps = Cells(*(t.contiguous().to(device) for t in (*across[columns], *down[rows])))
    return Geometry(steps, rows, columns, tuple(lines))


def bands(call: Upsampling, native_bytes: int) -> list[Pair]:
    """Label rows in bands whose native sums, `native_bytes` for all rows, keep to the budget."""
    height = max(1, call.size[0] * BAND_BYTES // max(native_bytes, 1))
    first, last = call.rows
    return [(y, min(y + height, last)) for y in range(first, last, height)]


def on_device(device: torch.device, *given: Any) -> Iterator[Tensor | None]:
    """int64 and float32 arrays on a device in one copy, each at an address that 16 divides."""
    pad = [b"" if t is None else t.tobytes() + bytes(-t.nbytes % 16) for t in given]
    packed = torch.frombuffer(bytearray(b"".join(pad)), dtype=torch.uint8)
    parts = tables.moved(packed, device).split([len(some) for some in pad])
    for array, part in zip(given, parts, strict=True):
        if array is None:
            yield None
        else:
            whole = array.dtype == np.int64
            yield part[: array.nbytes].view(torch.int64 if whole else torch.float32)


@triton.jit
def corner_offsets(
    entry: tl.tensor,  # the map's line of the table of addresses
    frame: tl.tensor,
    strip: tl.tensor,  # [N]
    cell: tl.tensor,  # [N]
    steps: Cells,
    cells: tl.tensor,
    strips: tl.tensor,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """int64 [N], in elements: upper left and right, lower left and right corner of class 0."""
    r = tl.load(entry + RESOLUTION)
    stride_x, stride_y = tl.load(entry + 4), tl.load(entry + 3)
    side = steps.side + (r * cells + cell) * 2
    edge = steps.edge + (r * strips + strip) * 2
    left, right = tl.load(side) * stride_x, tl.load(side + 1) * stride_x
    start = frame * tl.load(entry + 2)
    upper, lower = tl.load(edge) * stride_y + start, tl.load(edge + 1) * stride_y + start
    # none is negative; the compiler, who must not know, keeps a pointer a corner, not its terms
    return (
        tl.maximum(upper + left, 0),
        tl.maximum(upper + right, 0),
        tl.maximum(lower + left, 0),
        tl.maximum(lower + right, 0),
    )


@triton.jit
def shares(
    entry: tl.tensor,  # the map's line of the table of addresses
    columns: tl.tuple,  # of the cell's label pixels, [N]: position within the cell
    rows: tl.tuple,  # and within the strip
    strip: tl.tensor,  # [N]
    cell: tl.tensor,  # [N]
    steps: Cells,
    cells: tl.tensor,
    strips: tl.tensor,
    SLOTS: tl.constexpr,
    ROWS: tl.constexpr,
) -> tuple[tl.tuple, tl.tuple]:
    """1 - f and f [N] of every column, and of every row."""
    r = tl.load(entry + RESOLUTION)
    across = ()
    for s in tl.static_range(SLOTS):
        place = steps.x_share + ((r * cells + cell) * SLOTS + columns[s]) * 2
        across = across + (tl.load(place), tl.load(place + 1))
    down = ()
    for s in tl.static_range(ROWS):
        place = steps.y_share + ((r * strips + strip) * ROWS + rows[s]) * 2
        down = down + (tl.load(place), tl.load(place + 1))
    return across, down


@triton.jit
def blended(
    a: tl.tensor, b: tl.tensor, c: tl.tensor, d: tl.tensor, across: tl.tuple, down: tl.tuple
) -> tl.tuple:
    """The values of a cell's label pixels, column by column, from its corners."""
    values = ()
    for s in tl.static_range(0, len(across), 2):
        top = a * across[s] + b * across[s + 1]
        bottom = c * across[s] + d * across[s + 1]
        for r in tl.static_range(0, len(down), 2):
            values = values + (top * down[r] + bottom * down[r + 1],)
    return values


@triton.jit
def positions(
    strip: tl.tensor,  # [N]
    cell: tl.tensor,  # [N]
    steps: Cells,
    start: tl.tensor,  # label rows that the launch fills: the first,
    stop: tl.tensor,  # and one past the last
    SLOTS: tl.constexpr,
    ROWS: tl.constexpr,
) -> tuple[tl.tuple, tl.tuple]:
    """Which label pixels a thread makes: positions [N] within its cell, and within its strip.

    Where there are fewer, a position occurs twice: the same value is written twice, and neither
    loads nor stores need a mask.
    """
    columns = ()
    most = tl.load(steps.column + cell * 2 + 1) - 1
    for s in tl.static_range(SLOTS):
        columns = columns + (tl.minimum(most, s),)
    rows = ()
    first = tl.load(steps.line + strip * 2)
    most = tl.minimum(tl.load(steps.line + strip * 2 + 1), stop - first) - 1
    for s in tl.static_range(ROWS):
        rows = rows + (tl.minimum(tl.maximum(start - first, s), most),)
    return columns, rows


@triton.jit
def places(
    columns: tl.tuple,
    rows: tl.tuple,
    frame: tl.tensor,
    strip: tl.tensor,  # [N]
    cell: tl.tensor,  # [N]
    steps: Cells,
    width: tl.tensor,  # W
    top: tl.tensor,  # label rows that the outputs hold: the first,
    last: tl.tensor,  # and one past the last
) -> tuple[tl.tuple, tl.tuple]:
    """Columns [N], and int64 [N] where rows begin in the outputs."""
    x = tl.load(steps.column + cell * 2)
    y = tl.load(steps.line + strip * 2) - top
    xs = ()
    for s in tl.static_range(len(columns)):
        xs = xs + (x + columns[s],)
    ys = ()
    for s in tl.static_range(len(rows)):
        ys = ys + ((tl.cast(frame, tl.int64) * (last - top) + y + rows[s]) * width,)
    return xs, ys
