"""Predictions beside ground truth: what can be scored, and the task of one video that counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from fusion.kernels.numbers import void_label
from fusion.metrics.confusion import confusion
from fusion.metrics.objectives import Counts

if TYPE_CHECKING:
    from fusion.labels import Labels


class Predictions(Protocol):
    """What can be scored: an ensemble, or label maps on disk.

    `label_maps` gives (frame id, labels [H, W]) of these frames, in this order; `scored_videos` and
    `labelled_frames` say what is scored against `truth`, in order of time; `target` is the ground
    truth [H, W] of a frame, checked against classes and size.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...
    def label_maps(self, video: str, frames: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]: ...
    def scored_videos(self, truth: Labels) -> tuple[str, ...]: ...
    def labelled_frames(self, truth: Labels, video: str) -> list[str]: ...
    def target(self, truth: Labels, video: str, frame: str) -> np.ndarray: ...


@dataclass(frozen=True)
class VideoConfusion:
    """The task of one video: [C, C] int64, rows ground truth, columns predictions."""

    source: Predictions
    truth: Labels

    def __call__(self, video: str) -> Counts:
        total = np.zeros((len(self.source.classes),) * 2, np.int64)
        for _ in self.counted(video, total):
            pass
        return total

    def counted(self, video: str, total: Counts) -> Iterator[np.ndarray]:
        """The labels of each labelled frame, once its counts were added to `total` [C, C]."""
        classes, frames = len(total), self.source.labelled_frames(self.truth, video)
        for frame, labels in self.source.label_maps(video, frames):
            target = self.source.target(self.truth, video, frame)
            total += confusion(target, labels, classes, ignore=void_label(classes))
            yield labels
