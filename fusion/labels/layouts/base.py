"""What a layout says, and the look into folders that layouts share. H W pixels, C classes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.errors import StoreError
from fusion.text import did_you_mean, natural_order


class Layout:
    """Where the masks and images of a data set lie, and what the values in its masks mean.

    As it stands: a folder a video, ids as stored, one split. Another layout overrides what differs.
    Objects hold nothing but rules: `Labels` keeps a layout's name only.
    """

    classes: int | None = None  # C where the data set fixes it

    def videos(self, root: Path, split: str | None) -> tuple[str, ...]:
        """Ids of a split's videos, in order; StoreError where the data set is not there."""
        return tuple(name for name in names_in(directory(root)) if (root / name).is_dir())

    def labelled(self, root: Path, split: str | None) -> tuple[str, ...]:
        """Those of `videos` that have masks; StoreError: none, or a needed one is missing."""
        found = tuple(v for v in self.videos(root, split) if stems(self.masks(root, v), ".png"))
        if not found:
            raise StoreError(f"labels: {root} has no <video>/<frame>.png; give the videos' parent")
        return found

    def masks(self, root: Path, video: str) -> Path:
        """The folder of a video's masks <frame>.png."""
        return root / video

    def images(self, root: Path, video: str) -> Path:
        """The folder of a video's images, whose stems are the frame ids."""
        return root / video

    def ids(self, stored: NDArray[np.integer], void: int) -> NDArray[np.integer]:
        """Class ids and void [H, W] of the values as stored, of the same type."""
        return stored

    def allowed(self, classes: int, void: int) -> str:
        """The stored values that are labels of C classes, as an error says them."""
        return f"0..{classes - 1} (void is {void})"


def directory(path: Path) -> Path:
    """The path, if it is a directory. StoreError: it is not, and what comes near."""
    if not path.is_dir():
        state = "is no directory" if path.exists() else "does not exist"
        beside = names_in(path.parent) if path.parent.is_dir() else []
        raise StoreError(f"labels: {path} {state}{did_you_mean(path.name, beside)}")
    return path


def names_in(folder: Path) -> list[str]:
    """What is in a folder, without hidden files, in natural order."""
    return sorted((n for n in os.listdir(folder) if not n.startswith(".")), key=natural_order)


def stems(folder: Path, suffix: str) -> list[str]:
    """The names in a folder that end so, without that end, in natural order."""
    return [name.removesuffix(suffix) for name in names_in(folder) if name.endswith(suffix)]
