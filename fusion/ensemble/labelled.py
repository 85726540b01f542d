"""An ensemble beside ground truth: which videos and frames are scored, and what is true of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fusion.ensemble.channels import outcomes
from fusion.errors import InputError

if TYPE_CHECKING:
    from fusion.labels import Labels


class Labelled:
    """What an ensemble has of `fusion.metrics.evaluation.Predictions` for want of labels.

    align, classes, channels, videos: the ensemble's.
    """

    align: str
    classes: tuple[str, ...]
    channels: tuple[str, ...] | None
    videos: tuple[str, ...]
    _frames: Mapping[str, tuple[str, ...]]

    def frames(self, video: str) -> tuple[str, ...]:
        """Frame ids of a video, in stored order."""
        raise NotImplementedError

    def size(self, video: str) -> tuple[int, int]:
        """(H, W) of a video's labels."""
        raise NotImplementedError

    def scored_videos(self, truth: Labels, videos: Sequence[str] | None = None) -> tuple[str, ...]:
        """The videos that are scored; InputError where a store lacks one of them."""
        from fusion.labels.matching import check_names, mismatch

        check_names(truth, self.classes)
        wanted = tuple(truth.videos if videos is None else videos)
        kept = tuple(video for video in wanted if video in self._frames)
        strict = self.align == "strict"
        if not kept or (strict and len(kept) < len(wanted)):
            raise mismatch(wanted, self.videos, "videos", intersect=strict)
        return kept

    def labelled_frames(self, truth: Labels, video: str) -> list[str]:
        """Frames that have labels, in stored order; InputError for labels that no frame has."""
        from fusion.labels.matching import mismatch

        labels, frames, strict = truth.frames(video), self.frames(video), self.align == "strict"
        known = set(labels)
        shared = [frame for frame in frames if frame in known]
        if not shared or (strict and len(shared) < len(known)):
            where = f"video {video!r}: "
            raise mismatch(labels, frames, "frames", intersect=strict, where=where)
        return shared

    def target(self, truth: Labels, video: str, frame: str) -> np.ndarray:
        """Ground truth [H, W] of a frame, checked against classes and source size.

        Of independent channels [C, H, W], ids of their two classes each.
        """
        if self.channels is None:
            target = truth.read(video, frame, classes=len(self.classes))
        else:
            target = outcomes(truth.channels(video, frame, self.channels))
        (height, width), found = self.size(video), target.shape[-2:]
        if found != (height, width):
            got = f"labels are {found[0]}x{found[1]}, the stores say {height}x{width}"
            where = f"video {video!r}, frame {frame!r}"
            raise InputError(f"{where}: {got}; write the stores with size= of the labels")
        return target
