"""Confusion counts by NumPy: the oracle, and the path without a C compiler."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from fusion.errors import InputError
from fusion.text import listed

if TYPE_CHECKING:
    from torch import Tensor

    Ids = TypeVar("Ids", Tensor, np.ndarray)

BLOCK = 1 << 20  # pixels counted at a time: bounds the int64 temporaries


def confusion(targets: Ids, labels: Ids, classes: int, *, ignore: int = 255) -> Ids:
    """As `fusion.kernels.confusion`, on arrays and CPU tensors."""
    flat = [np.asarray(ids).reshape(-1) for ids in (targets, labels)]
    counts = np.zeros(classes * classes, dtype=np.int64)
    for start in range(0, len(flat[0]), BLOCK):
        t, p = (ids[start : start + BLOCK] for ids in flat)
        counted = t != ignore
        t, p = t[counted], p[counted]
        check_range("targets", t, classes, f"set void targets to {ignore}")
        check_range("labels", p, classes, "every pixel whose target is not void needs a class")
        cells = t.astype(np.int64) * classes + p.astype(np.int64)
        counts += np.bincount(cells, minlength=len(counts))
    return like(labels, counts.reshape(classes, classes))


def check_range(name: str, ids: np.ndarray, classes: int, advice: str) -> None:
    outside = np.unique(ids[(ids < 0) | (ids >= classes)]).tolist()
    if outside:
        raise InputError(
            f"confusion: {name} hold {listed(outside)} outside 0..{classes - 1}; {advice}"
        )


def like(ids: Ids, counts: np.ndarray) -> Ids:
    """Counts as an array, or as a tensor where a tensor came in."""
    if isinstance(ids, np.ndarray):
        return counts
    import torch

    return torch.from_numpy(counts)
