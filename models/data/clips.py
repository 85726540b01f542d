"""Images and masks of videos, in two layouts of `fusion.labels`.

vspw      <root>/data/<video>/{origin/<frame>.jpg,mask/<frame>.png}, <root>/<split>.txt
folder    <images>/<video>/<frame>.jpg (or .jpeg, .png), <labels>/<video>/<frame>.png
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fusion.errors import InputError, StoreError
from fusion.labels import VSPW_CLASSES, Labels
from fusion.labels.layouts import LAYOUTS
from fusion.labels.layouts.base import names_in
from fusion.text import natural_order

SUFFIXES = (".jpg", ".jpeg", ".png")
# of ImageNet's RGB, which published weights expect
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Clips:
    """Videos of images, as paths. classes: C names in label order. labels: the masks, if any."""

    root: Path
    layout: str
    videos: tuple[str, ...]
    classes: tuple[str, ...]
    labels: Labels | None

    @classmethod
    def vspw(
        cls,
        root: str | Path,
        split: str = "train",
        *,
        classes: Sequence[str] | None = None,
        labelled: bool = True,
    ) -> Clips:
        """A split of a VSPW release.

        Args:
            classes: the 124 names, default class_000 .. class_123.
            labelled: False reads no mask.
        Raises:
            StoreError: no such folder or list, a listed video without masks.
            InputError: another number of names.
        """
        root, names = Path(root), tuple(classes or (f"class_{c:03d}" for c in range(VSPW_CLASSES)))
        if len(names) != VSPW_CLASSES:
            got = f"classes: got {len(names)} names, VSPW has {VSPW_CLASSES}"
            raise InputError(f"{got}; give one name a line, 'others' left out")
        labels = Labels.vspw(root, split) if labelled else None
        videos = labels.videos if labels else LAYOUTS["vspw"].videos(root, split)
        return cls(root, "vspw", videos, names, labels)

    @classmethod
    def folder(
        cls, images: str | Path, labels: str | Path | None = None, *, classes: Sequence[str]
    ) -> Clips:
        """A folder of images a video, and of masks with their ids; videos are the masks', if any.

        StoreError: no such folder, or none inside.
        """
        root = Path(images)
        names = [entry.name for entry in root.iterdir() if entry.is_dir()] if root.is_dir() else []
        if not names:
            state = "has no folders" if root.is_dir() else "is no directory"
            advice = "give the folder that holds one folder of images a video"
            raise StoreError(f"images: {root} {state}; {advice}")
        truth = None if labels is None else Labels.folder(labels, classes=len(classes))
        videos = truth.videos if truth else tuple(sorted(names, key=natural_order))
        return cls(root, "folder", videos, tuple(classes), truth)

    @property
    def masks(self) -> Labels:
        """The labels, if there are any; else InputError."""
        if self.labels is None:
            raise InputError(f"images: {self.root} was opened without masks; they are needed here")
        return self.labels

    def only(self, videos: Sequence[str]) -> Clips:
        """The same clips with some of their videos."""
        labels = self.labels and replace(self.labels, videos=tuple(videos))
        return replace(self, videos=tuple(videos), labels=labels)

    def frames(self, video: str) -> list[str]:
        """Ids of a video's images, in natural order."""
        return list(self._files(video))

    def image(self, video: str, frame: str) -> Image.Image:
        """An image as RGB. InputError: no such frame. StoreError: it cannot be decoded whole."""
        files = self._files(video)
        if frame not in files:
            got = f"video {video!r} has no frame {frame!r} in {self._folder(video)}"
            raise InputError(f"images: {got}; restore it, or remove its mask")
        return read_image(files[frame])

    def pair(self, video: str, frame: str) -> tuple[Image.Image, NDArray[np.integer]]:
        """Image and mask [H, W]. InputError: sizes differ, or what `image`, `Labels.read` raise."""
        image = self.image(video, frame)
        mask = self.masks.read(video, frame, classes=len(self.classes))
        if image.size != mask.shape[::-1]:
            sizes = f"image {image.height}x{image.width}, mask {mask.shape[0]}x{mask.shape[1]}"
            advice = "resize neither, find the pair that belongs together"
            raise InputError(f"video {video!r}, frame {frame!r}: {sizes}; {advice}")
        return image, mask

    def labelled(self) -> list[tuple[str, str]]:
        """(video, frame) of every mask; InputError where one has no image."""
        pairs = []
        for video in self.videos:
            images, frames = self._files(video), self.masks.frames(video)
            lacking = [frame for frame in frames if frame not in images]
            if lacking:
                got = f"{len(lacking)} masks without an image in {self._folder(video)}"
                got = f"video {video!r} has {got}, the first {lacking[0]!r}"
                raise InputError(f"images: {got}; restore the images, or remove the masks")
            pairs += [(video, frame) for frame in frames]
        return pairs

    def _folder(self, video: str) -> Path:
        return LAYOUTS[self.layout].images(self.root, video)

    def _files(self, video: str) -> dict[str, Path]:
        return _image_files(self._folder(video))


@functools.lru_cache(maxsize=8192)
def _image_files(folder: Path) -> dict[str, Path]:
    """Frame id -> file, in natural order; listed once a process, since every sample asks."""
    if not folder.is_dir():
        raise StoreError(f"images: {folder} does not exist; is the data set unpacked whole?")
    names = [name for name in names_in(folder) if name.lower().endswith(SUFFIXES)]
    files = {Path(name).stem: folder / name for name in names}
    if len(files) != len(names) or not files:
        got = f"{folder} has {len(names)} images, {len(files)} different ids"
        raise StoreError(f"images: {got}; give each frame one {', '.join(SUFFIXES)} file")
    return files


def read_image(path: Path) -> Image.Image:
    """An RGB image; StoreError where the file is damaged, truncated or no JPEG or PNG."""
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            return image.convert("RGB")
    except (SyntaxError, ValueError, OSError, Image.DecompressionBombError) as error:
        raise StoreError(f"images: {path} cannot be decoded ({error}); restore the file") from error


def standardised(image: Image.Image) -> Tensor:
    """float32 [3, H, W], zero mean and unit deviation by ImageNet's statistics."""
    pixels = torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1) / 255.0
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)
