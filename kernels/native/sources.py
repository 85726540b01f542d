"""The maps of a call as the compiled loops read them (struct sources of softmax.h), and the walk
over their pixels. M models, C classes, P pixels.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from fusion.kernels.arithmetic import decode_gaps, exp32, sigmoid32
from fusion.kernels.call import Maps
from fusion.kernels.native.bindings import Sources
from fusion.kernels.native.pool import run_ranges
from fusion.kernels.numbers import ANGLE_TABLE, DECODE_TABLE

SPAN = 64  # as in softmax.h
TILE_BYTES = 640 * 1024  # what a tile holds of its pixels: most of a 1 MB second-level cache
MOST_PIXELS = 2048  # of a tile


@dataclass(frozen=True)
class Lines:
    """struct: what `kept` holds, for C. Pixels lie in `outer` lines of `inner`.

    Independent channels are one class, their lines one after another, all in one where memory
    allows: what is the same to every channel knows nothing of them.
    """

    struct: Sources
    kept: tuple[Tensor, ...]
    classes: int
    outer: int
    inner: int

    @classmethod
    def of(cls, call: Maps, *, channels: bool = False) -> Lines:
        maps = _as_lines(call.logits)
        if channels and all(m.is_contiguous() for m in maps):
            maps = [m.view(1, 1, -1) for m in maps]
        count, outer, inner = maps[0].shape
        classes, lines = (1, count * outer) if channels else (count, outer)
        table = _probabilities if channels else _exponentials
        arrays = {
            "data": integers([m.data_ptr() for m in maps]),
            "class_stride": integers([m.stride(0) for m in maps]),
            "outer_stride": integers([m.stride(1) for m in maps]),
            "kind": integers(call.kinds),
            "scale": 1.0 / floats(call.temperatures),
            "exponentials": torch.stack([table(t) for t in call.temperatures]),
        }
        addresses = {name: array.data_ptr() for name, array in arrays.items()}
        gaps = DECODE_TABLE.ctypes.data
        struct = Sources(len(maps), classes, outer, inner, **addresses, gaps=gaps)
        return cls(struct, (*maps, *arrays.values()), classes, lines, inner)

    @property
    def address(self) -> int:
        return ctypes.addressof(self.struct)

    @property
    def pixels(self) -> int:
        return self.outer * self.inner

    @property
    def tile(self) -> int:
        """Pixels of a tile with 10 bytes a class: scores, sums and raw values."""
        return min(MOST_PIXELS, max(SPAN, TILE_BYTES // (10 * self.classes) // SPAN * SPAN))

    def run(self, step: Callable[[int, int, int], int], operation: str) -> None:
        """step(line, start, stop) over all pixels, in threads; MemoryError where it returns 0."""

        def task(start: int, stop: int) -> None:
            for line in range(start // self.inner, -(-stop // self.inner)):
                begin = line * self.inner
                if not step(line, max(start - begin, 0), min(stop - begin, self.inner)):
                    size = f"{self.tile} pixels x {self.classes} classes"
                    raise MemoryError(f"{operation}: no room for a tile of {size}")

        run_ranges(task, self.pixels, self.tile)


def scaled_gaps(temperature: float) -> Tensor:
    """[256] float32: (z - top) * (1 / T) of every gap code, where the top has code 0."""
    gaps = decode_gaps(torch.arange(256, dtype=torch.uint8))
    return (gaps - gaps[0]) * (1.0 / floats([temperature]))


def floats(numbers: Sequence[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32)


def integers(numbers: Sequence[int]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.int64)


@cache
def _exponentials(temperature: float) -> Tensor:
    """[256] float32: exp of every gap code at this temperature, for pixels whose top has code 0."""
    return exp32(scaled_gaps(temperature))


@cache
def _probabilities(temperature: float) -> Tensor:
    """[256] float32: sigmoid of every angle code at this temperature."""
    return sigmoid32(torch.from_numpy(ANGLE_TABLE), temperature)


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
