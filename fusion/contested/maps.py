"""Maps at store resolution: a weight for every one of many models, without a pixel condensed.

Over many models most pixels are contested, and each keeps a score of every model. But fusing and
bilinear interpolation commute: what is kept is each model's probabilities as the stores have them,
and every weighting sums first and interpolates its sum (fusion.kernels.resized). Labels may differ
from fusion's at near ties, where float32 rounds in another order: what a search finds here is
scored again by evaluation.

M models (or groups), C classes, T frames, V videos, B weight vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.contested.pixels import MEMORY
from fusion.contested.source import places, weight_rows
from fusion.ensemble.plan import Budget
from fusion.errors import InputError
from fusion.kernels import resized
from fusion.kernels.contested.layout import Floats, Ints
from fusion.kernels.resized import Frames
from fusion.kernels.sweep import Ends, Flips
from fusion.metrics import miou_of_counts


@dataclass(frozen=True, eq=False)
class VideoMaps:
    """One video's maps, in memory or read again at every pass.

    frames: gives them in order, in one or several parts. rows: int64 [C], scored pixels per target.
    models: M.
    """

    frames: Callable[[], Iterator[Frames]]
    rows: Ints
    models: int

    @classmethod
    def held(cls, *parts: Frames) -> VideoMaps:
        """In memory."""
        classes, models = parts[0].classes, parts[0].maps.shape[1]
        counted = [np.bincount(part.targets.ravel(), minlength=classes) for part in parts]
        rows = np.sum([each[:classes] for each in counted], axis=0)
        return cls(partial(iter, parts), rows, models)


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

    def miou(
        self, weights: ArrayLike, convention: str = "vspw", multipliers: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """mIoU [B] under weights [B, M], the very value that `confusions` gives; nan of none."""
        counts = self._counts(self.pixels, *self._checked(weights, multipliers), matrix=False)
        inter, columns = counts.transpose(1, 0, 2)
        return miou_of_counts(inter, np.broadcast_to(self.rows, inter.shape), columns, convention)

    def flips(
        self,
        ends: Ends,
        low: float,
        high: float,
        room: int,
        multipliers: ArrayLike | None = None,
    ) -> Iterator[Flips]:
        """Label flips with low < s < high along a segment of weights, part after part.

        Args:
            ends: two weight vectors [M] of sum 1.
            room: flips that may be kept of each frame.
        """
        scale = self._scale(multipliers, 1)[0]
        for pixels in self.pixels:
            for frames in pixels.frames():
                yield resized.flips(frames, ends, scale, low, high, room)

    def _checked(
        self, weights: ArrayLike, multipliers: ArrayLike | None
    ) -> tuple[NDArray[np.float64], Floats]:
        """Weights [B, M] of sum 1 and multipliers [B, C]."""
        rows = self.normalised(weights).astype(np.float64)
        return rows, self._scale(multipliers, len(rows))

    def _scale(self, multipliers: ArrayLike | None, number: int) -> Floats:
        shape = (number, len(self.classes))
        if multipliers is None:
            return np.ones(shape, np.float32)
        given = np.asarray(multipliers, np.float32)
        sound = np.isfinite(given) & (given > 0)
        if given.shape not in (shape, shape[1:]) or not sound.all():
            what = f"got {given[~sound][:3].tolist()} in shape {list(given.shape)}"
            do = f"give {shape[1]} finite numbers above 0, or a row of them per weight vector"
            raise InputError(f"multipliers: {what}; {do}")
        return np.ascontiguousarray(np.broadcast_to(given, shape))

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
