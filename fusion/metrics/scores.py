"""`Scores`: what one confusion matrix per video says, under a named convention.

C classes; r row sums, c column sums and d diagonal of the sum of all matrices; fractions:

    IoU_k             d_k / (r_k + c_k - d_k)
    class accuracy    d_k / r_k                        mean accuracy: its mean over r_k > 0
    pixel accuracy    sum d / sum r
    fwIoU             sum over r_k > 0 of (r_k / sum r) IoU_k
    mIoU              the dataset's, from the summed matrix: never a mean of per-frame values
    video mIoU        plain mean over videos of each one's mIoU (the VSPW baseline's script only)
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fusion.arguments import checked
from fusion.errors import InputError
from fusion.metrics import intervals
from fusion.metrics.confusion import class_iou, miou
from fusion.metrics.intervals import Gain, Interval
from fusion.metrics.objectives import (
    CONVENTIONS,
    OBJECTIVES,
    Counts,
    Floats,
    Objective,
    counts,
    dice,
    objective,
)
from fusion.text import html_table, or_none, percent, table

Units = Mapping[str, str] | None  # video id to name of its unit


@checked
@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """Scores of a set of videos; those of different videos add up with ``+``.

    Warns where no pixel was scored: every score is then nan.

    Args:
        confusions: video id to integer matrix [C, C], rows targets.
        classes: the C names.
        convention: what `score` is: which classes the mean IoU is over, a name in
            `fusion.metrics.CONVENTIONS`, or any other objective of `fusion.metrics.objectives`.

    Raises:
        InputError: a matrix is not square integer counts of the names' size, or names do not fit.
    """

    confusions: Mapping[str, Counts]
    classes: Sequence[str]
    convention: str | Objective = "vspw"

    def __post_init__(self) -> None:
        objective(self.convention)
        names = tuple(self.classes)
        if not names or len(set(names)) != len(names):
            got = f"got {len(names)} names, {len(set(names))} different"
            raise InputError(f"classes: {got}; give each class a name of its own")
        matrices = {v: _matrix(v, matrix, len(names)) for v, matrix in self.confusions.items()}
        object.__setattr__(self, "classes", names)
        object.__setattr__(self, "confusions", matrices)
        if not any(matrix.any() for matrix in matrices.values()):
            got = f"no pixel was scored in {len(matrices)} videos"
            warnings.warn(f"{got}: all targets are void, every score is nan", stacklevel=3)

    def __repr__(self) -> str:
        what = "miou" if self.objective.kind in CONVENTIONS else "score"
        by = f"{what}={self.score:.4f} by {self.objective.name!r}, fwiou={self.fwiou:.4f}"
        size = f"{len(self.confusions)} videos, {len(self.classes)} classes"
        return f"Scores({by}, pixel_accuracy={self.pixel_accuracy:.4f}; {size})"

    @cached_property
    def confusion(self) -> Counts:
        """int64 [C, C]: the sum over all videos."""
        total = sum(self.confusions.values(), np.zeros((len(self.classes),) * 2, np.int64))
        total.flags.writeable = False
        return total

    @property
    def objective(self) -> Objective:
        """What `score` is."""
        return objective(self.convention)

    @property
    def score(self) -> float:
        """The objective: `miou`, unless `convention` names another."""
        return self.objective.of(self._matrices()[0])

    @property
    def miou(self) -> float:
        """Dataset mIoU over all classes, by `convention` if that is one, else by ``vspw``."""
        return float(miou(self.confusion, self._convention))

    @property
    def _convention(self) -> str:
        return self.objective.name if self.objective.name in CONVENTIONS else "vspw"

    @property
    def class_iou(self) -> Floats:
        """float64 [C]; nan for a class that is neither in the targets nor predicted."""
        return class_iou(self.confusion)

    @property
    def class_dice(self) -> Floats:
        """float64 [C]; nan for a class that is neither in the targets nor predicted."""
        return dice(*counts(self.confusion), empty=math.nan)

    @property
    def class_accuracy(self) -> Floats:
        """float64 [C]: which fraction of each class's pixels was found; nan for one without."""
        inter, rows, _ = counts(self.confusion)
        return np.divide(inter, rows, out=np.full(rows.shape, np.nan), where=rows > 0)

    @property
    def mean_accuracy(self) -> float:
        """Mean of `class_accuracy` over the classes that have pixels."""
        return _mean(self.class_accuracy)

    @property
    def pixel_accuracy(self) -> float:
        """Fraction of the scored pixels whose label is right."""
        total = int(self.confusion.sum())
        return int(np.trace(self.confusion)) / total if total else math.nan

    @property
    def fwiou(self) -> float:
        """IoU weighted by each class's fraction of the targets."""
        return OBJECTIVES["fwiou"].of(self.confusion[None])

    @property
    def per_video(self) -> dict[str, float]:
        """mIoU of each video on its own; nan for a video without a scored pixel."""
        return {v: float(miou(cm, self._convention)) for v, cm in self.confusions.items()}

    @property
    def video_miou(self) -> float:
        """Plain mean of `per_video` over the videos that have scored pixels."""
        return _mean(self.per_video.values())

    def with_convention(self, convention: str | Objective) -> Scores:
        """The same matrices under another convention."""
        objective(convention)
        other = copy.copy(self)
        object.__setattr__(other, "convention", convention)
        return other

    def __add__(self, other: Scores) -> Scores:
        """Scores of the videos of both.

        Raises:
            InputError: other classes or convention, or a video in both (it would count twice).
        """
        self._check_comparable(other)
        if twice := sorted(self.confusions.keys() & other.confusions.keys()):
            got = f"video {twice[0]!r} is in both ({len(twice)} such)"
            raise InputError(f"scores: {got}; add scores of different videos")
        return Scores({**self.confusions, **other.confusions}, self.classes, self.convention)

    def interval(self, level: float = 0.95, *, units: Units = None) -> Interval:
        """Interval (low, high) of `score`; nan below 2 units with pixels (`metrics.intervals`).

        Args:
            level: the fraction of such intervals that shall hold the score of all such videos.
            units: names the unit of each video, of those that belong together; default the videos.

        Raises:
            InputError: a level outside 0 to 1, or a video without unit.
        """
        confusions, index = self._matrices(units)
        return intervals.interval(confusions, self.objective, level, units=index)

    def prediction_interval(
        self,
        videos: int | None = None,
        level: float = 0.95,
        *,
        units: Units = None,
        choice: float = 0.0,
    ) -> Interval:
        """The same for the score of so many new videos of the same kind, default as many.

        choice: what choosing on these videos adds to the variance, as a share of it.
        """
        confusions, index = self._matrices(units)
        given = confusions, self.objective, videos, level
        return intervals.prediction_interval(*given, units=index, choice=choice)

    def difference_interval(
        self, other: Scores, level: float = 0.95, *, units: Units = None
    ) -> Interval:
        """The same for ``self.score - other.score``, leaving out the same units in both.

        Raises:
            InputError: other videos, classes or convention, or targets that differ between the two.
        """
        return self.gain(other, level=level, units=units).interval

    def gain(
        self,
        other: Scores,
        over: str = "uniform weights",
        level: float = 0.95,
        *,
        units: Units = None,
    ) -> Gain:
        """``self.score - other.score``, and whether it is more than chance; raises as above."""
        self._check_comparable(other)
        if alone := sorted(self.confusions.keys() ^ other.confusions.keys()):
            got = f"video {alone[0]!r} is in one of the two only ({len(alone)} such)"
            raise InputError(f"scores: {got}; compare on the same videos")
        for video, matrix in self.confusions.items():
            if not np.array_equal(matrix.sum(axis=1), other.confusions[video].sum(axis=1)):
                got = f"video {video!r} was scored against other targets in each"
                raise InputError(f"scores: {got}; compare on the same labels")
        (mine, index), (theirs, _) = self._matrices(units), other._matrices(units)
        return Gain.between(mine, theirs, self.objective, over, level, units=index)

    def class_table(self) -> str:
        """A table for people: IoU, Dice, accuracy (percent) and pixels of every class."""
        return table(*self._class_rows())

    def _class_rows(self) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
        """Rows of that table, and its header."""
        measures = (self.class_iou, self.class_dice, self.class_accuracy)
        shares = (map(percent, values) for values in measures)
        pixels = map(str, self.confusion.sum(axis=1))
        rows = [*zip(self.classes, *shares, pixels, strict=True)]
        return rows, ("class", "IoU %", "Dice %", "accuracy %", "pixels")

    def to_pandas(self, by: str = "classes") -> Any:
        """A `pandas.DataFrame`: fractions, NaN where there is none.

        Args:
            by: "classes" (columns class, iou, dice, accuracy, pixels) or "videos" (columns video,
                miou, pixels).

        Raises:
            InputError: pandas is not installed, or another `by`.
        """
        try:
            import pandas
        except ImportError as error:
            do = "pip install pandas"
            raise InputError(f"to_pandas needs pandas, which is not installed; {do}") from error
        if by == "classes":
            shares = {"iou": self.class_iou, "dice": self.class_dice}
            shares["accuracy"] = self.class_accuracy
            pixels = self.confusion.sum(axis=1)
            return pandas.DataFrame({"class": list(self.classes), **shares, "pixels": pixels})
        if by != "videos":
            raise InputError(f"to_pandas: got by={by!r}; choose one of classes, videos")
        counted = [int(matrix.sum()) for matrix in self.confusions.values()]
        columns = {"miou": list(self.per_video.values()), "pixels": counted}
        return pandas.DataFrame({"video": list(self.per_video), **columns})

    def _repr_html_(self) -> str:
        return html_table(*self._class_rows(), repr(self))

    def to_json(self) -> dict[str, Any]:
        """Plain values ready for `json.dump`: fractions, None where a score is nan."""

        totals = ("miou", "fwiou", "pixel_accuracy", "mean_accuracy", "video_miou")

        def by_class(values: Floats) -> dict[str, float | None]:
            return dict(zip(self.classes, map(or_none, values), strict=True))

        return {
            "convention": self.objective.name,
            "score": or_none(self.score),
            "videos": len(self.confusions),
            "pixels": int(self.confusion.sum()),
            **{name: or_none(getattr(self, name)) for name in totals},
            "class_iou": by_class(self.class_iou),
            "class_dice": by_class(self.class_dice),
            "class_accuracy": by_class(self.class_accuracy),
            "per_video": {video: or_none(value) for video, value in self.per_video.items()},
        }

    def _matrices(self, units: Units = None) -> tuple[Counts, list[int] | None]:
        """[V, C, C] by name of video, whose order must not change a bit, and each one's unit."""
        names = sorted(self.confusions)
        matrices = [np.zeros((0, len(self.classes), len(self.classes)), np.int64)]
        matrices += [self.confusions[name][None] for name in names]
        if units is None:
            return np.concatenate(matrices), None
        if unknown := [name for name in names if name not in units]:
            got = f"video {unknown[0]!r} has no unit ({len(unknown)} such)"
            raise InputError(f"units: {got}; name the unit of every video")
        found = dict.fromkeys(units[name] for name in names)
        places = {unit: place for place, unit in enumerate(found)}
        return np.concatenate(matrices), [places[units[name]] for name in names]

    def _check_comparable(self, other: Scores) -> None:
        if self.classes != other.classes:
            got = f"{len(self.classes)} and {len(other.classes)} classes"
            raise InputError(f"scores: {got} that differ in name or order; use the same")
        if self.objective != other.objective:
            got = f"conventions {self.objective.name!r} and {other.objective.name!r}"
            raise InputError(f"scores: {got}; use with_convention first")


def _matrix(video: str, matrix: Counts, classes: int) -> Counts:
    """A read-only int64 copy, checked."""
    array = np.asarray(matrix)
    if array.dtype.kind not in "iu" or array.shape != (classes, classes):
        got = f"video {video!r} has {array.dtype} {list(array.shape)}"
        raise InputError(f"scores: {got}; give integer [{classes}, {classes}]")
    if (array < 0).any():
        raise InputError(f"scores: video {video!r} has a negative count; give pixel counts")
    array = array.astype(np.int64)
    array.flags.writeable = False
    return array


def _mean(values: Any) -> float:
    """Mean without nan, correctly rounded and so independent of order; nan of nothing."""
    known = [float(value) for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
