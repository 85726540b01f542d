"""The average on the CPU: tiles of pixels through average.c, bit for bit what naive.py returns.

M models, G groups, C classes, P pixels. Entropy alone is close instead of equal: its logarithms and
their order of summation are the C library's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from fusion.kernels.arithmetic import Fused, decode_gaps, exp32, normalised
from fusion.kernels.average.naive import reciprocal
from fusion.kernels.call import Call
from fusion.kernels.native import build
from fusion.kernels.native.bindings import Average
from fusion.kernels.native.pool import run_ranges
from fusion.kernels.numbers import DECODE_TABLE, void_label

SPAN = 64  # as in average.c
TILE_BYTES = 640 * 1024  # scores, sums and raw logits of a tile: most of a 1 MB second-level cache
MOST_PIXELS = 2048  # of a tile


def average(call: Call) -> Fused:
    """As `fusion.kernels.softmax_average`, on CPU tensors."""
    return accumulate(call.used())


def accumulate(call: Call, sizes: Sequence[int] | None = None) -> Fused:
    """The average over groups that count as of `sizes` models; default: as many as they have."""
    library = build.library()
    assert library is not None
    maps = _as_lines(call.logits)
    classes, outer, inner = maps[0].shape
    made = call.allocate()
    sizes = [len(group) for group in call.groups] if sizes is None else sizes
    arrays = {
        "data": _integers([m.data_ptr() for m in maps]),
        "class_stride": _integers([m.stride(0) for m in maps]),
        "outer_stride": _integers([m.stride(1) for m in maps]),
        "kind": _integers(call.kinds),
        "scale": 1.0 / _floats(call.temperatures),
        "exponentials": torch.stack([_exponentials(t) for t in call.temperatures]),
        "members": _integers([m for group in call.groups for m in group]),
        "group_end": _integers([len(group) for group in call.groups]).cumsum(0),
        "share": 1.0 / _floats(sizes),
        "weight": _floats(normalised(call.weights)),
    }
    if call.multipliers is not None:
        arrays["multipliers"] = _floats(call.multipliers)
    addresses = {name: array.data_ptr() for name, array in (arrays | made.asked()).items()}
    tile = min(MOST_PIXELS, max(SPAN, TILE_BYTES // (10 * classes) // SPAN * SPAN))
    extents = (len(maps), len(call.groups), classes, outer * inner, inner, tile)
    given = Average(*extents, **addresses, gaps=DECODE_TABLE.ctypes.data)
    given.ignore, given.finishes = void_label(classes), set(call.outputs) != {"group_means"}

    def task(start: int, stop: int) -> None:
        for line in range(start // inner, -(-stop // inner)):
            span = max(start - line * inner, 0), min(stop - line * inner, inner)
            if not library.fusion_average(ctypes.byref(given), line, *span):
                size = f"{tile} pixels x {classes} classes x {len(maps)} models"
                raise MemoryError(f"softmax_average: no room for a tile of {size}")

    run_ranges(task, outer * inner, tile)
    return made


def _as_lines(logits: Sequence[Tensor]) -> list[Tensor]:
    """Models as [C, outer, inner] with adjacent inner pixels.

    One line where memory allows, else a line for each of the first pixel axis (frames); copies at
    worst.
    """
    flat = [_view(z, 1) for z in logits]
    whole = logits[0].ndim < 3 or all(view is not None for view in flat)
    outer = 1 if whole else logits[0].shape[1]
    views = ((z, _view(z, outer)) for z in logits)
    return [
        z.contiguous().view(z.shape[0], outer, -1) if view is None else view for z, view in views
    ]


def _view(z: Tensor, outer: int) -> Tensor | None:
    """[C, ...] as [C, outer, inner] with adjacent inner pixels and no copy, or None."""
    try:
        view = z.view(z.shape[0], outer, -1)
    except RuntimeError:
        return None
    return view if view.stride(2) == 1 or view.shape[2] == 1 else None


@cache
def _exponentials(temperature: float) -> Tensor:
    """[256] float32: exp of every gap code at this temperature, for pixels whose top has code 0."""
    gaps = decode_gaps(torch.arange(256, dtype=torch.uint8))
    return exp32((gaps - gaps[0]) * reciprocal(temperature, gaps.device))


def _floats(numbers: Sequence[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32)


def _integers(numbers: Sequence[int]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int64)
