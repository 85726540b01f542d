"""Contested pixels: which pixels can change their label under some weighting, and counting labels under many weightings at once.

Class d *dominates* class c at a pixel when no weights w >= 0 can make c the label in the float32 arithmetic of kernels/reference.py:

    d < c:  P_gd >= P_gc in every group. Every rounded operation of F is monotone, so F_d >= F_c, and the lower class wins ties.
    d > c:  P_gd >= raise(P_gc) in every group, raise(x) = x (1 + (G + 2) 2^-20) + 2^-100. Here F_d > F_c must hold strictly, or the
            lower class would win the tie that rounding made. G products and G - 1 sums, each off by at most a factor 1 +- u
            (u = 2^-24) and, where they underflow, by 2^-126, turn S = sum_g w_g P_g into F with S (1 - u)^G - G 2^-126 <= F <=
            S (1 + u)^G + G 2^-126. The normalised weights sum to 1 within G u. So S_d >= S_c (1 + (G + 2) 2^-20) (1 - 2u) + 2^-101
            leaves F_d > F_c with room: ((1 + u) / (1 - u))^G is below 1 + 3 G u, and 2^-101 is above 3 G 2^-126 while G < 2^23.

Dominated classes cannot win, so dropping all of them leaves every label as it was; groups of weight zero add +0 and change nothing,
because scores are finite and not negative. A pixel with one undominated class is *uncontested* and only counted.

Layout: contested pixels with equally many candidates lie together, in bundles of 16 pixels: values [bundles, k, G, 16] float32,
classes [bundles, k, 16] uint16 ascending in k, targets [bundles, 16] uint16; zeros pad the last bundle. One bundle is one run of
memory, so that many weight vectors are evaluated on it while it is in the first-level cache (and one vector just streams).

Shape letters: G groups, C classes, P pixels, K candidates in total, k candidates of a pixel, B weight vectors, V videos.
Source: the weighted sum of "5th Place Solution for VSPW 2021 Challenge", equation 1; lines that never reach the upper envelope are
dropped as in minimum error rate training (Macherey et al. 2008).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusion.kernels.native import build as compiled

LANES = 16
LARGEST_SCORE = (
    1.001  # probabilities are at most 1 up to rounding; anything beyond is another quantity
)
TILE = 512
ROOM = 1 << 18  # candidates per call of the compiled filter: a buffer of 3 MB for three groups
TINY = np.float32(2.0**-100)
FAULTS = {1: "a score that is not a probability", 2: "a target beyond the classes"}


class BadPixel(ValueError):
    """A counted pixel that cannot be used: `pixel` is its flat index, `reason` a phrase."""

    def __init__(self, pixel: int, reason: str) -> None:
        super().__init__(f"pixel {pixel}: {reason}")
        self.pixel, self.reason = pixel, reason


class Run(NamedTuple):
    """Contested pixels with `width` candidates each; `targets`, `classes`, `values` are flat arrays in the layout above."""

    width: int
    pixels: int
    targets: NDArray[np.uint16]
    classes: NDArray[np.uint16]
    values: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        return self.targets.nbytes + self.classes.nbytes + self.values.nbytes

    def lines(
        self, groups: int
    ) -> tuple[NDArray[np.uint16], NDArray[np.uint16], NDArray[np.float32]]:
        """targets [n], classes [n, k], values [n, k, G], pixel by pixel."""
        classes = (
            self.classes.reshape(-1, self.width, LANES).transpose(0, 2, 1).reshape(-1, self.width)
        )
        values = (
            self.values.reshape(-1, self.width, groups, LANES)
            .transpose(0, 3, 1, 2)
            .reshape(-1, self.width, groups)
        )
        return self.targets[: self.pixels], classes[: self.pixels], values[: self.pixels]


@dataclass(frozen=True)
class Block:
    """What a block of pixels condenses to. constant: int64 [C, C], rows targets, of its uncontested pixels; its contested pixels
    one after the other: counts [n] of candidates, targets [n], classes [K] ascending within a pixel, values [K, G]."""

    constant: NDArray[np.int64]
    counts: NDArray[np.uint16]
    targets: NDArray[np.uint16]
    classes: NDArray[np.uint16]
    values: NDArray[np.float32]

    def __add__(self, other: Block) -> Block:
        return merged([self, other])


def merged(blocks: Sequence[Block]) -> Block:
    """Blocks one after the other."""
    parts = [
        np.concatenate([getattr(b, name) for b in blocks])
        for name in ("counts", "targets", "classes", "values")
    ]
    return Block(sum(b.constant for b in blocks[1:]) + blocks[0].constant, *parts)


@cache
def _pool(workers: int, process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers, thread_name_prefix="contested")


def in_threads(task: Callable[..., Any], jobs: Sequence[tuple[Any, ...]]) -> list[Any]:
    """task(*job) for every job, in order of jobs; the compiled functions release the interpreter lock."""
    if len(jobs) < 2:
        return [task(*job) for job in jobs]
    return list(
        _pool(workers(), os.getpid()).map(lambda job: task(*job), jobs)
    )  # a forked child must not wait for its parent's threads


def workers() -> int:
    import torch

    return torch.get_num_threads()


def _raised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    scale = np.float32(1 + (len(values) + 2) * 2.0**-20)
    return values * scale + TINY


def condense(means: NDArray[np.float32], targets: NDArray[np.uint16], ignore: int) -> Block:
    """means [G, C, P], targets [P] to a `Block`. Raises `BadPixel` for a counted pixel that is out of range."""
    library = compiled.library()
    if library is None:
        return condense_slowly(means, targets, ignore)
    pixels, share = means.shape[2], -(-means.shape[2] // workers() // TILE) * TILE or TILE
    ranges = [(first, min(first + share, pixels)) for first in range(0, pixels, share)]
    parts = in_threads(
        lambda first, last: _condense_range(library, means, targets, ignore, first, last), ranges
    )
    return merged([block for blocks in parts for block in blocks] or [_empty(*means.shape[:2])])


def _empty(groups: int, classes: int) -> Block:
    none = np.zeros(0, np.uint16)
    return Block(
        np.zeros((classes, classes), np.int64), none, none, none, np.zeros((0, groups), np.float32)
    )


def _condense_range(
    library: ctypes.CDLL,
    means: NDArray[np.float32],
    targets: NDArray[np.uint16],
    ignore: int,
    first: int,
    last: int,
) -> list[Block]:
    groups, classes, stride = means.shape
    room = max(ROOM, TILE * classes)
    counts, kept_targets, kept_classes = (np.empty(room, np.uint16) for _ in range(3))
    values = np.empty((room, groups), np.float32)
    state = np.zeros(4, np.int64)
    blocks = []
    while first < last:
        constant = np.zeros((classes, classes), np.int64)
        library.contested_filter(
            pointer(means),
            pointer(targets),
            *(ctypes.c_int64(n) for n in (groups, classes, stride, first, last, ignore)),
            *(ctypes.c_float(x) for x in (1 + (groups + 2) * 2.0**-20, float(TINY), LARGEST_SCORE)),
            *(pointer(a) for a in (constant, counts, kept_targets, kept_classes, values)),
            ctypes.c_int64(room),
            pointer(state),
        )
        first, n, total, status = state.tolist()
        if status in FAULTS:
            raise BadPixel(first, FAULTS[status])
        if status:
            raise MemoryError("contested_filter")
        blocks.append(
            Block(
                constant,
                counts[:n].copy(),
                kept_targets[:n].copy(),
                kept_classes[:total].copy(),
                values[:total].copy(),
            )
        )
    return blocks


def pointer(array: NDArray[Any]) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)  # keeps the array alive


def condense_slowly(means: NDArray[np.float32], targets: NDArray[np.uint16], ignore: int) -> Block:
    """The twin of `condense`: every pair of classes at every pixel."""
    groups, classes = means.shape[:2]
    where = np.flatnonzero(targets != ignore)
    step = max(1, (1 << 22) // (groups * classes))
    blocks = [
        _condense_pairs(means[:, :, where[i : i + step]], targets[where[i : i + step]], where[i:])
        for i in range(0, len(where), step)
    ]
    return merged(blocks or [_empty(groups, classes)])


def _condense_pairs(
    means: NDArray[np.float32], targets: NDArray[np.uint16], where: NDArray[np.int64]
) -> Block:
    classes, pixels = means.shape[1:]
    legal = ((means >= 0) & (means <= np.float32(LARGEST_SCORE))).all(axis=(0, 1))
    faults = np.where(targets >= classes, 2, np.where(legal, 0, 1))
    if faults.any():
        first = int(np.argmax(faults > 0))
        raise BadPixel(int(where[first]), FAULTS[int(faults[first])])
    raised, alive = _raised(means), np.ones((classes, pixels), bool)
    for d in range(classes):
        alive[:d] &= ~(means[:, d, None] >= raised[:, :d]).all(axis=0)
        alive[d + 1 :] &= ~(means[:, d, None] >= means[:, d + 1 :]).all(axis=0)
    counts = alive.sum(axis=0)
    only = counts == 1
    cells = targets[only].astype(np.int64) * classes + alive[:, only].argmax(axis=0)
    constant = np.bincount(cells, minlength=classes * classes).reshape(classes, classes)
    pixel, label = np.nonzero(alive[:, ~only].T)
    values = means[:, :, ~only][:, label, pixel].T
    return Block(
        constant,
        counts[~only].astype(np.uint16),
        targets[~only],
        label.astype(np.uint16),
        np.ascontiguousarray(values),
    )


def runs(block: Block) -> list[Run]:
    """The contested pixels of a block in the bundled layout, by number of candidates, else in their order."""
    made, starts = [], np.cumsum(block.counts, dtype=np.int64) - block.counts
    groups = block.values.shape[1]
    for width in np.unique(block.counts).tolist():
        chosen = np.flatnonzero(block.counts == width)
        bundles = -(-len(chosen) // LANES)
        rows = starts[chosen][:, None] + np.arange(width)
        padding = bundles * LANES - len(chosen)
        targets = np.pad(block.targets[chosen], (0, padding))
        classes = (
            np.pad(block.classes[rows], ((0, padding), (0, 0)))
            .reshape(bundles, LANES, width)
            .transpose(0, 2, 1)
        )
        values = (
            np.pad(block.values[rows], ((0, padding), (0, 0), (0, 0)))
            .reshape(bundles, LANES, width, groups)
            .transpose(0, 2, 3, 1)
        )
        made.append(
            Run(
                width,
                len(chosen),
                targets,
                np.ascontiguousarray(classes).ravel(),
                np.ascontiguousarray(values).ravel(),
            )
        )
    return made


def pieces(run: Run, groups: int, bundles: int) -> list[Run]:
    """A run cut into views of at most `bundles` bundles."""
    per = (LANES, run.width * LANES, run.width * groups * LANES)
    flat: tuple[NDArray[Any], ...] = (run.targets, run.classes, run.values)
    cut = []
    for first in range(0, -(-run.pixels // LANES), bundles):
        arrays = [
            array[first * n : (first + bundles) * n] for array, n in zip(flat, per, strict=True)
        ]
        cut.append(Run(run.width, min(run.pixels - first * LANES, bundles * LANES), *arrays))
    return cut


class Parts:
    """Pairs of video index and run, with the table of their addresses that the compiled loop reads (built once, used per batch)."""

    def __init__(self, runs: Sequence[tuple[int, Run]]) -> None:
        self.runs = tuple(runs)  # keeps the arrays alive as long as their addresses

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """int64 [R, 6]: addresses of values, classes and targets, width, pixels, video."""
        rows = [
            (
                r.values.ctypes.data,
                r.classes.ctypes.data,
                r.targets.ctypes.data,
                r.width,
                r.pixels,
                v,
            )
            for v, r in self.runs
        ]
        return np.array(rows, np.int64).reshape(-1, 6)

    def shares(self, number: int) -> list[NDArray[np.int64]]:
        """The rows in at most `number` parts of about equal work."""
        load = np.cumsum(self.rows[:, 3] * self.rows[:, 4])
        cuts = np.searchsorted(load, np.linspace(0, load[-1] if len(load) else 0, number + 1)[1:-1])
        return [np.ascontiguousarray(share) for share in np.split(self.rows, cuts) if len(share)]


def count(
    parts: Parts,
    weights: NDArray[np.float32],
    classes: int,
    *,
    videos: int = 1,
    matrix: bool = True,
) -> NDArray[np.int64]:
    """Labels of the runs under weights [B, G] (normalised): int64 [videos, B, C, C], or without `matrix` [videos, B, 2, C], the
    intersections and the predictions of each class."""
    vectors, groups = weights.shape
    shape = (videos, vectors, classes if matrix else 2, classes)
    if not vectors:
        return np.zeros(shape, np.int64)
    library = compiled.library()
    if library is None:
        return count_slowly(parts, weights, classes, videos=videos, matrix=matrix)
    weights = np.ascontiguousarray(weights)

    def share_counts(share: NDArray[np.int64]) -> NDArray[np.int64]:
        out = np.zeros(shape, np.int64)
        sizes = (vectors, groups, classes, int(matrix), out[0].size if videos > 1 else 0)
        library.contested_count(
            pointer(share),
            ctypes.c_int64(len(share)),
            pointer(weights),
            *(ctypes.c_int64(n) for n in sizes),
            pointer(out),
        )
        return out

    counts = in_threads(share_counts, [(share,) for share in parts.shares(workers())])
    total = sum(counts[1:], start=counts[0]) if counts else np.zeros(shape, np.int64)
    return np.cumsum(
        total, axis=1, out=total
    )  # the compiled loop writes differences between consecutive weight vectors


def count_slowly(
    parts: Parts,
    weights: NDArray[np.float32],
    classes: int,
    *,
    videos: int = 1,
    matrix: bool = True,
) -> NDArray[np.int64]:
    """The twin of `count`, one weight vector at a time."""
    out = np.zeros((videos, len(weights), classes if matrix else 2, classes), np.int64)
    for video, run in parts.runs:
        targets, names, values = run.lines(weights.shape[1])
        for b, vector in enumerate(weights):
            scores = np.zeros(names.shape, np.float32)
            for g, weight in enumerate(vector):
                scores += values[:, :, g] * weight
            labels = np.take_along_axis(names, scores.argmax(axis=1)[:, None], axis=1)[:, 0].astype(
                np.int64
            )
            if matrix:
                cells = targets.astype(np.int64) * classes + labels
                out[video, b] += np.bincount(cells, minlength=classes * classes).reshape(
                    classes, classes
                )
            else:
                out[video, b, 0] += np.bincount(labels[labels == targets], minlength=classes)
                out[video, b, 1] += np.bincount(labels, minlength=classes)
    return out
