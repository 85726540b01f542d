"""Maps at store resolution: a weight for every one of many models, without a pixel condensed.

Over many models most pixels are contested, and each keeps a score of every model. But fusing and
bilinear interpolation commute: what is kept is each model's probabilities as the stores have them,
and every weighting sums first and interpolates its sum (fusion.kernels.resized). Labels may differ
from fusion's at near ties, where float32 rounds in another order: what a search finds here is
scored again by evaluation.

M models (or groups), C classes, T frames, V videos, B weight vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fusion.contested.pixels import MEMORY, Condensed
from fusion.contested.rows import multiplier_rows, places, weight_rows
from fusion.contested.video import VideoPixels
from fusion.ensemble.heads import Head
from fusion.ensemble.plan import Budget
from fusion.errors import InputError
from fusion.kernels import contested, resized
from fusion.kernels.contested.layout import Floats, Ints, empty, merged
from fusion.kernels.numbers import MOST_CLASSES, void_label
from fusion.kernels.resized import MAP_STEPS, Frames, stepped
from fusion.kernels.sweep import Ends, Flips
from fusion.metrics.objectives import Objective, objective


@dataclass(frozen=True, eq=False)
class VideoMaps:
    """One video's maps, in memory or read again at every pass.

    frames: gives them in order, in one or several parts. rows: int64 [C], scored pixels per target.
    models: M. cells: T h w, of a map of one model and class.
    """

    frames: Callable[[], Iterator[Frames]]
    rows: Ints
    models: int
    cells: int

    @classmethod
    def held(cls, *parts: Frames) -> VideoMaps:
        """In memory."""
        classes, models = parts[0].classes, parts[0].maps.shape[1]
        counted = [np.bincount(part.targets.ravel(), minlength=classes) for part in parts]
        rows = np.sum([each[:classes] for each in counted], axis=0)
        cells = sum(part.maps[:, 0, 0].size for part in parts)
        return cls(partial(iter, parts), rows, models, cells)

    def fused(self, weights: NDArray[np.float64], classes: int, reach: float) -> VideoPixels:
        """The contested pixels of the sum under weights [M] of sum 1."""
        blocks = [empty(1, classes)]
        for frames in self.frames():
            void = void_label(None if frames.targets.dtype == np.uint8 else MOST_CLASSES)
            for scores, targets in resized.sums(frames, weights):
                flat = np.where(targets < classes, targets, void).astype(np.uint16).ravel()
                means = scores.reshape(1, classes, -1)
                blocks.append(contested.condense(means, flat, void, reach**2))
        return VideoPixels.from_block(merged(blocks))

    def under(self, head: Head, models: Sequence[int], *, keep: bool) -> VideoMaps:
        """What a head makes of the maps of its models, in memory or made again at every pass."""
        if keep:
            return VideoMaps.held(*(headed(frames, head, models) for frames in self.frames()))

        def frames() -> Iterator[Frames]:
            return (headed(each, head, models) for each in self.frames())

        return VideoMaps(frames, self.rows, 1, self.cells)


def headed(frames: Frames, head: Head, models: Sequence[int]) -> Frames:
    """Frames whose one map is what a head makes of theirs; models: places of its units."""
    every = torch.from_numpy(frames.maps).permute(1, 2, 0, 3, 4)
    fused = head.probabilities([every[place] for place in models])
    maps = stepped(fused.numpy().transpose(1, 0, 2, 3)[:, None], MAP_STEPS)
    return replace(frames, maps=np.ascontiguousarray(maps), raw=False)


@dataclass(frozen=True, eq=False, repr=False)
class Maps:
    """Videos as `fusion.contested.source.Pixels`.

    Every method takes raw weights, one row per vector, in the order of `groups`, and where there
    are `multipliers`, b_c > 0 as [C] or one row per vector, label = argmax_c b_c F_c.

    Args:
        groups, classes, videos: names.
        pixels: per video its `VideoMaps`.
        memory: bytes that a search may use.
    """

    groups: tuple[str, ...]
    classes: tuple[str, ...]
    videos: tuple[str, ...]
    pixels: tuple[VideoMaps, ...]
    memory: int = MEMORY

    def __repr__(self) -> str:
        sizes = f"{len(self.videos)} videos, {len(self.groups)} groups, {len(self.classes)} classes"
        return f"Maps({sizes}: {self.scored} pixels)"

    @property
    def about(self) -> str:
        """What is looked at, for people."""
        return f"maps of {len(self.groups)} models at store resolution"

    @property
    def sizes(self) -> dict[str, int]:
        """The same for files: no pixel is condensed."""
        return {}

    @property
    def budget(self) -> Budget:
        """What evaluation may use of `memory`, by purpose."""
        return Budget(self.memory)

    @cached_property
    def rows(self) -> Ints:
        """int64 [C]: scored pixels per target class, the same under all weights."""
        return sum((pixels.rows for pixels in self.pixels), np.zeros(len(self.classes), np.int64))

    @cached_property
    def rows_per_video(self) -> Ints:
        """int64 [V, C]: `rows` of each video."""
        return np.stack([pixels.rows for pixels in self.pixels])

    @property
    def base_per_video(self) -> Ints:
        """int64 [V, 2, C]: zeros."""
        return np.zeros((len(self.videos), 2, len(self.classes)), np.int64)

    @property
    def scored(self) -> int:
        """All pixels that count, void ones left out."""
        return int(self.rows.sum())

    @property
    def base(self) -> Ints:
        """int64 [2, C]: zeros, for `flips` counts every pixel."""
        return np.zeros((2, len(self.classes)), np.int64)

    def subset(self, videos: Sequence[str]) -> Maps:
        """The same for some of the videos, nothing copied. InputError: unknown, twice, none."""
        pixels = tuple(self.pixels[place] for place in places(videos, self.videos))
        return replace(self, videos=tuple(videos), pixels=pixels)

    def under(self, heads: Mapping[str, Head]) -> Maps:
        """One group: what each video's head makes of the maps of its units.

        InputError: a unit that is no group here.
        """
        every = {unit for head in heads.values() for unit in head.units}
        if unknown := sorted(every - set(self.groups)):
            got = f"unit {unknown[0]!r} is no group of the maps ({len(unknown)} such)"
            raise InputError(f"head: {got}; give the maps of its units")
        places = {unit: place for place, unit in enumerate(self.groups)}
        name = next(iter(heads.values())).name
        size = 4 * sum(pixels.cells for pixels in self.pixels) * len(self.classes)
        keep, made = size <= self.budget.resident, []
        for video, pixels in zip(self.videos, self.pixels, strict=True):
            models = [places[unit] for unit in heads[video].units]
            made.append(pixels.under(heads[video], models, keep=keep))
        return replace(self, groups=(name,), pixels=tuple(made))

    def normalised(self, weights: ArrayLike) -> Floats:
        """Weights [B, M] as fusion uses them; InputError says why they cannot be."""
        return weight_rows(weights, self.groups)

    def confusion(self, weights: ArrayLike, multipliers: ArrayLike | None = None) -> Ints:
        """Confusion matrices [V, C, C] of every video under one weight vector [M]."""
        one, scale = self._checked(np.asarray(weights, np.float64)[None], multipliers)
        each = [self._counts([pixels], one, scale, matrix=True)[0] for pixels in self.pixels]
        return np.stack(each)

    def confusions(self, weights: ArrayLike, multipliers: ArrayLike | None = None) -> Ints:
        """Confusion matrices [B, C, C] of all videos together under weights [B, M]."""
        return self._counts(self.pixels, *self._checked(weights, multipliers), matrix=True)

    def statistics(self, weights: ArrayLike, multipliers: ArrayLike | None = None) -> Ints:
        """Intersections and predictions [V, B, 2, C] of every video under weights [B, M]."""
        given = self._checked(weights, multipliers)
        return np.stack([self._counts([each], *given, matrix=False) for each in self.pixels])

    def miou(
        self,
        weights: ArrayLike,
        convention: str | Objective = "vspw",
        multipliers: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """The objective [B] under weights [B, M], the value that the matrices give; nan of none."""
        wanted = objective(convention)
        if wanted.per_case:
            inter, columns = self.statistics(weights, multipliers).transpose(2, 1, 0, 3)
            return wanted(inter, np.broadcast_to(self.rows_per_video, inter.shape), columns)
        counts = self._counts(self.pixels, *self._checked(weights, multipliers), matrix=False)
        inter, columns = counts.transpose(1, 0, 2)
        return wanted(inter, np.broadcast_to(self.rows, inter.shape), columns)

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
        """Label flips with low < s < high along a segment of weights, part after part.

        Args:
            ends: two weight vectors [M] of sum 1.
            low, high: the stretch of the segment.
            room: flips that may be kept of each frame.
            multipliers: [C], the same all along.
            apart: every video is a case of its own.
        """
        scale, cases = self._scale(multipliers, 1)[0], len(self.videos) if apart else 1
        for case, pixels in enumerate(self.pixels):
            for frames in pixels.frames():
                found = resized.flips(frames, ends, scale, low, high, room)
                yield found.of_case(case, cases) if apart else found

    def fused(self, weights: ArrayLike, reach: float = 1.0) -> Condensed:
        """Condensed pixels of one group, the sum under weights [M], for multipliers within reach.

        Its scores are those of `fusion.kernels.resized`, interpolated after they are summed.
        """
        (vector,) = self.normalised(np.asarray(weights, np.float64)[None]).astype(np.float64)
        names = (("fused",), self.classes, self.videos)
        pixels = tuple(each.fused(vector, len(self.classes), reach) for each in self.pixels)
        return Condensed(*names, pixels, self.memory, reach=reach)

    def _checked(
        self, weights: ArrayLike, multipliers: ArrayLike | None
    ) -> tuple[NDArray[np.float64], Floats]:
        """Weights [B, M] of sum 1 and multipliers [B, C]."""
        rows = self.normalised(weights).astype(np.float64)
        return rows, self._scale(multipliers, len(rows))

    def _scale(self, multipliers: ArrayLike | None, number: int) -> Floats:
        if multipliers is None:
            return np.ones((number, len(self.classes)), np.float32)
        return multiplier_rows(multipliers, number, len(self.classes))

    def _counts(
        self,
        videos: Sequence[VideoMaps],
        weights: NDArray[np.float64],
        scale: Floats,
        *,
        matrix: bool,
    ) -> Ints:
        """Counts as kernels.resized gives them, over some videos: [B, C or 2, C]."""
        size = len(self.classes)
        total = np.zeros((len(weights), size if matrix else 2, size), np.int64)
        for pixels in videos:
            for frames in pixels.frames():
                total += resized.count(frames, weights, scale, matrix=matrix)
        return total
