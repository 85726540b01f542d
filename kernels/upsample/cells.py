"""Which native pixels every label pixel is interpolated from, as tables for the Triton kernel.

R native resolutions [h, w], label size [H, W]. A cell is a run of label columns that lie between
the same two native columns at every resolution, at most SLOTS long.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fusion.kernels.arithmetic import bilinear_steps
from fusion.kernels.call import Pair
from fusion.kernels.tiles import Pointer

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


@functools.lru_cache(maxsize=64)
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
