"""Confusion counts on the CPU: every thread counts its pixels in int64 by confusion.c."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fusion.kernels.confusion import naive
from fusion.kernels.native import build
from fusion.kernels.native.pool import run_ranges
from fusion.kernels.numbers import as_read

if TYPE_CHECKING:
    from fusion.kernels.confusion.naive import Ids

MOST = 2**63 - 1  # beyond it ids of uint64 are no int64
STEP = 1 << 16  # pixels of a range are a multiple of this


def confusion(targets: Ids, labels: Ids, classes: int, *, ignore: int = 255) -> Ids:
    """As `fusion.kernels.confusion`, on arrays and CPU tensors."""
    library = build.library()
    assert library is not None
    flat = [np.asarray(ids).reshape(-1) for ids in (targets, labels)]
    if any(ids.dtype == np.uint64 and ids.max(initial=0) > MOST for ids in flat):
        return naive.confusion(targets, labels, classes, ignore=ignore)
    bytewise = all(ids.dtype == np.uint8 for ids in flat)
    dtype = np.uint8 if bytewise else np.int64
    count = library.fusion_confusion_bytes if bytewise else library.fusion_confusion

    def task(start: int, stop: int) -> np.ndarray | None:
        counts = np.zeros((classes, classes), np.int64)
        some = [as_read(ids[start:stop], dtype) for ids in flat]
        addresses = [ids.ctypes.data for ids in some]
        sound = count(*addresses, stop - start, classes, ignore, counts.ctypes.data)
        return counts if sound else None

    parts = run_ranges(task, len(flat[0]), STEP)
    if any(part is None for part in parts):
        return naive.confusion(targets, labels, classes, ignore=ignore)  # names the values
    zeros = np.zeros((classes, classes), np.int64)
    return naive.like(labels, sum((part for part in parts if part is not None), zeros))
