"""What a layout says, and the look into folders that layouts share. H W pixels, C classes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fusion.errors import StoreError
from fusion.text import did_you_mean, natural_order


class Layout(Protocol):
    """Where the masks and images of a data set lie, and what the values in its masks mean.

    Objects hold nothing but rules: `Labels` keeps a layout's name only. `classes` is C where the
    data set fixes it.
    """

    classes: int | None = None

    def videos(self, root: Path, split: str | None) -> tuple[str, ...]:
        """Ids of the videos of a split, in order; StoreError where the data set is not there."""
        ...

    def labelled(self, root: Path, split: str | None) -> tuple[str, ...]:
        """Those of `videos` that have masks; StoreError: none, or a needed one is missing."""
        ...

    def masks(self, root: Path, video: str) -> Path:
        """The folder of a video's masks <frame>.png."""
        ...

    def images(self, root: Path, video: str) -> Path:
        """The folder of a video's images, whose stems are the frame ids."""
        ...

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
