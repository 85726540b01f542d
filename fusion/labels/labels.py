"""Label maps on disk: ground truth and predictions in, indexed PNGs out.

H W pixels, C classes. A label map is an array [H, W] of class ids 0..C-1 and void: uint8 with void 255, or, beyond 255 classes,
uint16 with void 65535 (16-bit greyscale PNG). Two layouts are read:

    folder    <root>/<video>/<frame>.png              ids as stored
    vspw      <root>/data/<video>/mask/<frame>.png    124 classes; stored 0 ("others") and 255 are void, ids are stored values - 1;
              <root>/<split>.txt lists the videos

A frame's id is its file's stem. A video may have labels for some of its frames only. PNGs with a palette are read as indices; what
is not a whole greyscale or indexed PNG of the right depth and size is an error that names the file, never a guess.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError, StoreError
from fusion.labels.png import read_png, read_size
from fusion.text import natural_order

VSPW_CLASSES = 124
_STRAY = ("error", "void")


@dataclass(frozen=True)
class Labels:
    """The label maps of a set of videos; made by `Labels.folder` or `Labels.vspw`. Holds paths only, so it is cheap to pickle.

    videos: ids in order. classes: C if it is known here; else any id is taken until `read` is told. stray: what becomes of ids
    outside 0..C-1 that are not void: an error that names file and values, or void.
    """

    root: Path
    videos: tuple[str, ...]
    classes: int | None = None
    stray: str = "error"
    layout: str = "folder"

    @classmethod
    def folder(
        cls, path: str | os.PathLike[str], *, classes: int | None = None, stray: str = "error"
    ) -> Labels:
        """Labels as ``<video>/<frame>.png``. Beyond 255 classes the files must be 16-bit.

        StoreError: no such directory, or none of its folders has a PNG.
        """
        root = _directory(Path(path))
        videos = tuple(
            name for name in _names(root) if (root / name).is_dir() and _frames(root / name)
        )
        if not videos:
            raise StoreError(
                f"labels: {root} has no <video>/<frame>.png; give the folder that holds one folder of PNGs per video"
            )
        return cls(root, videos, classes, _checked_stray(stray))

    @classmethod
    def vspw(
        cls, root: str | os.PathLike[str], split: str = "val", *, stray: str = "error"
    ) -> Labels:
        """Labels of a VSPW release (480p or original); videos in the order of ``<root>/<split>.txt``.

        StoreError: no such directory or list, or a listed video without masks.
        """
        root = _directory(Path(root))
        known = [name.removesuffix(".txt") for name in _names(root) if name.endswith(".txt")]
        if split not in known:
            raise StoreError(f"labels: {root} has no list {split}.txt{_near(split, known)}")
        lines = [
            line.strip()
            for line in (root / f"{split}.txt").read_text(encoding="utf-8").splitlines()
        ]
        labels = cls(
            root,
            tuple(line for line in lines if line and not line.startswith(".")),
            VSPW_CLASSES,
            _checked_stray(stray),
            "vspw",
        )
        if len(set(labels.videos)) != len(labels.videos):
            raise StoreError(
                f"labels: {root / split}.txt lists a video twice; each would count twice"
            )
        missing = [
            video
            for video in labels.videos
            if Path(video).name != video or not labels._folder(video).is_dir()
        ]
        if missing or not labels.videos:
            got = f"lists {len(labels.videos)} videos, {len(missing)} without data/<video>/mask" + (
                f", first {missing[0]!r}" if missing else ""
            )
            raise StoreError(f"labels: {root / split}.txt {got}; is the release unpacked whole?")
        return labels

    @property
    def void(self) -> int:
        """The label of pixels that never count."""
        return _void(self.classes)

    def frames(self, video: str) -> list[str]:
        """Ids of the frames that have labels, in natural order (2 before 10)."""
        self._check_video(video)
        frames = _frames(self._folder(video))
        if not frames:
            raise StoreError(
                f"labels: {self._folder(video)} has no PNG; remove the folder or restore its files"
            )
        return frames

    def path(self, video: str, frame: str) -> Path:
        """The file of one frame. InputError: no such video or frame, with the names that come near."""
        self._check_video(video)
        path = self._folder(video) / f"{frame}.png"
        if path.name != f"{frame}.png" or not path.is_file():
            raise InputError(
                f"labels: video {video!r} has no frame {frame!r} in {self._folder(video)}{_near(frame, self.frames(video))}"
            )
        return path

    def size(self, video: str, frame: str | None = None) -> tuple[int, int]:
        """(H, W) of a frame, of the video's first one by default; reads the file's header only."""
        return read_size(self.path(video, self.frames(video)[0] if frame is None else frame))

    def raw(self, video: str, frame: str, *, classes: int | None = None) -> NDArray[np.integer]:
        """The values as stored, [H, W]: what VSPW's own video consistency script compares."""
        known = self.classes if classes is None else classes
        return read_png(self.path(video, frame), wide=known is not None and known > 255)

    def read(
        self,
        video: str,
        frame: str,
        *,
        classes: int | None = None,
        size: tuple[int, int] | None = None,
    ) -> NDArray[np.integer]:
        """Class ids [H, W], uint8 with void 255 (uint16 with void 65535 beyond 255 classes).

        classes: C, where it was not given before; ids at or above it are stray. size: the (H, W) that the file must have.
        InputError: stray values, other size. StoreError: a file that is not a whole label PNG.
        """
        path, known = self.path(video, frame), self.classes if classes is None else classes
        raw = self.raw(video, frame, classes=known)
        if size is not None and raw.shape != tuple(size):
            raise InputError(
                f"labels: {path} is {list(raw.shape)} [H, W], expected {list(size)}; use labels of the videos' own size"
            )
        void = _void(known)
        labels = raw
        if self.layout == "vspw":
            labels = np.where(raw == void, raw, raw - 1)  # 0 wraps around to void
        if known is None:
            return labels
        stray = (labels >= known) & (labels != void)
        if not stray.any():
            return labels
        if self.stray == "void":
            return np.where(stray, labels.dtype.type(void), labels)
        values = np.unique(raw[stray]).tolist()
        shown = ", ".join(map(str, values[:10])) + (", ..." if len(values) > 10 else "")
        allowed = (
            f"1..{known} (0 and 255 are void)"
            if self.layout == "vspw"
            else f"0..{known - 1} (void is {void})"
        )
        raise InputError(
            f"labels: {path} holds {shown} outside {allowed}; correct the file, or read with stray='void'"
        )

    def digest(
        self, videos: Iterable[str] | None = None, frames: Mapping[str, Sequence[str]] | None = None
    ) -> str:
        """sha256 (hex) of the ids and file bytes of these videos (default: all) and frames (default: all of each video).

        Changes with anything that could change a score: layout, classes, stray rule, a file. Orders do not matter.
        """
        total = hashlib.sha256(repr((self.layout, self.classes, self.stray)).encode())
        for video in sorted(self.videos if videos is None else videos):
            for frame in sorted(self.frames(video) if frames is None else frames[video]):
                content = hashlib.sha256(self.path(video, frame).read_bytes()).hexdigest()
                total.update(f"{video!r} {frame!r} {content}\n".encode())
        return total.hexdigest()

    def _folder(self, video: str) -> Path:
        return self.root / "data" / video / "mask" if self.layout == "vspw" else self.root / video

    def _check_video(self, video: str) -> None:
        if video not in self.videos:
            raise InputError(
                f"labels: no video {video!r} in {self.root}{_near(video, self.videos)}"
            )


def _void(classes: int | None) -> int:
    return 255 if classes is None or classes <= 255 else 65535


def _checked_stray(stray: str) -> str:
    if stray not in _STRAY:
        raise InputError(f"stray: got {stray!r}; choose one of {', '.join(_STRAY)}")
    return stray


def _directory(path: Path) -> Path:
    if not path.is_dir():
        state = "is no directory" if path.exists() else "does not exist"
        parent = path.parent
        raise StoreError(
            f"labels: {path} {state}{_near(path.name, _names(parent) if parent.is_dir() else [])}"
        )
    return path


def _names(folder: Path) -> list[str]:
    """What is in a folder, without hidden files, in natural order."""
    return sorted(
        (name for name in os.listdir(folder) if not name.startswith(".")), key=natural_order
    )


def _frames(folder: Path) -> list[str]:
    return [name.removesuffix(".png") for name in _names(folder) if name.endswith(".png")]


def _near(name: str, known: Sequence[str]) -> str:
    """'; did you mean ...', or the first of what there is."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(map(repr, close))}?"
    return (
        f"; there are {', '.join(map(repr, known[:5]))}{', ...' if len(known) > 5 else ''}"
        if known
        else "; nothing is there"
    )
