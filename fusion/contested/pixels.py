"""Lossless condensation: all labels that *any* group weights can give, in a fraction of the size.

    label(n) = lowest c that maximises F_c(n) = sum_g w_g P_gc(n)      in float32

A class that another one beats under every weighting is dropped; a pixel with one class left is
*uncontested* and goes into a constant confusion matrix; the others keep their few candidates. Then
for every w >= 0 the confusion matrix equals the one from the full probabilities, cell for cell
(proof: fusion.kernels.contested). Weights are raw: only their ratios matter.

    block = condense(group_means, targets, classes, ignore=255)  for every frame or band of one
    builder.append(video, block); ...; condensed = builder.finish()
    condensed.miou(weights) [B]; .confusions(weights) [B, C, C]; .confusion(w) [V, C, C]
    condensed.on("cuda").miou(weights)                 the very same numbers, counted on a GPU

Shape letters: G groups, C classes, P pixels, V videos, B weight vectors, k candidates of a pixel.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.contested.source import places, weight_rows
from fusion.device import chosen
from fusion.ensemble.plan import Budget
from fusion.kernels import sweep
from fusion.kernels.contested import Parts, count, layout, on_device
from fusion.kernels.contested.layout import Block, Floats, Ints, Run, bundle_bytes, bundles
from fusion.kernels.sweep import Ends, Flips
from fusion.metrics import miou_of_counts

if TYPE_CHECKING:
    from fusion.kernels.contested.triton import DeviceParts

CUT = 1024  # bundles of pixels that one thread takes at a time
COUNTS = 1 << 26  # bytes of counts per thread: longer batches of weight vectors go in steps
MEMORY = 4 * 10**9


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

    @property
    def widths(self) -> Ints:
        """int64 [R, 2]: candidates per pixel and number of such pixels."""
        return np.array([span[:2] for span in self.spans], np.int64).reshape(-1, 2)

    @property
    def nbytes(self) -> int:
        """Size of the contested pixels in memory."""
        return sum(bundles(n) * bundle_bytes(k, self.groups) for k, n in self.widths.tolist())

    def cut(self, bundles: int) -> Iterator[Run]:
        """Runs of at most `bundles` bundles."""
        for run in self.spans:
            yield from run.cut(self.groups, bundles)


@dataclass(frozen=True, eq=False, repr=False)
class Condensed:
    """A condensed set of videos.

    Every method takes raw weights, one row per vector, in the order of `groups`.

    Args:
        groups, classes, videos: names.
        pixels: per video its `VideoPixels`.
        memory: bytes that evaluation may use; pixels that lie on disk are streamed through it.
        device: where labels are counted, "cpu" or a GPU (see `on`).
    """

    groups: tuple[str, ...]
    classes: tuple[str, ...]
    videos: tuple[str, ...]
    pixels: tuple[VideoPixels, ...]
    memory: int = MEMORY
    device: str = "cpu"

    def __repr__(self) -> str:
        sizes = f"{len(self.videos)} videos, {len(self.groups)} groups, {len(self.classes)} classes"
        pixels = f"{self.contested} of {self.scored} pixels contested ({self.fraction:.2%})"
        return f"Condensed({sizes}: {pixels}, {self.candidates} candidates)"

    @cached_property
    def widths(self) -> dict[int, int]:
        """How many contested pixels keep k candidates, by k."""
        found: Counter[int] = Counter()
        for pixels in self.pixels:
            for width, number in pixels.widths.tolist():
                found[width] += number
        return dict(sorted(found.items()))

    @property
    def contested(self) -> int:
        """N, the contested pixels."""
        return sum(self.widths.values())

    @property
    def candidates(self) -> int:
        """K, the candidates of all contested pixels together."""
        return sum(width * number for width, number in self.widths.items())

    @property
    def scored(self) -> int:
        """All pixels that count, void ones left out."""
        return self.contested + int(self._constant.sum())

    @property
    def fraction(self) -> float:
        """Share of the scored pixels that is contested; 0 where no pixel is scored."""
        return self.contested / self.scored if self.scored else 0.0

    @cached_property
    def rows(self) -> Ints:
        """int64 [C]: scored pixels per target class, the same under all weights."""
        return sum((pixels.rows for pixels in self.pixels), start=self._constant.sum(axis=1))

    def subset(self, videos: Sequence[str]) -> Condensed:
        """The same for some of the videos, no pixel copied. InputError: unknown, twice, none."""
        pixels = tuple(self.pixels[place] for place in places(videos, self.videos))
        return replace(self, videos=tuple(videos), pixels=pixels)

    def on(self, device: str) -> Condensed:
        """The same set, its labels counted on a device as `device.chosen` names it: equal counts.

        Pixels in memory go to a GPU at the first count and stay; those on disk are streamed to it.
        InputError: no such device.
        """
        place = chosen(device)
        return replace(self, device="cpu" if place.type == "cpu" else str(place))

    def normalised(self, weights: ArrayLike) -> Floats:
        """Weights [B, G] as fusion uses them; InputError says why they cannot be."""
        return weight_rows(weights, self.groups)

    def confusion(self, weights: ArrayLike) -> Ints:
        """Confusion matrices [V, C, C] of every video under one weight vector [G]."""
        weights = self.normalised(np.asarray(weights, np.float64)[None])
        constant = np.stack([pixels.constant for pixels in self.pixels])
        return self._counts(weights, matrix=True, per_video=True)[:, 0] + constant

    def confusions(self, weights: ArrayLike) -> Ints:
        """Confusion matrices [B, C, C] of all videos together under weights [B, G]."""
        return self._counts(self.normalised(weights), matrix=True)[0] + self._constant

    def miou(self, weights: ArrayLike, convention: str = "vspw") -> NDArray[np.float64]:
        """mIoU [B] under weights [B, G], the very value that `confusions` gives; nan of none."""
        counts = self._counts(self.normalised(weights), matrix=False)[0]
        inter, columns = (counts + self.base).transpose(1, 0, 2)
        return miou_of_counts(inter, np.broadcast_to(self.rows, inter.shape), columns, convention)

    def flips(self, ends: Ends, low: float, high: float, room: int) -> Iterator[Flips]:
        """Label flips with low < s < high along a segment of weights, batch after batch.

        Args:
            ends: two weight vectors [G] of sum 1.
            room: flips that each thread may keep of a batch.
        """
        for parts in self.batches():
            yield sweep.flips(parts, ends, len(self.classes), low, high, room)

    @cached_property
    def base(self) -> Ints:
        """int64 [2, C]: intersections and predictions per class of the uncontested pixels."""
        return np.stack([np.diagonal(self._constant), self._constant.sum(axis=0)])

    @property
    def about(self) -> str:
        """How much of the scored pixels is looked at, for people."""
        each = self.candidates / max(1, self.contested)
        share = f"{self.contested} contested ({100 * self.fraction:.1f} %)"
        return f"{share}, {each:.2f} candidates each"

    @property
    def sizes(self) -> dict[str, int]:
        """The same for files."""
        return {"contested": self.contested, "candidates": self.candidates}

    @property
    def budget(self) -> Budget:
        """What evaluation may use of `memory`, by purpose."""
        return Budget(self.memory)

    @property
    def resident(self) -> bool:
        """Whether all contested pixels are in memory."""
        return all(pixels.resident for pixels in self.pixels)

    @cached_property
    def _constant(self) -> Ints:
        nothing = np.zeros((len(self.classes),) * 2, np.int64)
        return sum((pixels.constant for pixels in self.pixels), start=nothing)

    def _counts(self, weights: Floats, *, matrix: bool, per_video: bool = False) -> Ints:
        """Counts of contested pixels as kernels.contested gives them: [V or 1, B, C or 2, C]."""
        size = len(self.classes)
        videos, *shape = len(self.videos) if per_video else 1, size if matrix else 2, size
        step = max(1, COUNTS // (8 * videos * math.prod(shape)))
        total = np.zeros((videos, len(weights), *shape), np.int64)
        for parts in self._placed(per_video):
            for first in range(0, len(weights), step):
                some = slice(first, first + step)
                total[:, some] += count(parts, weights[some], size, videos=videos, matrix=matrix)
        return total

    def _placed(self, per_video: bool) -> Iterator[Parts | DeviceParts]:
        """All contested pixels on this set's device; to a GPU those in memory go once."""
        if self.resident and self.device != "cpu":
            yield self._on_device
            return
        yield from (on_device(parts, self.device) for parts in self.batches(per_video))

    @cached_property
    def _on_device(self) -> Parts | DeviceParts:
        return on_device(self._resident[True], self.device)

    def batches(self, per_video: bool = False) -> Iterator[Parts]:
        """All contested pixels in batches that fit into memory; one where they are there."""
        if self.resident:
            yield self._resident[per_video]
            return
        limit = self.budget.batch
        widest = bundle_bytes(max(self.widths, default=1), len(self.groups))
        batch: list[tuple[int, Run]] = []
        size = 0
        for index, pixels in enumerate(self.pixels):
            for run in pixels.cut(max(1, min(CUT, limit // widest))):
                if batch and size + run.nbytes > limit:
                    yield Parts(batch)
                    batch, size = [], 0
                batch.append((index if per_video else 0, run))
                size += run.nbytes
        yield Parts(batch)

    @cached_property
    def _resident(self) -> tuple[Parts, Parts]:
        """All runs as those of one video, and each with its own video's index."""
        videos = enumerate(self.pixels)
        apart = [(index, run) for index, pixels in videos for run in pixels.cut(CUT)]
        return Parts([(0, run) for _, run in apart]), Parts(apart)
