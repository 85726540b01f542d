"""Which native pixels every label pixel is interpolated from, as tables for the upsampling kernel.

R native resolutions [h, w], label size [H, W]. A cell is a run of label columns that lie between the same two native columns at every
resolution, at most SLOTS long.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from fusion.kernels.arithmetic import bilinear_steps

CELL_COST = (
    6  # loading a cell's corners costs about as much as interpolating this many of its columns
)
Shape = tuple[int, int]


def axis_steps(source: int, target: int, identity: bool) -> tuple[list[int], list[int], Tensor]:
    """`reference.bilinear_steps`; a map that already has the label's size reads no neighbours, so that a NaN stays where it is."""
    left, right, fraction = bilinear_steps(source, target)
    return left.tolist(), (left if identity else right).tolist(), fraction


def cells_of(corners: Sequence[tuple[int, ...]], slots: int) -> list[list[int]]:
    """Label columns in runs of equal corners, at most `slots` long."""
    cells: list[list[int]] = []
    for x, corner in enumerate(corners):
        if cells and len(cells[-1]) < slots and corners[cells[-1][0]] == corner:
            cells[-1].append(x)
        else:
            cells.append([x])
    return cells


@functools.lru_cache(maxsize=64)
def geometry(
    shapes: tuple[Shape, ...], size: Shape, device: torch.device
) -> tuple[tuple[Tensor, ...], int]:
    """The five tables of interpolation, in the order in which the kernel takes them, and SLOTS."""
    columns = [axis_steps(w, size[1], (h, w) == size) for h, w in shapes]
    rows = [axis_steps(h, size[0], (h, w) == size) for h, w in shapes]
    corners = list(
        zip(*(side for left, right, _ in columns for side in (left, right)), strict=True)
    )
    layouts = {slots: cells_of(corners, slots) for slots in (1, 2, 4, 8)}
    slots = min(layouts, key=lambda s: len(layouts[s]) * (CELL_COST + s))
    column = torch.tensor([cell + [-1] * (slots - len(cell)) for cell in layouts[slots]])
    leftmost = column[:, 0]
    sides = torch.stack([torch.tensor([left, right])[:, leftmost].T for left, right, _ in columns])
    x_fractions = torch.stack([fraction[column.clamp(min=0)] for _, _, fraction in columns])
    pairs = torch.stack([torch.tensor([upper, lower]).T for upper, lower, _ in rows])
    y_fractions = torch.stack([fraction for _, _, fraction in rows])
    return tuple(
        table.contiguous().to(device) for table in (sides, x_fractions, column, pairs, y_fractions)
    ), slots
