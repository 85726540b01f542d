"""Memory whose ends are seen: arrays that touch a page nobody may use, amid bytes that stay.

with guarded() as place:
    array = place(values)   # the same numbers, a forbidden page right behind them
    ...                     # what the kernels allocate meanwhile lies so too
                            # at the end: every byte beside an array is what it was
"""

from __future__ import annotations

import ctypes
import math
import mmap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch

from fusion.kernels.confusion import cpu as confusion
from fusion.kernels.contested import cpu as contested
from fusion.kernels.native import build
from fusion.kernels.resized import cpu as resized
from fusion.kernels.sweep import cpu as sweep

PAGE, CANARY, PROT_NONE = mmap.PAGESIZE, 0xA5, 0
ALLOCATING = (confusion, contested, resized, sweep)  # by NumPy; the others by torch.empty
LIBC = ctypes.CDLL(None, use_errno=True)
NOTHING_RESERVED = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)


class Place:
    """Copies arrays to guarded memory, and knows which functions of the library were called."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library, self._margins, self.called = library, [], set()

    def __getattr__(self, name: str) -> Any:
        """The library's function: callers take this object for it."""
        self.called.add(name)
        return getattr(self._library, name)

    def __call__(self, array: np.ndarray, *, first: bool = False, odd: int = 0) -> np.ndarray:
        """The numbers right before a forbidden page, or right behind one; `odd` bytes aside."""
        made = self.room(array.shape, array.dtype, first=first, odd=odd)
        made[...] = array
        return made

    def room(self, shape: Any, dtype: Any, *, first: bool = False, odd: int = 0) -> np.ndarray:
        """Guarded memory for an array, full of canaries."""
        shape, dtype = (shape,) if isinstance(shape, int) else tuple(shape), np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        length = -(-(size + odd) // PAGE) * PAGE or PAGE
        memory = mmap.mmap(-1, length + 2 * PAGE)
        whole = np.frombuffer(memory, np.uint8)
        body = whole[PAGE : PAGE + length]
        body[:] = CANARY
        for start in (0, PAGE + length):
            forbid(whole.ctypes.data + start)
        begin = odd if first else length - size - odd
        self._margins += [body[:begin], body[begin + size :]]
        return body[begin : begin + size].view(dtype).reshape(shape)

    def check(self) -> None:
        """AssertionError where a byte beside an array was written."""
        assert all((margin == CANARY).all() for margin in self._margins)

    def tensor(self, z: torch.Tensor, **how: Any) -> torch.Tensor:
        """As a call, of a tensor of any dtype and strides; those of the result are plain."""
        plain = {2: torch.int16}.get(z.element_size(), z.dtype)
        return torch.from_numpy(self(z.contiguous().view(plain).numpy(), **how)).view(z.dtype)


def forbid(address: int) -> None:
    """Nobody may read or write the page."""
    done = LIBC.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), PROT_NONE)
    assert done == 0, ctypes.get_errno()


class GuardedNumpy:
    """NumPy, but for what makes arrays that C writes to."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: Any, dtype: Any = np.float64) -> np.ndarray:
        return self._place.room(shape, dtype)

    def empty_like(self, array: np.ndarray) -> np.ndarray:
        return self._place.room(array.shape, array.dtype)

    def zeros(self, shape: Any, dtype: Any = np.float64) -> np.ndarray:
        made = self._place.room(shape, dtype)
        made[...] = 0
        return made


@contextmanager
def guarded() -> Iterator[Place]:
    """What the kernels allocate lies in guarded memory; none is written beside at the end."""
    library = build.library()
    assert library is not None
    place = Place(library)

    def empty(*shape: Any, dtype: torch.dtype = torch.float32, device: Any = "cpu") -> torch.Tensor:
        shape = shape[0] if isinstance(shape[0], tuple | torch.Size) else shape
        size = torch.tensor([], dtype=dtype).element_size()
        room = place.room(shape, {1: np.uint8, 2: np.int16, 4: np.int32, 8: np.int64}[size])
        return torch.from_numpy(room).view(dtype)

    with ExitStack() as patches:
        patches.enter_context(mock.patch.object(build, "library", return_value=place))
        patches.enter_context(mock.patch.object(torch, "empty", empty))
        for module in ALLOCATING:
            patches.enter_context(mock.patch.object(module, "np", GuardedNumpy(place)))
        yield place
    place.check()


def sparse(size: int, dtype: Any) -> np.ndarray:
    """An array of which only those pages exist that somebody touches."""
    memory = mmap.mmap(-1, size * np.dtype(dtype).itemsize, flags=NOTHING_RESERVED)
    return np.frombuffer(memory, dtype)
