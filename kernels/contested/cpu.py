"""Contested pixels through the compiled loops of contested.c, on all threads of torch's number."""

from __future__ import annotations

from itertools import chain

import numpy as np
from numpy.typing import NDArray

from fusion.kernels.contested.layout import Block, Floats, Ints, Parts, empty, merged
from fusion.kernels.contested.naive import FAULTS, LARGEST_SCORE, TINY, BadPixel, margin
from fusion.kernels.native import build
from fusion.kernels.native.pool import in_threads, workers

TILE = 512
ROOM = 1 << 18  # candidates per call of the compiled filter: a buffer of 3 MB for three groups


def condense(means: Floats, targets: NDArray[np.uint16], ignore: int, ratio: float = 1.0) -> Block:
    """As `fusion.kernels.contested.condense`."""
    pixels = len(targets)
    share = max(TILE, -(-pixels // workers() // TILE) * TILE)
    ends = [(s, min(s + share, pixels)) for s in range(0, pixels, share)]
    jobs = [(means, targets, ignore, ratio, *pair) for pair in ends]
    return merged([empty(*means.shape[:2]), *chain(*in_threads(_condense_range, jobs))])


def _condense_range(
    means: Floats, targets: NDArray[np.uint16], ignore: int, ratio: float, first: int, last: int
) -> list[Block]:
    """The pixels first .. last - 1, in as many blocks as the buffers had to be filled."""
    library = build.library()
    assert library is not None
    groups, classes, stride = means.shape
    room = max(ROOM, TILE * classes)
    buffers = [np.empty(room, np.uint16) for _ in range(3)]
    kept, state = np.empty((room, groups), np.float32), np.zeros(4, np.int64)
    terms = (ratio * margin(groups), ratio * TINY, LARGEST_SCORE, int(ratio != 1))
    blocks = []
    while first < last:
        constant = np.zeros((classes, classes), np.int64)
        sizes = (groups, classes, stride, first, last, ignore)
        outputs = (constant, *buffers, kept, room, state)
        library.contested_filter(means, targets, *sizes, *terms, *outputs)
        first, n, total, status = state.tolist()
        if status in FAULTS:
            raise BadPixel(first, status)
        if status:
            raise MemoryError("contested_filter")
        filled = zip((*buffers, kept), (n, n, total, total), strict=True)
        blocks.append(Block(constant, *(array[:end].copy() for array, end in filled)))
    return blocks


def count(
    parts: Parts,
    weights: Floats,
    classes: int,
    *,
    videos: int = 1,
    matrix: bool = True,
    multipliers: Floats | None = None,
) -> Ints:
    """As `fusion.kernels.contested.count`."""
    library = build.library()
    assert library is not None
    vectors, groups = weights.shape
    shape = (videos, vectors, classes if matrix else 2, classes)
    factors = None if multipliers is None else multipliers.ctypes.data

    def share_counts(share: Ints) -> Ints:
        out = np.zeros(shape, np.int64)
        sizes = (vectors, groups, classes, int(matrix), out[0].size if videos > 1 else 0)
        library.contested_count(share, len(share), weights, factors, *sizes, out)
        return out

    jobs = [(share,) for share in parts.shares(workers(), groups, classes)]
    counts = in_threads(share_counts, jobs) or [np.zeros(shape, np.int64)]
    total = sum(counts[1:], start=counts[0])
    # the compiled loop writes differences between consecutive weight vectors
    return np.cumsum(total, axis=1, out=total)
