"""Images read in windows that overlap, their outputs blended by Gaussians.

Positions and weights are those of tiles in a store (`fusion.stores.tiles`), which are those of
MONAI's `sliding_window_inference`. Windows begin at multiples of the network's stride, so that the
outputs of all lie on one grid: positions are MONAI's, counted in strides.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fusion.errors import InputError
from fusion.stores.tiles import tile_positions, window_of

# of the Gaussian, as a share of the window's side (Isensee et al., nnU-Net, 2021)
DEVIATION = 1 / 8


def blended(
    read: Callable[[Tensor], Tensor], images: Tensor, window: int, overlap: float, stride: int
) -> Tensor:
    """Outputs [N, C, h, w] of whole images from those of their windows.

    Args:
        read: images [N, 3, a, b] to outputs [N, C, ...] on a grid that covers them.
        images: [N, 3, H, W], sides multiples of `stride`.
        window: side in pixels; images that are smaller are seen whole.
        overlap: share of it that a window has in common with the next, at least.
        stride: of the network.

    Raises:
        InputError: a window that is no multiple of `stride`, or outputs that lie on no one grid.
    """
    check_window(window, stride)
    sides = images.shape[-2:]
    size = [min(window, side) for side in sides]
    total = weights = part = torch.zeros(())
    whole, tile = ([side // stride for side in some] for some in (sides, size))
    for row, column in tile_positions(whole, tile, overlap):
        start = row * stride, column * stride
        bottom, right = (a + n for a, n in zip(start, size, strict=True))
        outputs = read(images[..., start[0] : bottom, start[1] : right])
        cells = outputs.shape[-2:]
        if not part.ndim:
            grid = [_cells(*each) for each in zip(sides, cells, size, strict=True)]
            part = torch.from_numpy(window_of("gaussian", DEVIATION)(tuple(cells)))
            part = part.to(outputs.device)
            total, weights = outputs.new_zeros((*outputs.shape[:2], *grid)), part.new_zeros(grid)
        top, left = (_cells(*each) for each in zip(start, cells, size, strict=True))
        place = (..., slice(top, top + cells[0]), slice(left, left + cells[1]))
        total[place] += outputs * part
        weights[place] += part
    return total / weights


def check_window(window: int, stride: int) -> None:
    """InputError: a window that is no multiple of the network's stride."""
    if window % stride:
        near = max(1, round(window / stride)) * stride
        raise InputError(f"window: got {window}; give a multiple of {stride}, such as {near}")


def _cells(pixels: int, cells: int, window: int) -> int:
    """Outputs over so many pixels, of which a window has `cells`."""
    count, rest = divmod(pixels * cells, window)
    if rest:
        got = f"{window} pixels have {cells} outputs a side, and {pixels} no whole number of them"
        raise InputError(f"window: {got}; predict without windows")
    return count
