"""Label maps on disk: ground truth and predictions in.

H W pixels, C classes. A label map is an array [H, W] of class ids 0..C-1 and void: uint8 with void
255, or, beyond 255 classes, uint16 with void 65535 (16-bit greyscale PNG). Where the files lie and
what their values mean is a layout's to say. A frame's id is its file's stem; a video may have
labels for some of its frames only. What is no whole label PNG of the right depth and size is an
error that names the file, never a guess.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError, StoreError
from fusion.kernels.numbers import void_label
from fusion.labels.layouts import LAYOUTS, Layout
from fusion.labels.layouts.base import directory, stems
from fusion.labels.png import PathLike, Size, read_png, read_size
from fusion.text import did_you_mean, listed


@dataclass(frozen=True)
class Labels:
    """The label maps of a set of videos; holds paths only. Made by `folder`, `vspw` or `open`.

    Args:
        root: where the data set lies.
        videos: ids in order.
        classes: C if it is known here; else any id is taken until `read` is told.
        stray: what becomes of ids outside 0..C-1 that are not void: "error", which names file and
            values, or "void".
        layout: a name in `LAYOUTS`.
    """

    root: Path
    videos: tuple[str, ...]
    classes: int | None = None
    stray: str = "error"
    layout: str = "folder"

    @classmethod
    def open(
        cls,
        layout: str,
        root: PathLike,
        split: str | None = None,
        *,
        classes: int | None = None,
        stray: str = "error",
    ) -> Labels:
        """The labels of a data set that lies as `layout` says.

        Raises:
            StoreError: no such directory or list, no masks, or a listed video without them.
            InputError: an unknown layout or stray rule.
        """
        if layout not in LAYOUTS:
            raise InputError(f"layout: got {layout!r}{did_you_mean(layout, LAYOUTS)}")
        if stray not in ("error", "void"):
            raise InputError(f"stray: got {stray!r}; choose one of error, void")
        rule, place = LAYOUTS[layout], directory(Path(root))
        return cls(place, rule.labelled(place, split), rule.classes or classes, stray, layout)

    @classmethod
    def folder(cls, path: PathLike, *, classes: int | None = None, stray: str = "error") -> Labels:
        """Labels as ``<video>/<frame>.png``, 16-bit beyond 255 classes; raises as `open`."""
        return cls.open("folder", path, classes=classes, stray=stray)

    @classmethod
    def vspw(cls, root: PathLike, split: str = "val", *, stray: str = "error") -> Labels:
        """Labels of a VSPW tree, 480p or original, as ``<split>.txt`` lists; raises as `open`."""
        return cls.open("vspw", root, split, stray=stray)

    @property
    def rule(self) -> Layout:
        """The layout itself."""
        return LAYOUTS[self.layout]

    @property
    def void(self) -> int:
        """The label of pixels that never count."""
        return void_label(self.classes)

    def frames(self, video: str) -> list[str]:
        """Ids of the frames that have labels, in natural order (2 before 10)."""
        folder = self._masks(video)
        if frames := stems(folder, ".png"):
            return frames
        raise StoreError(f"labels: {folder} has no PNG; remove the folder or restore its files")

    def path(self, video: str, frame: str) -> Path:
        """The file of one frame. InputError: no such video or frame, and what comes near."""
        folder = self._masks(video)
        path = folder / f"{frame}.png"
        if path.name != f"{frame}.png" or not path.is_file():
            near = did_you_mean(frame, self.frames(video), cutoff=0.5)
            raise InputError(f"labels: video {video!r} has no frame {frame!r} in {folder}{near}")
        return path

    def size(self, video: str, frame: str | None = None) -> Size:
        """(H, W) of a frame, of the video's first one by default; reads the file's header only."""
        return read_size(self.path(video, self.frames(video)[0] if frame is None else frame))

    def raw(self, video: str, frame: str, *, classes: int | None = None) -> NDArray[np.integer]:
        """The values as stored, [H, W]: what VSPW's own video consistency script compares."""
        known = self.classes if classes is None else classes
        return read_png(self.path(video, frame), wide=known is not None and known > 255)

    def read(
        self, video: str, frame: str, *, classes: int | None = None, size: Size | None = None
    ) -> NDArray[np.integer]:
        """Class ids [H, W], uint8 with void 255 (uint16 with void 65535 beyond 255 classes).

        Args:
            classes: C, where it was not given before; ids at or above it are no labels.
            size: the (H, W) that the file must have.

        Raises:
            InputError: values that are no labels, other size.
            StoreError: a file that is not a whole label PNG.
        """
        path, known = self.path(video, frame), self.classes if classes is None else classes
        raw, void, rule = self.raw(video, frame, classes=known), void_label(known), self.rule
        if size is not None and raw.shape != tuple(size):
            got = f"is {list(raw.shape)} [H, W], expected {list(size)}"
            raise InputError(f"labels: {path} {got}; use labels of the videos' own size")
        labels, limit = rule.ids(raw, void), void if known is None else known
        outside = (labels >= limit) & (labels != void)
        if outside.any() and self.stray == "error":
            wrong = f"holds {listed(np.unique(raw[outside]))} outside {rule.allowed(limit, void)}"
            raise InputError(f"labels: {path} {wrong}; correct it, or read with stray='void'")
        return np.where(outside, labels.dtype.type(void), labels)

    def digest(
        self, videos: Iterable[str] | None = None, frames: Mapping[str, Sequence[str]] | None = None
    ) -> str:
        """sha256 (hex) of all that could change a score: layout, classes, stray rule, and the ids
        and file bytes of these videos and frames (default: all), in any order.
        """
        total = hashlib.sha256(repr((self.layout, self.classes, self.stray)).encode())
        for video in sorted(self.videos if videos is None else videos):
            for frame in sorted(self.frames(video) if frames is None else frames[video]):
                content = hashlib.sha256(self.path(video, frame).read_bytes()).hexdigest()
                total.update(f"{video!r} {frame!r} {content}\n".encode())
        return total.hexdigest()

    def _masks(self, video: str) -> Path:
        if video not in self.videos:
            near = did_you_mean(video, self.videos, cutoff=0.5)
            raise InputError(f"labels: no video {video!r} in {self.root}{near}")
        return self.rule.masks(self.root, video)
