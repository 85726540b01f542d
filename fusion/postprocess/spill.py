"""Frames that wait in a temporary file: memory stays that of one, however long the video."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numcodecs import zstd

from fusion.files import scratch
from fusion.kernels.arithmetic import Fused
from fusion.postprocess.operation import Frame

LEVEL = 1  # of zstd: label maps shrink to a few hundredths at any


class Spill:
    """Frames with label maps, and what is beside them, put away one by one and given back in order.

    with Spill() as kept: kept.put(frame); ...; for frame in kept.frames(): ...
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        # of each frame: id, its label map, what lies beside, and the device it was on
        self._index: list[tuple[str, Any, dict[str, Any] | None, torch.device | None]] = []

    def __enter__(self) -> Self:
        self._file = self._stack.enter_context(scratch())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def put(self, frame: Frame) -> None:
        """A frame more. StoreError: the disk refuses."""
        beside, device = None, None
        if frame.beside is not None:
            tensors = frame.beside.asked()
            beside = {name: self._write(t.cpu().numpy()) for name, t in tensors.items()}
            device = next((tensor.device for tensor in tensors.values()), None)
        self._index.append((frame.name, self._write(frame.values), beside, device))

    def frames(self) -> Iterator[Frame]:
        """All frames that were put."""
        for name, place, beside, device in self._index:
            fused = None
            if beside is not None:
                arrays = {each: self._read(where) for each, where in beside.items()}
                fused = Fused(**{n: torch.from_numpy(a).to(device) for n, a in arrays.items()})
            yield Frame(name, self._read(place), fused)

    def _write(self, array: np.ndarray) -> tuple[int, int, str, tuple[int, ...]]:
        packed = zstd.compress(np.ascontiguousarray(array), LEVEL)
        where = self._file.tell(), len(packed), array.dtype.str, array.shape
        self._file.write(packed)
        return where

    def _read(self, where: tuple[int, int, str, tuple[int, ...]]) -> np.ndarray:
        start, length, dtype, shape = where
        out = np.empty(shape, dtype)
        if out.size:
            self._file.seek(start)
            zstd.decompress(self._file.read(length), out.reshape(-1).view(np.uint8))
        return out
