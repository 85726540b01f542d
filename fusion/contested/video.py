"""One video's condensed pixels, in memory: runs of as many candidates, and what is constant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fusion.kernels.contested import layout
from fusion.kernels.contested.layout import Block, Floats, Ints, Run, bundle_bytes, bundles

CUT = 1024  # bundles of pixels that one thread takes at a time


@dataclass(frozen=True, eq=False)
class VideoPixels:
    """One video's condensed pixels in memory; cache.py has a kind that stays on disk.

    groups: G. spans: the contested pixels' runs, or whatever else has their `width` and `pixels`
    first. constant: int64 [C, C] of the uncontested pixels. rows: int64 [C], contested pixels per
    target class.
    """

    groups: int
    spans: tuple[Any, ...]
    constant: Ints
    rows: Ints
    resident: ClassVar[bool] = True

    @classmethod
    def from_block(cls, block: Block) -> VideoPixels:
        runs, classes = tuple(layout.runs(block)), len(block.constant)
        return cls(block.means.shape[1], runs, block.constant, layout.rows(runs, classes))

    def check(self) -> None:
        """StoreError where they are not there; in memory they are."""

    @property
    def shipped(self) -> VideoPixels:
        """What a worker is sent: where they lie, if they lie on a disk, else all of them."""
        return self

    @property
    def widths(self) -> Ints:
        """int64 [R, 2]: candidates per pixel and number of such pixels."""
        return np.array([span[:2] for span in self.spans], np.int64).reshape(-1, 2)

    @property
    def nbytes(self) -> int:
        """Size of the contested pixels in memory."""
        return sum(bundles(n) * bundle_bytes(k, self.groups) for k, n in self.widths.tolist())

    def fused(self, weights: Floats) -> VideoPixels:
        """The same in memory with one group, the sum under normalised weights [G]."""
        runs = tuple(layout.fused(run, weights) for run in self.cut(CUT))
        return VideoPixels(1, runs, self.constant, self.rows)

    def thinned(self, step: int) -> VideoPixels:
        """About one contested pixel in `step`, in memory, and as large a part of the others."""
        runs = tuple(layout.thinned(run, self.groups, step) for run in self.cut(CUT))
        constant = (self.constant + step // 2) // step
        return VideoPixels(self.groups, runs, constant, layout.rows(runs, len(constant)))

    def cut(self, bundles: int) -> Iterator[Run]:
        """Runs of at most `bundles` bundles."""
        for run in self.spans:
            yield from run.cut(self.groups, bundles)
