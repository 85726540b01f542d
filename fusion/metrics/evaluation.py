"""Predictions beside ground truth, frame by frame: the one loop that every task of a video is made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fusion.kernels.arithmetic import ignore_label
from fusion.metrics.confusion import confusion

if TYPE_CHECKING:
    from fusion.labels import Labels


class Predictions(Protocol):
    """What can be scored: an ensemble, or label maps on disk."""

    classes: tuple[str, ...]

    def label_maps(self, video: str, frames: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]: ...
    def labelled_frames(self, truth: Labels, video: str) -> list[str]: ...
    def target(self, truth: Labels, video: str, frame: str) -> np.ndarray: ...


@dataclass(frozen=True)
class VideoConfusion:
    """The task of one video, for any Dask scheduler: [C, C] int64, rows ground truth, columns predictions."""

    source: Predictions
    truth: Labels

    def __call__(self, video: str) -> np.ndarray:
        classes = len(self.source.classes)
        total = np.zeros((classes, classes), np.int64)
        for frame, labels in self.source.label_maps(
            video, self.source.labelled_frames(self.truth, video)
        ):
            target = self.source.target(self.truth, video, frame)
            total += confusion(target, labels, classes, ignore=ignore_label(classes))
        return total
