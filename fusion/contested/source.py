"""What a search needs of its pixels, whatever they are kept as.

G groups (of one model each where models get weights), C classes, V videos, B weight vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.contested.pixels import Condensed
from fusion.ensemble.plan import Budget
from fusion.kernels.contested.layout import Floats, Ints
from fusion.kernels.sweep import Ends, Flips
from fusion.metrics.objectives import Objective


class Pixels(Protocol):
    """The scored pixels of a set of videos: `Condensed`, or `Maps` at store resolution.

    Weights are raw, a row per vector, in the order of `groups`. groups, classes, videos: names.
    rows: int64 [C], scored pixels per target class. base: int64 [2, C], intersections and
    predictions of the pixels that `flips` leaves out; rows_per_video [V, C] and base_per_video
    [V, 2, C] the same for each video. scored: how many pixels count. budget: what evaluation may
    use. about, sizes: what is looked at, for people and for files.

    Where there are `multipliers`, b_c > 0 as [C] or one row per vector, label = argmax_c b_c F_c.
    """

    @property
    def groups(self) -> tuple[str, ...]: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def videos(self) -> tuple[str, ...]: ...
    @property
    def rows(self) -> Ints: ...
    @property
    def base(self) -> Ints: ...
    @property
    def rows_per_video(self) -> Ints: ...
    @property
    def base_per_video(self) -> Ints: ...
    @property
    def scored(self) -> int: ...
    @property
    def budget(self) -> Budget: ...
    @property
    def about(self) -> str: ...
    @property
    def sizes(self) -> Mapping[str, int]: ...

    def subset(self, videos: Sequence[str]) -> Self:
        """The same for some of the videos. InputError: unknown, twice, none."""
        ...

    def normalised(self, weights: ArrayLike) -> Floats:
        """Weights [B, G] as fusion uses them; InputError says why they cannot be."""
        ...

    def confusion(self, weights: ArrayLike, multipliers: ArrayLike | None = None) -> Ints:
        """Confusion matrices [V, C, C] of every video under one weight vector [G]."""
        ...

    def confusions(self, weights: ArrayLike, multipliers: ArrayLike | None = None) -> Ints:
        """Confusion matrices [B, C, C] of all videos together under weights [B, G]."""
        ...

    def statistics(self, weights: ArrayLike, multipliers: ArrayLike | None = None) -> Ints:
        """Intersections and predictions [V, B, 2, C] of every video under weights [B, G]."""
        ...

    def miou(
        self,
        weights: ArrayLike,
        convention: str | Objective = "vspw",
        multipliers: ArrayLike | None = None,
    ) -> NDArray[np.float64]:
        """The objective [B] under weights [B, G], the value that the matrices give; nan of none."""
        ...

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
        """Label flips with low < s < high along a segment of weights, batch after batch."""
        ...

    def fused(self, weights: ArrayLike, reach: float = 1.0) -> Condensed:
        """One group, the sum under weights [G]: serves multipliers within [1 / reach, reach]."""
        ...
