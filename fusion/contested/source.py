"""What a search needs of its pixels, whatever they are kept as, and what all kinds of them check.

G groups (of one model each where models get weights), C classes, V videos, B weight vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.ensemble.plan import Budget
from fusion.errors import InputError
from fusion.kernels.arithmetic import normalised, normalised_multipliers
from fusion.kernels.contested.layout import Floats, Ints
from fusion.kernels.sweep import Ends, Flips
from fusion.metrics.objectives import Objective

if TYPE_CHECKING:
    from fusion.contested.pixels import Condensed


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


def weight_rows(weights: ArrayLike, groups: Sequence[str]) -> Floats:
    """Weights [B, G] divided by their sums, float32; InputError says why they cannot be."""
    advice = f"give [vectors, {len(groups)}] in the order {list(groups)}"
    try:
        raw = np.asarray(weights, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"weights: not one table of numbers ({error}); {advice}") from error
    if raw.ndim != 2 or raw.shape[1] != len(groups):
        raise InputError(f"weights: got shape {list(raw.shape)}; {advice}")
    try:
        rows = [normalised(row) for row in raw.tolist()]
    except ValueError as error:
        raise InputError(str(error)) from error
    return np.array(rows, np.float32).reshape(raw.shape)


def multiplier_rows(multipliers: ArrayLike, vectors: int, classes: int) -> Floats:
    """Multipliers [C] or [B, C] divided by their largest, float32, a row for each of B vectors."""
    raw = np.atleast_2d(np.asarray(multipliers, np.float64))
    try:
        rows = [normalised_multipliers(row, classes) for row in raw.tolist()]
    except ValueError as error:
        raise InputError(f"{error}, in the order of the classes") from error
    if len(rows) not in (1, vectors):
        raise InputError(
            f"multipliers: got {len(rows)} rows; give one, or one for each of {vectors}"
        )
    made = np.array(rows, np.float32).reshape(-1, classes)
    return np.ascontiguousarray(np.broadcast_to(made, (vectors, classes)))


def places(videos: Sequence[str], known: Sequence[str]) -> list[int]:
    """Where videos stand among the known ones. InputError: unknown, twice, none."""
    place = {video: index for index, video in enumerate(known)}
    unknown = [video for video in videos if video not in place]
    if unknown or len(set(videos)) != len(videos) or not videos:
        got = f"videos {list(videos)[:5]}, unknown {unknown[:5]}"
        raise InputError(f"subset: {got}; give different ones of the {len(place)} videos")
    return [place[video] for video in videos]
