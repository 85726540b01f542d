"""What every store is, on a disk or in memory: one model's numbers by video and frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion.errors import InputError
from fusion.stores import format as disk
from fusion.stores.codec import CHANNELS
from fusion.text import did_you_mean


class Store(ABC):
    """One model's predictions for one split, wherever they are kept: what ensembles read.

    Attributes:
        place: what errors and `temperatures` call it: its path, or a name where it has none.
        model: its name.
        videos: ids in sorted order.
        classes: C names.
        profile: how numbers are kept.
        values: what the source was, one of `fusion.stores.format.VALUES`.
        channels: whether classes are independent channels ("sigmoid").
        kernel_values: what `fusion.kernels` calls the codes; its "probabilities" get no softmax.
        item_bytes: of one number, as `codes` gives it.
    """

    item_bytes: int

    def __init__(
        self,
        place: str,
        model: str,
        classes: tuple[str, ...],
        profile: str,
        values: str,
        videos: Iterable[disk.VideoInfo],
    ) -> None:
        self.place, self.model, self.classes = place, model, classes
        self.profile, self.values, self.channels = profile, values, values in CHANNELS
        self.kernel_values = "probabilities" if values == "scores" else "logits"
        self._videos = {video.video: video for video in videos}
        self.videos = tuple(sorted(self._videos))

    def __repr__(self) -> str:
        frames = sum(len(info.frames) for info in self._videos.values())
        held = f"{len(self.classes)} classes, {len(self._videos)} videos, {frames} frames"
        return f"{type(self).__name__}({self.place!r}: {self.profile}, {held})"

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where it lies; InputError where it lies nowhere."""

    @property
    def identity(self) -> str:
        """Equal for two objects of one store; what stores of one model's name are ordered by."""
        return self.place

    def is_called(self, key: str) -> bool:
        """Whether a name of `temperatures` means this store."""
        return key in (self.place, self.model)

    def describe(self, video: str) -> disk.VideoInfo:
        """Shape, frame ids and source size of a video; InputError with the closest name if none."""
        if video not in self._videos:
            raise InputError(f"{self.place}: no video {video!r}{did_you_mean(video, self.videos)}")
        return self._videos[video]

    def frames(self, video: str) -> tuple[str, ...]:
        """Frame ids in stored order."""
        return self.describe(video).frames

    @abstractmethod
    def codes(self, video: str, frames: Sequence[str] | None = None) -> np.ndarray:
        """Frames as they are kept, [T, C, h, w], which kernels read as they are.

        Args:
            video: its id.
            frames: ids, in the order asked for; default all, in stored order.
        """

    @abstractmethod
    def read(self, video: str, frames: Sequence[str] | None = None) -> np.ndarray:
        """The same as float32."""

    def digest(self, videos: Sequence[str] | None = None) -> str:
        """sha256 of what the numbers are: the store's kind, every frame's id and crc. No time."""
        parts: list[Any] = [self.model, list(self.classes), self.profile, self.values]
        for video in sorted(self.videos if videos is None else videos):
            v = self.describe(video)
            parts.append([v.video, list(v.frames), list(v.size), list(v.shape), list(v.crc)])
        return disk.sha256(disk.dump({"digest": parts}))

    def _positions(self, video: str, frames: Sequence[str] | None) -> Sequence[int]:
        """Where frames stand in their video, by id, never by position: models may have been run
        on other frames."""
        order = {frame: index for index, frame in enumerate(self.describe(video).frames)}
        missing = [frame for frame in frames or () if frame not in order]
        if missing:
            count = f"{len(missing)} missing of {len(order)}"
            raise InputError(f"{self.place}: video {video!r} has no frame {missing[0]!r} ({count})")
        return range(len(order)) if frames is None else [order[frame] for frame in frames]
