"""Images and masks of videos, and the random views of them that training sees.

H W image pixels, c crop. Two layouts, as in `fusion.labels`:

    vspw      <root>/data/<video>/origin/<frame>.jpg, <root>/data/<video>/mask/<frame>.png, <root>/<split>.txt
    folder    <images>/<video>/<frame>.jpg (or .jpeg, .png), <labels>/<video>/<frame>.png

Sample number k of a training run is a function of the seed and k alone: any worker, of any process, can make it at any time, which is
what makes a resumed run the same run.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from fusion.errors import InputError, StoreError
from fusion.labels import VSPW_CLASSES, Labels, natural_order

SUFFIXES = (".jpg", ".jpeg", ".png")
MEAN, DEVIATION = (
    (0.485, 0.456, 0.406),
    (0.229, 0.224, 0.225),
)  # of ImageNet's RGB, which published weights expect


@dataclass(frozen=True)
class Clips:
    """Videos of images with, or without, masks. Holds paths only. classes: the C names in label order."""

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
        """A split of a VSPW release. classes: the 124 names, default class_000 .. class_123. labelled: False reads no mask.

        StoreError: no such folder or list, a listed video without masks; InputError: another number of names.
        """
        names = tuple(classes or (f"class_{c:03d}" for c in range(VSPW_CLASSES)))
        if len(names) != VSPW_CLASSES:
            raise InputError(
                f"classes: got {len(names)} names, VSPW has {VSPW_CLASSES}; give one name a line, 'others' left out"
            )
        root = Path(root)
        labels = Labels.vspw(root, split) if labelled else None
        return cls(
            root, "vspw", labels.videos if labels else _listed(root / f"{split}.txt"), names, labels
        )

    @classmethod
    def folder(
        cls, images: str | Path, labels: str | Path | None = None, *, classes: Sequence[str]
    ) -> Clips:
        """One folder of images a video; masks likewise, with the frame ids of the images. Videos are the masks' where there are any."""
        root = Path(images)
        if not root.is_dir():
            raise StoreError(
                f"images: {root} is no directory; give the folder that holds one folder of images a video"
            )
        truth = None if labels is None else Labels.folder(labels, classes=len(classes))
        found = tuple(
            sorted((entry.name for entry in root.iterdir() if entry.is_dir()), key=natural_order)
        )
        if not found:
            raise StoreError(
                f"images: {root} has no folders; give the folder that holds one folder of images a video"
            )
        return cls(root, "folder", truth.videos if truth else found, tuple(classes), truth)

    def only(self, videos: Sequence[str]) -> Clips:
        """The same clips with some of their videos."""
        labels = self.labels and replace(self.labels, videos=tuple(videos))
        return replace(self, videos=tuple(videos), labels=labels)

    def frames(self, video: str) -> list[str]:
        """Ids of a video's images, in natural order."""
        return list(self._files(video))

    def image(self, video: str, frame: str) -> Image.Image:
        """An image as RGB. InputError: no such frame. StoreError: a file that cannot be decoded whole."""
        files = self._files(video)
        if frame not in files:
            raise InputError(
                f"images: video {video!r} has no frame {frame!r} in {self._folder(video)}; restore it, or remove its mask"
            )
        return read_image(files[frame])

    def pair(self, video: str, frame: str) -> tuple[Image.Image, NDArray[np.integer]]:
        """Image and mask [H, W]. InputError: their sizes differ, or what `image` and `Labels.read` raise."""
        assert self.labels is not None
        image = self.image(video, frame)
        mask = self.labels.read(video, frame, classes=len(self.classes))
        if image.size != mask.shape[::-1]:
            sizes = f"image {image.height}x{image.width}, mask {mask.shape[0]}x{mask.shape[1]}"
            raise InputError(
                f"video {video!r}, frame {frame!r}: {sizes}; resize neither, find the pair that belongs together"
            )
        return image, mask

    def labelled(self) -> list[tuple[str, str]]:
        """(video, frame) of every mask; InputError for a mask without its image. Images without masks are left out."""
        if self.labels is None:
            raise InputError(f"images: {self.root} was opened without masks; training needs them")
        pairs = []
        for video in self.videos:
            images, masks = set(self._files(video)), self.labels.frames(video)
            lacking = [frame for frame in masks if frame not in images]
            if lacking:
                got = f"{len(lacking)} masks without an image in {self._folder(video)}, the first {lacking[0]!r}"
                raise InputError(
                    f"images: video {video!r} has {got}; restore the images, or remove the masks"
                )
            pairs += [(video, frame) for frame in masks]
        return pairs

    def _folder(self, video: str) -> Path:
        return self.root / "data" / video / "origin" if self.layout == "vspw" else self.root / video

    def _files(self, video: str) -> dict[str, Path]:
        return _image_files(self._folder(video))


@functools.lru_cache(maxsize=8192)
def _image_files(folder: Path) -> dict[str, Path]:
    """Frame id -> file; listed once a process, since every sample asks."""
    if not folder.is_dir():
        raise StoreError(f"images: {folder} does not exist; is the data set unpacked whole?")
    names = sorted(
        (n for n in os.listdir(folder) if n.lower().endswith(SUFFIXES) and not n.startswith(".")),
        key=natural_order,
    )
    files = {Path(name).stem: folder / name for name in names}
    if len(files) != len(names) or not files:
        got = f"{len(names)} images, {len(files)} different ids"
        raise StoreError(
            f"images: {folder} has {got}; give each frame one {', '.join(SUFFIXES)} file"
        )
    return files


def _listed(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise StoreError(
            f"images: {path} cannot be read ({error.strerror}); it lists the split's videos"
        ) from error
    bad = [line for line in lines if Path(line).name != line]
    if bad or not lines:
        raise StoreError(
            f"images: {path} lists {len(lines)} videos{f', {bad[0]!r} is no name' if bad else ''}; one folder name a line"
        )
    return tuple(lines)


def read_image(path: Path) -> Image.Image:
    """An RGB image; StoreError where the file is damaged, truncated or no JPEG or PNG."""
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            return image.convert("RGB")
    except (
        UnidentifiedImageError,
        SyntaxError,
        ValueError,
        OSError,
        Image.DecompressionBombError,
    ) as error:
        raise StoreError(f"images: {path} cannot be decoded ({error}); restore the file") from error


def standardised(image: Image.Image) -> Tensor:
    """float32 [3, H, W], zero mean and unit deviation by ImageNet's statistics."""
    pixels = torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1) / 255.0
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)


def folds(videos: Sequence[str], count: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Videos dealt to `count` folds by a seeded shuffle; every video in exactly one. InputError: fewer than 2 folds, or videos."""
    if not 2 <= count <= len(videos):
        raise InputError(f"folds: got {count} for {len(videos)} videos; give 2 to {len(videos)}")
    order = np.random.default_rng(seed).permutation(len(videos))
    return [
        tuple(sorted((videos[i] for i in order[fold::count]), key=natural_order))
        for fold in range(count)
    ]


@dataclass(frozen=True)
class Augment:
    """Random views. crop: side c in pixels. scale: range of the resize before it. flip: probability. colour: brightness, contrast
    and saturation are each multiplied by a number in 1 - colour .. 1 + colour."""

    crop: int = 480
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    colour: float = 0.4

    def __post_init__(self) -> None:
        low, high = self.scale
        if (
            self.crop < 32
            or self.crop % 32
            or not 0 < low <= high
            or not 0 <= self.flip <= 1
            or not 0 <= self.colour < 1
        ):
            raise InputError(
                f"augment: got {self}; crop is a multiple of 32, 0 < scale[0] <= scale[1], flip in 0..1, colour in 0..<1"
            )

    def __call__(
        self,
        image: Image.Image,
        mask: NDArray[np.integer],
        draw: np.random.Generator,
        void: int = 255,
    ) -> tuple[Tensor, Tensor]:
        """One view: float32 [3, c, c] and int64 [c, c]. Beyond the image's border: the mean colour, and void."""
        factor = draw.uniform(*self.scale)
        width, height = (max(1, round(side * factor)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        labels = np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
        left, top = (
            int(draw.integers(0, max(0, side - self.crop) + 1)) for side in (width, height)
        )
        box = (left, top, min(left + self.crop, width), min(top + self.crop, height))
        view = standardised(self._coloured(image.crop(box), draw))
        target = torch.from_numpy(labels[box[1] : box[3], box[0] : box[2]].astype(np.int64))
        if draw.random() < self.flip:
            view, target = view.flip(-1), target.flip(-1)
        margin = (0, self.crop - view.shape[2], 0, self.crop - view.shape[1])
        return torch.nn.functional.pad(view, margin), torch.nn.functional.pad(
            target, margin, value=void
        )

    def _coloured(self, image: Image.Image, draw: np.random.Generator) -> Image.Image:
        for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            image = enhance(image).enhance(draw.uniform(1 - self.colour, 1 + self.colour))
        return image


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Training samples 0, 1, 2, ... without end: every epoch a new shuffle of the labelled frames, each frame in a new view."""

    def __init__(self, clips: Clips, augment: Augment, seed: int) -> None:
        self.clips, self.augment, self.seed = clips, augment, seed
        self.pairs = clips.labelled()
        self._order: tuple[int, Any] = (-1, None)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        epoch, place = divmod(number, len(self.pairs))
        if self._order[0] != epoch:
            self._order = (
                epoch,
                np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.pairs)),
            )
        image, mask = self.clips.pair(*self.pairs[self._order[1][place]])
        assert self.clips.labels is not None
        return self.augment(
            image, mask, np.random.default_rng([self.seed, 1, number]), self.clips.labels.void
        )


@dataclass(frozen=True)
class Batches:
    """Sample numbers of one process's batches first <= b < last, when `world` processes share every batch number."""

    first: int
    last: int
    size: int
    rank: int = 0
    world: int = 1

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.first, self.last):
            start = (batch * self.world + self.rank) * self.size
            yield list(range(start, start + self.size))

    def __len__(self) -> int:
        return self.last - self.first
