"""What every store is, on a disk or in memory: one model's numbers by video and frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion.arguments import checked
from fusion.errors import InputError
from fusion.stores import format as disk
from fusion.stores.codec import CHANNELS
from fusion.stores.documents import dump, sha256
from fusion.stores.locations import location_of
from fusion.text import did_you_mean, html_table, listed

SHOWN = 7  # videos in a notebook


@checked
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
        reads_ahead: whether `codes` is worth calling from other threads, before its turn.
    """

    item_bytes: int
    reads_ahead = False

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
        self._order: dict[str, dict[str, int]] = {}  # of frame ids, of videos that were read

    def __repr__(self) -> str:
        frames = sum(len(info.frames) for info in self._videos.values())
        held = f"{len(self.classes)} classes, {len(self._videos)} videos, {frames} frames"
        return f"{type(self).__name__}({self.place!r}: {self.profile}, {held})"

    def _repr_html_(self) -> str:
        shown = [self.describe(video) for video in self.videos[:SHOWN]]
        rows = [(v.video, len(v.frames), "x".join(map(str, v.frame_shape))) for v in shown]
        more = len(self.videos) - len(rows)
        said = f"{self!r}: classes {listed(self.classes)}" + (f"; {more} more videos" * (more > 0))
        return html_table(rows, ("video", "frames", "C x h x w"), said)

    @property
    @abstractmethod
    def folder(self) -> Path:
        """Where it lies; InputError where it lies nowhere."""

    @property
    def file_name(self) -> str:
        """The name by which the same store of another split is found; InputError for none."""
        return self.folder.name

    def seen_from(self, folder: Path) -> str:
        """Its address as a file in a folder of the disk gives it; InputError for none.

        Args:
            folder: of that file.
        """
        return location_of(self.folder).seen_from(folder)

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

    def needed(self, video: str) -> int:
        """Bytes that reading a video holds beside its codes: of a server's answers, else none."""
        return 0

    @abstractmethod
    def codes(self, video: str, frames: Sequence[str] | None = None) -> np.ndarray:
        """Frames as they are kept, [T, C, h, w], which kernels read as they are.

        Args:
            video: its id.
            frames: ids, in the order asked for; default all, in stored order.
        """

    def codes_into(self, video: str, frames: Sequence[str], out: np.ndarray) -> None:
        """Puts `codes` into memory that is there already.

        Args:
            video: its id.
            frames: ids, in the order asked for.
            out: [T, C, h, w] of the codes' dtype; a frame has no gaps, there may be some between
                frames.

        Raises:
            InputError: an array of another shape or dtype.
        """
        self._fits(out, video)[...] = self.codes(video, frames)

    def _fits(self, out: np.ndarray, video: str) -> np.ndarray:
        """The array, if frames of a video can be unpacked into it."""
        shape, size = self.describe(video).frame_shape, self.item_bytes
        dtype = np.dtype("u1" if size == 1 else f"f{size}")
        gaps = out.ndim == 4 and len(out) and not out[0].flags.c_contiguous
        if out.shape[1:] != shape or out.dtype != dtype or gaps:
            got = f"out: got {out.dtype} {list(out.shape)}" + ", frames with gaps" * bool(gaps)
            do = f"give {dtype} [T, {', '.join(map(str, shape))}], frames without gaps"
            raise InputError(f"{self.place}: {got}; {do}")
        return out

    @abstractmethod
    def read(self, video: str, frames: Sequence[str] | None = None) -> np.ndarray:
        """The same as float32."""

    def digest(self, videos: Sequence[str] | None = None) -> str:
        """sha256 of what the numbers are: the store's kind, every frame's id and crc. No time.

        A geometry counts where there is one, for it decides what is written; packs do not.
        """
        parts: list[Any] = [self.model, list(self.classes), self.profile, self.values]
        for video in sorted(self.videos if videos is None else videos):
            v = self.describe(video)
            part = [v.video, list(v.frames), list(v.size), list(v.shape), list(v.crc)]
            parts.append(part if v.geometry is None else [*part, v.geometry])
        return sha256(dump({"digest": parts}))

    def _positions(self, video: str, frames: Sequence[str] | None) -> Sequence[int]:
        """Where frames stand in their video, by id, never by position: models may have been run
        on other frames."""
        own = self.describe(video).frames
        if frames is None:
            return range(len(own))
        order = self._order.get(video)
        if order is None:
            order = self._order[video] = {frame: index for index, frame in enumerate(own)}
        missing = [frame for frame in frames if frame not in order]
        if missing:
            count = f"{len(missing)} missing of {len(order)}"
            raise InputError(f"{self.place}: video {video!r} has no frame {missing[0]!r} ({count})")
        return [order[frame] for frame in frames]
