"""From stored values to codes, pixel by pixel: tables for 8- and 16-bit ids, runs for all else.

N pixels in any shape. Neighbouring pixels of a mask are mostly equal, so that colours and wide ids
are looked up once a run of equal ones, not once a pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError

Array = NDArray[np.integer]
Colour = tuple[int, int, int]
Value = int | Colour  # as stored: an id, or red, green, blue
LARGEST_TABLE = 1 << 16
LARGEST_ID = (1 << 63) - 1  # of whole numbers in masks


class Lookup:
    """Values -> codes, a table of them.

    Args:
        codes: of the values that have one.
        other: the code of all other values.
        dtype: of codes: uint8 or uint16.
    """

    def __init__(self, codes: Mapping[int, int], other: int, dtype: type[np.integer]) -> None:
        self.keys = np.array(sorted(codes), np.int64)
        self.codes = np.array([codes[key] for key in self.keys.tolist()], dtype)
        self.other = dtype(other)
        self.table = np.full(LARGEST_TABLE, other, dtype)
        small = (self.keys >= 0) & (self.keys < LARGEST_TABLE)
        self.table[self.keys[small]] = self.codes[small]

    def __call__(self, values: Array) -> Array:
        """Codes of integers of any width, in their shape."""
        if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
            return np.take(self.table, values)
        if not len(self.keys):
            return np.full(values.shape, self.other)
        starts, lengths = runs(values.ravel())
        places = np.searchsorted(self.keys, starts.astype(np.int64))
        places[places == len(self.keys)] = 0
        codes = np.where(self.keys[places] == starts, self.codes[places], self.other)
        return np.repeat(codes, lengths).reshape(values.shape)


def runs(values: Array) -> tuple[Array, Array]:
    """The first of each run of equal values [R], and the runs' lengths [R]; values [N]."""
    if not values.size:
        return values, np.empty(0, np.int64)
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    starts = np.concatenate([np.zeros(1, np.int64), changes])
    return values[starts], np.diff(np.append(starts, values.size))


def packed(colours: Array) -> NDArray[np.uint32]:
    """uint32 [H, W] of red << 16 | green << 8 | blue, from uint8 [H, W, 3]."""
    red, green, blue = (colours[..., channel] for channel in range(3))
    high = red.astype(np.uint32) << 16
    return np.asarray(high | (green.astype(np.uint32) << 8) | blue, np.uint32)


def pack(value: Value) -> int:
    """An id as it is, a colour as `packed` has it."""
    return value if isinstance(value, int) else value[0] << 16 | value[1] << 8 | value[2]


def unpack(value: int) -> Colour:
    """The colour (red, green, blue) of a packed one."""
    return value >> 16, value >> 8 & 255, value & 255


def counted(values: Array) -> dict[Value, int]:
    """Pixels by value, rising; meant for few pixels or long runs."""
    firsts, lengths = runs(values.ravel())
    kinds, places = np.unique(firsts, return_inverse=True)
    pixels = np.bincount(places.ravel(), weights=lengths, minlength=len(kinds))
    return dict(zip(kinds.tolist(), pixels.astype(np.int64).tolist(), strict=True))


def as_values(given: object, what: str, *, colours: bool) -> tuple[Value, ...]:
    """One id or colour, or a list of them, as a tuple; InputError for anything else."""
    several = isinstance(given, (list, tuple))
    single = several and colours and bool(given) and all(type(n) is int for n in given)  # type: ignore[attr-defined]
    listed: Sequence[object] = given if several and not single else [given]  # type: ignore[assignment]
    return tuple(_value(each, what, colours=colours) for each in listed)


def one_colour(given: object, what: str) -> Colour:
    """A colour [red, green, blue]; InputError for anything else."""
    found = as_values(given, what, colours=True)
    if len(found) != 1 or isinstance(found[0], int):
        raise InputError(f"{what}: got {given!r:.40}; give one colour, [red, green, blue]")
    return found[0]


def _value(given: object, what: str, *, colours: bool) -> Value:
    if not colours and type(given) is int and -LARGEST_ID <= given <= LARGEST_ID:
        return given
    if colours and isinstance(given, (list, tuple)) and len(given) == 3:
        red, green, blue = given
        if all(type(n) is int and 0 <= n <= 255 for n in (red, green, blue)):
            return red, green, blue
    form = "colours as [red, green, blue], each 0..255" if colours else "ids as whole numbers"
    raise InputError(f"{what}: got {given!r:.40}; give {form}")
