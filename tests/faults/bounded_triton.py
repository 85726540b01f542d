"""Triton's interpreter with bounds: a lane that is not masked off must lie in a tensor whose
address was asked for since `pointers_checked` began, all of its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from triton.runtime import interpreter


class Spans:
    """Where tensors lie. launched: names of the kernels that ran meanwhile."""

    def __init__(self) -> None:
        self._spans: set[tuple[int, int]] = set()
        self._merged: np.ndarray | None = None
        self.launched: set[str] = set()
        self.lanes = 0

    def add(self, tensor: torch.Tensor, address: int) -> None:
        if tensor.numel():
            pairs = zip(tensor.shape, tensor.stride(), strict=True)
            reach = 1 + sum((length - 1) * stride for length, stride in pairs)
            self._spans.add((address, address + reach * tensor.element_size()))
            self._merged = None

    def forget(self) -> None:
        """As at the beginning."""
        self._spans.clear()
        self._merged = None

    def check(self, what: str, pointers: Any, mask: np.ndarray | None) -> None:
        """AssertionError that names the first lane outside."""
        width = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        places = np.asarray(pointers.data).astype(np.int64)
        if mask is not None:
            places = places[np.broadcast_to(np.asarray(mask).astype(bool), places.shape)]
        self.lanes += places.size
        if self._merged is None:
            self._merged = merged(self._spans)
        starts, ends = self._merged
        which = np.searchsorted(starts, places, side="right") - 1
        outside = (which < 0) | (places + width > ends[np.maximum(which, 0)])
        assert not outside.any(), f"{what} of {width} bytes outside all tensors: {places[outside]}"


def merged(spans: set[tuple[int, int]]) -> np.ndarray:
    """[2, n]: starts and ends of the memory that spans cover; what only touches stays apart."""
    made: list[list[int]] = [[-2, -1]]
    for start, end in sorted(spans):
        if start < made[-1][1]:
            made[-1][1] = max(made[-1][1], end)
        else:
            made.append([start, end])
    return np.array(made, np.int64).T


@contextmanager
def pointers_checked() -> Iterator[Spans]:
    """Every load, store and atomic of interpreted kernels is checked."""
    spans, builder = Spans(), interpreter.InterpreterBuilder
    address, call = torch.Tensor.data_ptr, interpreter.GridExecutor.__call__
    kept = (builder.create_masked_load, builder.create_masked_store, builder.create_atomic_rmw)
    load, store, add = kept

    def data_ptr(tensor: torch.Tensor) -> int:
        found = address(tensor)
        spans.add(tensor, found)
        return found

    def launch(executor: Any, *arguments: Any, **options: Any) -> None:
        spans.launched.add(executor.fn.__name__)
        call(executor, *arguments, **options)

    def checked_load(self: Any, pointers: Any, mask: Any, *rest: Any) -> Any:
        spans.check("load", pointers, mask.data)
        return load(self, pointers, mask, *rest)

    def checked_store(self: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        spans.check("store", pointers, mask.data)
        return store(self, pointers, value, mask, *rest)

    def checked_add(self: Any, kind: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
        spans.check("atomic", pointers, mask.data)
        return add(self, kind, pointers, value, mask, *rest)

    with ExitStack() as patches:
        for owner, name, replacement in (
            (torch.Tensor, "data_ptr", data_ptr),
            (interpreter.GridExecutor, "__call__", launch),
            (builder, "create_masked_load", checked_load),
            (builder, "create_masked_store", checked_store),
            (builder, "create_atomic_rmw", checked_add),
        ):
            patches.enter_context(mock.patch.object(owner, name, replacement))
        yield spans
