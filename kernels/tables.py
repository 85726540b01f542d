"""Small tables of launches, on the device once: an ensemble's launches repeat, and so do theirs.

Addresses, strides, factors and steps are the same for every frame that lies where one lay before.
A table is found by what it holds, so nobody keeps track of when one is stale: other numbers are
another table. Whoever replays recorded launches (prepared.py) holds on to the tables in them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

MOST_TABLES = 2048  # of a few hundred bytes to a few kilobytes each

Aside = Callable[[], AbstractContextManager[Any]]
_HELD: ContextVar[list[Any] | None] = ContextVar("_HELD", default=None)
_ASIDE: ContextVar[Aside] = ContextVar("_ASIDE", default=nullcontext)
_DTYPES: dict[torch.dtype, Any] = {torch.int64: np.int64, torch.float32: np.float32}
Made = TypeVar("Made")


def table(numbers: Sequence[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Numbers, nested alike, as a tensor on a device; equal ones are one tensor, never written to.

    Args:
        numbers: integers or floats.
        dtype: int64 or float32.
        device: where.
    """
    array = np.array(numbers, dtype=_DTYPES[dtype])
    return _table(array.tobytes(), array.shape, dtype, device)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A small tensor in host memory as one on a device; equal ones are one, never written to."""
    array = tensor.contiguous().numpy()
    return _table(array.tobytes(), array.shape, tensor.dtype, device)


@contextmanager
def held(aside: Aside = nullcontext) -> Iterator[list[Any]]:
    """A list of all the tables that are asked for meanwhile, which keeps them where they are.

    Args:
        aside: within what a table is copied to its device that is not there yet.
    """
    found: list[Any] = []
    tokens = _HELD.set(found), _ASIDE.set(aside)
    try:
        yield found
    finally:
        _HELD.reset(tokens[0])
        _ASIDE.reset(tokens[1])


def kept(most: int) -> Callable[[Callable[..., Made]], Callable[..., Made]]:
    """Decorates what makes tables from arguments that are alike: the last `most` are kept."""

    def decorate(make: Callable[..., Made]) -> Callable[..., Made]:
        made = functools.lru_cache(most)(make)

        @functools.wraps(make)
        def found(*arguments: Any) -> Made:
            result = made(*arguments)
            holder = _HELD.get()
            if holder is not None:
                holder.append(result)
            return result

        return found

    return decorate


@kept(MOST_TABLES)
def _table(
    content: bytes, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    if not content:
        return torch.zeros(shape, dtype=dtype, device=device)
    array = torch.frombuffer(bytearray(content), dtype=dtype).view(shape)
    with _ASIDE.get()():
        return array.to(device)
