"""Images and masks of videos, wherever a layout of `fusion.labels` keeps them.

A data set with places for both (VSPW, Cityscapes, VOC, ADE20K, COCO panoptic, nnU-Net's pictures,
CSV lists), or a folder of images beside masks of any layout, which are found by their ids
(`fusion.images`): <video>/<frame>.jpg beside <video>/<frame>.png, or single images beside masks.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fusion.errors import InputError, StoreError
from fusion.images import Images
from fusion.labels import LAYOUTS, Labels
from fusion.labels.layouts import AUTO, recognised
from fusion.labels.layouts.nifti import ENDINGS
from fusion.progress import progress

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF")  # of `fusion.images.SUFFIXES`
# of ImageNet's RGB, which published weights expect
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Clips:
    """Videos of images. classes: C names in label order. labels: the masks, if any."""

    images: Images
    videos: tuple[str, ...]
    classes: tuple[str, ...]
    labels: Labels | None

    @classmethod
    def dataset(
        cls,
        root: str | Path,
        split: str = "train",
        *,
        layout: str = AUTO,
        classes: Sequence[str] | None = None,
        labelled: bool = True,
        **how: Any,
    ) -> Clips:
        """A split of a data set whose layout has a place for images.

        Args:
            root: where it lies.
            split: of layouts that have splits.
            layout: a name in `LAYOUTS`; default: the one that recognises the place.
            classes: C names; default the class map's.
            labelled: False reads no mask.
            how: class_map, stray, and the layout's options, as `Labels.open` takes them.

        Raises:
            StoreError: no such folder or list, no masks, a listed video without them.
            InputError: a layout without a place for images, another number of names.
        """
        root = Path(root)
        layout = recognised(root, split) if layout == AUTO else layout
        kind = LAYOUTS[layout]
        part = split if kind.split_in(root) else None
        own = {key: how[key] for key in kind.takes if how.get(key)}
        images = _of_pictures(kind.pictures(root, part, **own))
        if not labelled:
            names = _names(classes, kind.class_names(root))
            return cls(images, kind.videos(root, part, **own), names, None)
        # of a layout whose values are class ids, the number of names is that of classes
        labels = Labels.open(layout, root, part, **how)
        names = _names(classes, labels.names)
        return cls(images, labels.videos, names, replace(labels, classes=len(names)))

    @classmethod
    def vspw(
        cls,
        root: str | Path,
        split: str = "train",
        *,
        classes: Sequence[str] | None = None,
        labelled: bool = True,
    ) -> Clips:
        """A split of a VSPW release; classes: the 124 names, default its own (`layouts.vspw`)."""
        return cls.dataset(root, split, layout="vspw", classes=classes, labelled=labelled)

    @classmethod
    def folder(
        cls,
        images: str | Path,
        labels: str | Path | None = None,
        split: str | None = None,
        *,
        classes: Sequence[str] | None = None,
        layout: str = AUTO,
        **how: Any,
    ) -> Clips:
        """Images beside masks of any layout, or alone; videos are the masks', if there are any.

        Args:
            images: a folder of pictures a video, or of single pictures.
            labels: where the masks are.
            split: the subfolder of both, where they have one of this name.
            classes: C names; default the class map's.
            layout: of the masks.
            how: as of `dataset`.

        Raises:
            StoreError: no such folder, or nothing in it.
            InputError: no class names.
        """
        root = Path(images)
        if split is not None and ((root / split).is_dir() or labels is None):
            root = root / split
        pictures = _of_pictures(Images(root))
        if labels is None:
            return cls(pictures, pictures.units(), _names(classes, None), None)
        truth = Labels.open(layout, labels, split, **how)
        names = _names(classes, truth.names)
        return cls(pictures, truth.videos, names, replace(truth, classes=len(names)))

    @property
    def root(self) -> Path:
        """The folder of the images."""
        return self.images.root

    @property
    def masks(self) -> Labels:
        """The labels, if there are any; else InputError."""
        if self.labels is None:
            got = f"{self.root} was opened without masks"
            raise InputError(f"images: {got}; they are needed here")
        return self.labels

    def only(self, videos: Sequence[str]) -> Clips:
        """The same clips with some of their videos."""
        labels = self.labels and replace(self.labels, videos=tuple(videos))
        return replace(self, videos=tuple(videos), labels=labels)

    def frames(self, video: str) -> list[str]:
        """Ids of a video's images, in natural order."""
        return self.images.frames(video)

    def image(self, video: str, frame: str) -> Image.Image:
        """An image as RGB. StoreError: no such frame, or it cannot be decoded whole."""
        with self.opened(video, frame) as image:
            return image.convert("RGB")

    @contextlib.contextmanager
    def opened(self, video: str, frame: str) -> Iterator[Image.Image]:
        """An image, of which Pillow has read the header; errors as of `image`."""
        path, source = self.images.find(video, frame), self.images.open(video, frame)
        try:
            with Image.open(source, formats=FORMATS) as image:
                yield image
        except (SyntaxError, ValueError, OSError, Image.DecompressionBombError) as error:
            got = f"{path} cannot be decoded ({error})"
            raise StoreError(f"images: {got}; restore the file") from error

    def pair(self, video: str, frame: str) -> tuple[Image.Image, NDArray[np.integer]]:
        """Image and mask [H, W]. InputError: sizes differ, or what `image`, `Labels.read` raise."""
        image = self.image(video, frame)
        mask = self.masks.read(video, frame, classes=len(self.classes))
        if image.size != mask.shape[::-1]:
            raise self.unequal(video, frame, (image.height, image.width), mask.shape)
        return image, mask

    def unequal(
        self, video: str, frame: str, image: tuple[int, int], mask: tuple[int, ...]
    ) -> InputError:
        """The error of an image and a mask of other sizes (H, W)."""
        files = f"{self.images.find(video, frame)}, {self.masks.path(video, frame)}"
        sizes = f"image {image[0]}x{image[1]}, mask {mask[0]}x{mask[1]} ({files})"
        advice = "resize neither, find the pair that belongs together"
        return InputError(f"video {video!r}, frame {frame!r}: {sizes}; {advice}")

    def labelled(self) -> list[tuple[str, str]]:
        """(video, frame) of every mask; InputError where one has no image of its own."""
        pairs, lacking, owner = [], [], dict[Path, str]()
        for video in progress(self.videos, "finding images"):
            for frame in self.masks.frames(video):
                pairs.append((video, frame))
                try:
                    path = self.images.find(video, frame)
                except StoreError as error:
                    lacking.append(error)
                    continue
                name = f"video {video!r}, frame {frame!r}"
                if path in owner:
                    got = f"{path} is the image of {owner[path]} and of {name}"
                    raise InputError(f"images: {got}; give each mask an image of its name")
                owner[path] = name
        if lacking:
            got = f"{len(lacking)} of {len(pairs)} masks have no image; the first: {lacking[0]}"
            raise InputError(f"{got}; restore the images, or remove the masks")
        return pairs


def _names(given: Sequence[str] | None, known: Sequence[str] | None) -> tuple[str, ...]:
    """The class names: those given, else the class map's."""
    if given is None and known is None:
        advice = "give a file with one a line or a JSON list (classes), or a class map (class_map)"
        raise InputError(f"clips: class names are needed and nothing says them; {advice}")
    if given is not None and known is not None and len(given) != len(known):
        got = f"got {len(given)} names, the class map has {len(known)}"
        raise InputError(f"classes: {got}; give one name a class, in its order, void left out")
    return tuple(known or ()) if given is None else tuple(given)


def _of_pictures(images: Images) -> Images:
    """The same; InputError where they are volumes."""
    if any(name.endswith(ENDINGS) for name in os.listdir(images.root)):
        got = f"{images.root} holds NIfTI volumes, and training reads pictures"
        do = "write their slices along Z as <case>/00000.png, 00001.png, ..., scaled to 0..255"
        raise InputError(f"images: {got}; {do}, and give that folder (images; labels may stay)")
    return images


def scaled(image: Image.Image) -> Tensor:
    """float32 [3, H, W] in 0..1."""
    return torch.from_numpy(np.array(image, np.float32)).permute(2, 0, 1) / 255.0


def standardised(image: Image.Image | Tensor) -> Tensor:
    """float32 [3, H, W], zero mean and unit deviation by ImageNet's statistics.

    image: RGB, or as `scaled` gives it.
    """
    pixels = image if isinstance(image, Tensor) else scaled(image)
    return (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(DEVIATION).view(3, 1, 1)
