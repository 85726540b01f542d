"""`Scores`: what one confusion matrix per video says, under a named convention.

C classes, V videos; r row sums, c column sums and d diagonal of the sum of all matrices. All scores are fractions:

    IoU_k             d_k / (r_k + c_k - d_k)
    class accuracy    d_k / r_k                        mean accuracy: its mean over r_k > 0
    pixel accuracy    sum d / sum r
    fwIoU             sum over r_k > 0 of (r_k / sum r) IoU_k
    mIoU              the dataset's, from the summed matrix: never a mean of per-frame values
    video mIoU        plain mean over videos of each video's mIoU (reported by the VSPW baseline's test script only)
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
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.metrics.bootstrap import Interval, check_options, percentile_interval, resampled_miou
from fusion.metrics.confusion import class_iou, counts, miou
from fusion.metrics.objectives import objective


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """Scores of a set of videos.

    confusions: video id to integer matrix [C, C], rows targets. classes: the C names. convention: see `fusion.metrics.confusion`.
    InputError: a matrix is not square, of other size, negative or not integer; names do not fit. Warns where no pixel was scored:
    every score is then nan. Scores of different videos add up with ``+``.
    """

    confusions: Mapping[str, NDArray[np.int64]]
    classes: Sequence[str]
    convention: str = "vspw"

    def __post_init__(self) -> None:
        objective(self.convention)
        names = tuple(self.classes)
        if not names or len(set(names)) != len(names):
            raise InputError(
                f"classes: got {len(names)} names, {len(set(names))} different; give each class a name of its own"
            )
        matrices = {
            video: _matrix(video, matrix, len(names)) for video, matrix in self.confusions.items()
        }
        object.__setattr__(self, "classes", names)
        object.__setattr__(self, "confusions", matrices)
        if not any(matrix.any() for matrix in matrices.values()):
            warnings.warn(
                f"no pixel was scored in {len(matrices)} videos: all targets are void, every score is nan",
                stacklevel=3,
            )

    def __repr__(self) -> str:
        return (
            f"Scores(miou={self.miou:.4f} by {self.convention!r}, fwiou={self.fwiou:.4f}, pixel_accuracy={self.pixel_accuracy:.4f}; "
            f"{len(self.confusions)} videos, {len(self.classes)} classes)"
        )

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """int64 [C, C]: the sum over all videos."""
        size = len(self.classes)
        total = sum(self.confusions.values(), start=np.zeros((size, size), dtype=np.int64))
        total.flags.writeable = False
        return total

    @property
    def miou(self) -> float:
        """Dataset mIoU under this object's convention."""
        return float(miou(self.confusion, self.convention))

    @property
    def class_iou(self) -> NDArray[np.float64]:
        """float64 [C]; nan for a class that is neither in the targets nor predicted."""
        return class_iou(self.confusion)

    @property
    def class_accuracy(self) -> NDArray[np.float64]:
        """float64 [C]: the share of each class's pixels that were found; nan for a class without pixels."""
        inter, rows, _ = counts(self.confusion)
        return np.divide(inter, rows, out=np.full(rows.shape, np.nan), where=rows > 0)

    @property
    def mean_accuracy(self) -> float:
        """Mean of `class_accuracy` over the classes that have pixels."""
        return _mean(self.class_accuracy)

    @property
    def pixel_accuracy(self) -> float:
        """Share of scored pixels whose label is right."""
        total = int(self.confusion.sum())
        return int(np.trace(self.confusion)) / total if total else math.nan

    @property
    def fwiou(self) -> float:
        """IoU weighted by each class's share of the targets."""
        rows = self.confusion.sum(axis=1)
        if not rows.any():
            return math.nan
        present = rows > 0
        return math.fsum(rows[present] / rows.sum() * self.class_iou[present])

    @property
    def per_video(self) -> dict[str, float]:
        """mIoU of each video on its own; nan for a video without a scored pixel."""
        return {
            video: float(miou(matrix, self.convention)) for video, matrix in self.confusions.items()
        }

    @property
    def video_miou(self) -> float:
        """Plain mean of `per_video` over the videos that have scored pixels."""
        return _mean(self.per_video.values())

    def with_convention(self, convention: str) -> Scores:
        """The same matrices under another convention."""
        objective(convention)
        other = copy.copy(self)
        object.__setattr__(other, "convention", convention)
        return other

    def __add__(self, other: Scores) -> Scores:
        """Scores of the videos of both. InputError: other classes or convention, or a video in both (it would count twice)."""
        self._check_comparable(other)
        twice = sorted(self.confusions.keys() & other.confusions.keys())
        if twice:
            raise InputError(
                f"scores: video {twice[0]!r} is in both ({len(twice)} such); add scores of different videos"
            )
        return Scores({**self.confusions, **other.confusions}, self.classes, self.convention)

    def interval(self, level: float = 0.95, samples: int = 2000, seed: int = 0) -> Interval:
        """Percentile bootstrap interval of `miou` over videos, as (low, high); (nan, nan) below 2 videos with scored pixels."""
        check_options(level, samples)
        matrices = self._scored()
        if len(matrices) < 2:
            return math.nan, math.nan
        return percentile_interval(resampled_miou(matrices, self.convention, samples, seed), level)

    def difference_interval(
        self, other: Scores, level: float = 0.95, samples: int = 2000, seed: int = 0
    ) -> Interval:
        """The same for ``self.miou - other.miou``, both resampled with the same draws of videos.

        InputError: other videos, classes or convention, or a video whose targets differ between the two.
        """
        check_options(level, samples)
        self._check_comparable(other)
        if self.confusions.keys() != other.confusions.keys():
            alone = sorted(self.confusions.keys() ^ other.confusions.keys())
            raise InputError(
                f"scores: video {alone[0]!r} is in one of the two only ({len(alone)} such); compare on the same videos"
            )
        for video, matrix in self.confusions.items():
            if not np.array_equal(matrix.sum(axis=1), other.confusions[video].sum(axis=1)):
                raise InputError(
                    f"scores: video {video!r} was scored against other targets in each; compare on the same labels"
                )
        mine, theirs = self._scored(), other._scored()
        if len(mine) < 2:
            return math.nan, math.nan
        drawn = [
            resampled_miou(matrices, self.convention, samples, seed) for matrices in (mine, theirs)
        ]
        return percentile_interval(drawn[0] - drawn[1], level)

    def to_json(self) -> dict[str, Any]:
        """Plain values ready for `json.dump`: fractions, None where a score is nan."""
        return {
            "convention": self.convention,
            "videos": len(self.confusions),
            "pixels": int(self.confusion.sum()),
            **{
                name: _plain(getattr(self, name))
                for name in ("miou", "fwiou", "pixel_accuracy", "mean_accuracy", "video_miou")
            },
            "class_iou": dict(zip(self.classes, map(_plain, self.class_iou.tolist()), strict=True)),
            "class_accuracy": dict(
                zip(self.classes, map(_plain, self.class_accuracy.tolist()), strict=True)
            ),
            "per_video": {video: _plain(value) for video, value in self.per_video.items()},
        }

    def _scored(self) -> NDArray[np.int64]:
        """[V, C, C] of the videos with scored pixels, by name: the order in which videos came must not change a draw."""
        size = len(self.classes)
        matrices = [
            self.confusions[video]
            for video in sorted(self.confusions)
            if self.confusions[video].any()
        ]
        return np.stack(matrices) if matrices else np.zeros((0, size, size), dtype=np.int64)

    def _check_comparable(self, other: Scores) -> None:
        if self.classes != other.classes:
            raise InputError(
                f"scores: {len(self.classes)} and {len(other.classes)} classes that differ in name or order; use the same"
            )
        if self.convention != other.convention:
            raise InputError(
                f"scores: conventions {self.convention!r} and {other.convention!r}; use with_convention first"
            )


def _matrix(video: str, matrix: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """A read-only int64 copy, checked."""
    array = np.asarray(matrix)
    if array.dtype.kind not in "iu" or array.shape != (classes, classes):
        raise InputError(
            f"scores: video {video!r} has {array.dtype} {list(array.shape)}; give integer [{classes}, {classes}]"
        )
    if array.size and int(array.min()) < 0:
        raise InputError(f"scores: video {video!r} has a negative count; give pixel counts")
    array = array.astype(np.int64)
    array.flags.writeable = False
    return array


def _mean(values: Any) -> float:
    """Mean without nan, correctly rounded and so independent of order; nan of nothing."""
    known = [float(value) for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
