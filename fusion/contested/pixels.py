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

With class multipliers b the label is the lowest c that maximises b_c F_c. Condensed with a `reach`
r, the set serves all of [1/r, r]; each of the three takes `multipliers`, [C] or one row a vector.

Shape letters: G groups, C classes, P pixels, V videos, B weight vectors, k candidates of a pixel.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.contested import spread
from fusion.contested.rows import multiplier_rows, places, weight_rows
from fusion.contested.video import CUT, VideoPixels
from fusion.device import chosen
from fusion.ensemble.plan import Budget
from fusion.errors import InputError
from fusion.kernels import sweep
from fusion.kernels.contested import Parts, count, on_device
from fusion.kernels.contested.layout import Floats, Ints, Run, bundle_bytes
from fusion.kernels.driver import out_of_memory
from fusion.kernels.native.pool import workers
from fusion.kernels.sweep import Ends, Flips
from fusion.metrics.objectives import Objective, objective

if TYPE_CHECKING:
    from fusion.kernels.contested.triton import DeviceParts

COUNTS = 1 << 26  # bytes of counts per thread: longer batches of weight vectors go in steps
MEMORY = 4 * 10**9


@dataclass(frozen=True, eq=False, repr=False)
class Condensed:
    """A condensed set of videos.

    Every method takes raw weights, one row per vector, in the order of `groups`.

    Args:
        groups, classes, videos: names.
        pixels: per video its `VideoPixels`.
        memory: bytes that evaluation may use; pixels that lie on disk are streamed through it.
        device: where labels are counted, "cpu" or a GPU (see `on`).
        reach: class multipliers may lie in [1 / reach, reach].
        channels: whether classes are those of independent channels, two each.
        scheduler: whose workers count long sweeps, see `fusion.contested.spread`.
    """

    groups: tuple[str, ...]
    classes: tuple[str, ...]
    videos: tuple[str, ...]
    pixels: tuple[VideoPixels, ...]
    memory: int = MEMORY
    device: str = "cpu"
    reach: float = 1.0
    channels: bool = False
    scheduler: str = "threads"

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
    def moving(self) -> range:
        """Classes whose multipliers decide labels; of a channel's two only the ratio matters."""
        return range(1, len(self.classes), 2) if self.channels else range(len(self.classes))

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

    def normalised_multipliers(self, multipliers: ArrayLike, vectors: int) -> Floats:
        """Multipliers [C] or [B, C] as fusion uses them, a row for each of B vectors.

        InputError: what no multipliers can be, or two further apart than `reach` squared, for which
        dropped classes might have won.
        """
        made = multiplier_rows(multipliers, vectors, len(self.classes))
        ratio = float((made.max(axis=1) / made.min(axis=1)).max(initial=1.0))
        most = self.reach if self.channels else self.reach**2  # one of two moves, or both
        if ratio > most * (1 + 1e-6):  # rounding to float32
            got = f"two differ by a factor {ratio:.4g}"
            do = f"these pixels were condensed for at most {most:g}: give a larger reach"
            raise InputError(f"multipliers: {got}; {do}")
        return made

    def confusion(self, weights: ArrayLike, multipliers: ArrayLike | None = None) -> Ints:
        """Confusion matrices [V, C, C] of every video under one weight vector [G]."""
        weights = np.asarray(weights, np.float64)[None]
        constant = np.stack([pixels.constant for pixels in self.pixels])
        counts = self._counts(weights, multipliers, matrix=True, per_video=True)
        return counts[:, 0] + constant

    def confusions(self, weights: ArrayLike, multipliers: ArrayLike | None = None) -> Ints:
        """Confusion matrices [B, C, C] of all videos together under weights [B, G]."""
        return self._counts(weights, multipliers, matrix=True)[0] + self._constant

    def miou(
        self,
        weights: ArrayLike,
        convention: str | Objective = "vspw",
        multipliers: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """The objective [B] under weights [B, G], the value that the matrices give; nan of none.

        convention: a name or an `Objective`; mIoU by default.
        """
        wanted = objective(convention)
        if wanted.per_case:
            return self._case_scores(weights, wanted, multipliers)
        counts = self._counts(weights, multipliers, matrix=False)[0]
        inter, columns = (counts + self.base).transpose(1, 0, 2)
        return wanted(inter, np.broadcast_to(self.rows, inter.shape), columns)

    def _case_scores(
        self, weights: ArrayLike, wanted: Objective, multipliers: ArrayLike | None
    ) -> NDArray[np.float64]:
        """A per-case objective [B], so many vectors at a time as counts by video leave room for."""
        weights, rows, scores = np.asarray(weights), self.rows_per_video, [np.zeros(0)]
        factors: Any = None
        if multipliers is not None:
            factors = np.broadcast_to(multipliers, (len(weights), len(self.classes)))
        step = max(1, COUNTS // (8 * 2 * rows.size))
        for first in range(0, len(weights), step):
            some = slice(first, first + step)
            scaled = None if factors is None else factors[some]
            inter, columns = self.statistics(weights[some], scaled).transpose(2, 1, 0, 3)
            scores.append(wanted(inter, np.broadcast_to(rows, inter.shape), columns))
        return np.concatenate(scores)

    def statistics(self, weights: ArrayLike, multipliers: ArrayLike | None = None) -> Ints:
        """Intersections and predictions [V, B, 2, C] of every video under weights [B, G]."""
        counts = self._counts(weights, multipliers, matrix=False, per_video=True)
        return counts + self.base_per_video[:, None]

    @cached_property
    def base_per_video(self) -> Ints:
        """int64 [V, 2, C]: `base` of each video."""
        constant = np.stack([pixels.constant for pixels in self.pixels])
        return np.stack([np.diagonal(constant, axis1=1, axis2=2), constant.sum(axis=1)], axis=1)

    @cached_property
    def rows_per_video(self) -> Ints:
        """int64 [V, C]: `rows` of each video."""
        return np.stack([pixels.rows + pixels.constant.sum(axis=1) for pixels in self.pixels])

    def flips(
        self,
        ends: Ends,
        low: float,
        high: float,
        room: int,
        multipliers: ArrayLike | None = None,
        *,
        apart: bool = False,
    ) -> Iterator[Flips]:
        """Label flips with low < s < high along a segment of weights, batch after batch.

        Args:
            ends: two weight vectors [G] of sum 1.
            low, high: the stretch of the segment.
            room: flips that each thread may keep of a batch.
            multipliers: [C], the same all along.
            apart: every video is a case of its own.
        """
        factors = None if multipliers is None else np.asarray(multipliers, np.float64)
        cases = len(self.videos) if apart else 1
        for parts in self.batches(apart):
            given = (parts, ends, len(self.classes), low, high, room)
            yield sweep.flips(*given, cases, factors)

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

    def fused(self, weights: ArrayLike, reach: float = 1.0) -> Condensed:
        """The same set with one group, whose means are the fused scores under weights [G].

        What is left to search is multipliers: equal counts under any, from a G-th of the numbers.
        InputError: a `reach` beyond that of this set.
        """
        if reach > self.reach:
            got = f"these pixels were condensed for {self.reach:g}"
            raise InputError(f"multipliers: reach {reach:g}, {got}; condense again")
        (vector,) = self.normalised(np.asarray(weights, np.float64)[None])
        pixels = tuple(each.fused(vector) for each in self.pixels)
        return replace(self, groups=("fused",), pixels=pixels)

    def thinned(self, candidates: int) -> Condensed:
        """A sample of about so many candidates, or the set itself: to climb on, not to score.

        Bundles of 16 neighbours are taken at equal distances, in every video, and the uncontested
        pixels' counts divided as much.
        """
        step = self.candidates // max(1, candidates)
        if step < 2:
            return self
        return replace(self, pixels=tuple(each.thinned(step) for each in self.pixels))

    def _counts(
        self,
        weights: ArrayLike,
        multipliers: ArrayLike | None,
        *,
        matrix: bool,
        per_video: bool = False,
    ) -> Ints:
        """Counts of contested pixels as kernels.contested gives them: [V or 1, B, C or 2, C]."""
        weights, factors = self.normalised(weights), None
        if multipliers is not None:
            factors = self.normalised_multipliers(multipliers, len(weights))
        sweep = spread.Sweep({}, weights, factors, matrix, per_video)
        if spread.pays(self, sweep):
            return spread.counted(self, sweep)
        try:
            return self.counted(sweep)
        except RuntimeError as error:
            if self.device == "cpu" or not out_of_memory(error):
                raise
        said = f"device {self.device}: out of memory; labels are counted on the CPU"
        warnings.warn(said, stacklevel=3)
        return replace(self, device="cpu").counted(sweep)

    def counted(self, sweep: spread.Sweep) -> Ints:
        """The same here, of a sweep's weights and multipliers."""
        size, weights, factors = len(self.classes), sweep.weights, sweep.multipliers
        matrix, videos = sweep.matrix, len(self.videos) if sweep.per_video else 1
        shape = size if matrix else 2, size
        room = min(COUNTS, self.budget.counts // workers())
        step = max(1, room // (8 * videos * math.prod(shape)))
        total = np.zeros((videos, len(weights), *shape), np.int64)
        for parts in self._placed(sweep.per_video):
            for first in range(0, len(weights), step):
                some = slice(first, first + step)
                scaled = None if factors is None else factors[some]
                how: dict[str, Any] = {"videos": videos, "matrix": matrix, "multipliers": scaled}
                total[:, some] += count(parts, weights[some], size, **how)
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
