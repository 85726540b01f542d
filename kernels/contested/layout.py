"""Contested pixels in memory: blocks as they are made, runs as loops read them, their addresses.

Contested pixels with equally many candidates lie together, in bundles of 16 pixels: targets
[bundles, 16] uint16, classes [bundles, k, 16] uint16 ascending in k, means [bundles, k, G, 16]
float32; zeros pad the last bundle. One bundle is one stretch of memory, so that many weight vectors
are evaluated on it while it is in the first-level cache (and one vector just streams).

Shape letters: G groups, C classes, k candidates of a pixel, K in total, n pixels, R runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LANES = 16  # pixels of a bundle: native/kernels.h
KINDS = tuple(map(np.dtype, ("<u2", "<u2", "<f4")))  # of targets, classes, means

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def bundles(pixels: int) -> int:
    """How many bundles a run of pixels fills."""
    return -(-pixels // LANES)


def bundle_sizes(width: int, groups: int) -> tuple[int, int, int]:
    """Numbers of targets, classes and means in one bundle of pixels with `width` candidates."""
    return LANES, LANES * width, LANES * width * groups


def bundle_bytes(width: int, groups: int) -> int:
    """Size of one such bundle."""
    sizes = bundle_sizes(width, groups)
    return sum(size * kind.itemsize for size, kind in zip(sizes, KINDS, strict=True))


class Run(NamedTuple):
    """Contested pixels with `width` candidates each; the arrays are flat, in the layout above."""

    width: int
    pixels: int
    targets: NDArray[np.uint16]
    classes: NDArray[np.uint16]
    means: Floats

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        return self.targets, self.classes, self.means

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)

    def lines(self, groups: int) -> tuple[NDArray[Any], ...]:
        """targets [n], classes [n, k], means [n, k, G], pixel by pixel."""
        n, k = self.pixels, self.width
        classes = self.classes.reshape(-1, k, LANES).transpose(0, 2, 1).reshape(-1, k)
        means = self.means.reshape(-1, k, groups, LANES).transpose(0, 3, 1, 2)
        return self.targets[:n], classes[:n], means.reshape(-1, k, groups)[:n]

    def cut(self, groups: int, most: int) -> list[Run]:
        """Views of at most `most` bundles each."""
        sizes, made = bundle_sizes(self.width, groups), []
        for first in range(0, bundles(self.pixels), most):
            spans = [slice(first * size, (first + most) * size) for size in sizes]
            arrays = [array[span] for array, span in zip(self.arrays, spans, strict=True)]
            pixels = min(self.pixels - first * LANES, most * LANES)
            made.append(Run(self.width, pixels, *arrays))
        return made

    def check(self, groups: int, classes: int = 1 << 16) -> None:
        """ValueError unless the arrays hold what `width`, `pixels`, G groups and C classes say."""
        if self.width < 1 or self.pixels < 0:
            raise ValueError(f"{self.pixels} pixels with {self.width} candidates")
        sizes = bundle_sizes(self.width, groups)
        for array, size, kind in zip(self.arrays, sizes, KINDS, strict=True):
            length, flags = bundles(self.pixels) * size, array.flags
            if array.dtype != kind or array.shape != (length,):
                got = f"an array {array.dtype} {list(array.shape)}"
                raise ValueError(f"{got} for {self.pixels} pixels; expected {kind} [{length}]")
            if not (flags.c_contiguous and flags.aligned):
                raise ValueError("an array with gaps, or at an odd address")
        if self.highest >= classes:
            raise ValueError(f"class {self.highest} where there are {classes}")
        if self.pads(groups):
            raise ValueError("lanes beyond its last pixel that are not zero")

    def pads(self, groups: int) -> bool:
        """Whether lanes beyond the last pixel hold anything: loops look multipliers up by it."""
        rest = self.pixels % LANES
        pairs = zip(self.arrays, bundle_sizes(self.width, groups), strict=True)
        last = (array[-size:].reshape(-1, LANES) for array, size in pairs)
        return rest > 0 and any(lanes[:, rest:].any() for lanes in last)

    @property
    def highest(self) -> int:
        """The highest class id of targets and candidates, padding left out; -1 without pixels."""
        whole = self.pixels // LANES * LANES * self.width  # candidates of the full bundles
        last = self.classes[whole:].reshape(-1, LANES)[:, : self.pixels % LANES]
        ids = (self.targets[: self.pixels], self.classes[:whole], last)
        return max((int(some.max()) for some in ids if some.size), default=-1)


def from_bytes(width: int, pixels: int, groups: int, content: bytes) -> Run:
    """The run whose arrays fill `content` in turn; no copy. ValueError: they do not."""
    arrays, at = [], 0
    for size, kind in zip(bundle_sizes(width, groups), KINDS, strict=True):
        arrays.append(np.frombuffer(content, kind, bundles(pixels) * size, at))
        at += arrays[-1].nbytes
    if at != len(content):
        raise ValueError(f"{len(content)} bytes; expected {at}")
    return Run(width, pixels, *arrays)


@dataclass(frozen=True)
class Block:
    """What a block of pixels condenses to.

    constant: int64 [C, C], rows targets, of its uncontested pixels. Its contested pixels one after
    the other: counts [n] of candidates, targets [n], classes [K] ascending within a pixel, means
    [K, G].
    """

    constant: Ints
    counts: NDArray[np.uint16]
    targets: NDArray[np.uint16]
    classes: NDArray[np.uint16]
    means: Floats

    @property
    def nbytes(self) -> int:
        """Size in memory: of a band of few pixels its matrix is most of it."""
        arrays = self.constant, self.counts, self.targets, self.classes, self.means
        return sum(array.nbytes for array in arrays)


def empty(groups: int, classes: int) -> Block:
    """No pixels."""
    none, means = np.zeros(0, np.uint16), np.zeros((0, groups), np.float32)
    return Block(np.zeros((classes, classes), np.int64), none, none, none, means)


def merged(blocks: Sequence[Block]) -> Block:
    """Blocks one after the other."""
    names = ("counts", "targets", "classes", "means")
    joined = [np.concatenate([getattr(block, name) for block in blocks]) for name in names]
    return Block(sum(b.constant for b in blocks[1:]) + blocks[0].constant, *joined)


def renumbered(block: Block, first: int, classes: int) -> Block:
    """The block with its classes 0, 1, ... as `first`, `first` + 1, ... of C classes."""
    constant = np.zeros((classes, classes), np.int64)
    some = slice(first, first + len(block.constant))
    constant[some, some] = block.constant
    targets, candidates = (ids + np.uint16(first) for ids in (block.targets, block.classes))
    return Block(constant, block.counts, targets, candidates, block.means)


def runs(block: Block) -> list[Run]:
    """The contested pixels of a block in bundles, by number of candidates, else in their order."""
    made, starts = [], np.cumsum(block.counts, dtype=np.int64) - block.counts
    groups = block.means.shape[1]
    for width in np.unique(block.counts).tolist():
        chosen = np.flatnonzero(block.counts == width)
        places = starts[chosen][:, None] + np.arange(width)
        padding = (0, -len(chosen) % LANES)
        targets = np.pad(block.targets[chosen], padding)
        classes = np.pad(block.classes[places], (padding, (0, 0))).reshape(-1, LANES, width)
        means = np.pad(block.means[places], (padding, (0, 0), (0, 0)))
        means = means.reshape(-1, LANES, width, groups).transpose(0, 2, 3, 1)
        classes = classes.transpose(0, 2, 1)
        made.append(Run(width, len(chosen), targets, classes.ravel(), means.ravel()))
    return made


def fused(run: Run, weights: Floats) -> Run:
    """The run with one group: sum_g w_g P_g in float32, in the order of the groups."""
    means = run.means.reshape(-1, run.width, len(weights), LANES)
    total = np.zeros((len(means), run.width, LANES), np.float32)
    for g, weight in enumerate(weights):
        total += weight * means[:, :, g]
    return run._replace(means=total.ravel())


def thinned(run: Run, groups: int, step: int) -> Run:
    """Every `step`-th bundle of a run, the first one included."""
    sizes, number = bundle_sizes(run.width, groups), bundles(run.pixels)
    pairs = zip(run.arrays, sizes, strict=True)
    arrays = [np.ascontiguousarray(a.reshape(-1, size)[::step]).ravel() for a, size in pairs]
    kept = -(-number // step)
    ends_full = (number - 1) % step != 0  # the last bundle, which may not be full, is left out
    rest = 0 if ends_full else number * LANES - run.pixels
    return Run(run.width, kept * LANES - rest, *arrays)


def rows(runs: Sequence[Run], classes: int) -> Ints:
    """int64 [C]: how many pixels have each target."""
    targets = [np.bincount(run.targets[: run.pixels], minlength=classes) for run in runs]
    return np.sum([np.zeros(classes, np.int64), *targets], axis=0)


class Parts:
    """Pairs of video index and run, and the table of their addresses for the compiled loops."""

    def __init__(self, runs: Sequence[tuple[int, Run]]) -> None:
        self.runs = tuple(runs)  # keeps the arrays alive as long as their addresses
        self._fits: set[tuple[int, int]] = set()

    @cached_property
    def widest(self) -> int:
        """The most candidates that a pixel has."""
        return max((run.width for _, run in self.runs), default=1)

    def check(self, groups: int, classes: int) -> None:
        """ValueError where a run does not go with G groups and C classes; looks once."""
        if (groups, classes) in self._fits:
            return
        for index, (video, run) in enumerate(self.runs):
            try:
                run.check(groups, classes)
                if video < 0:
                    raise ValueError(f"video {video}; videos are numbered from 0")
            except ValueError as error:
                raise ValueError(f"contested pixels, run {index}: {error}") from error
        self._fits.add((groups, classes))

    def table(self, groups: int, classes: int) -> Ints:
        """int64 [R, 6]: addresses of means, classes, targets; width, pixels, video; checked."""
        self.check(groups, classes)
        return self._table

    @cached_property
    def _table(self) -> Ints:
        rows = [
            [*(array.ctypes.data for array in run.arrays[::-1]), run.width, run.pixels, video]
            for video, run in self.runs
        ]
        return np.array(rows, np.int64).reshape(-1, 6)

    def shares(self, number: int, groups: int, classes: int) -> list[Ints]:
        """The table in at most `number` stretches of about equal work."""
        table = self.table(groups, classes)
        load = np.cumsum(table[:, 3] * table[:, 4])
        cuts = np.searchsorted(load, np.linspace(0, load[-1] if len(load) else 0, number + 1)[1:-1])
        return [np.ascontiguousarray(share) for share in np.split(table, cuts) if len(share)]
