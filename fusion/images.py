"""The pictures that predictions were made of: for edges, for motion, and to be looked at.

    <root>/<unit>/<frame>.jpg, <root>/<unit>.jpg of single images
    <root>/data/<unit>/origin/<frame>.jpg                           VSPW
    any other tree of pictures whose names, without suffixes such as _leftImg8bit, are unique

They are found by id and read when they are asked for. H W pixels.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.errors import FusionError, InputError, StoreError
from fusion.text import bare, did_you_mean, listed

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
FOLDERS = ("{unit}", "data/{unit}/origin", "{unit}/origin", "data/{unit}")
Names = dict[str, list[Path]]  # bare name -> files


@dataclass(frozen=True)
class Images:
    """Pictures below a folder.

    Args:
        root: the folder.

    Raises:
        StoreError: no such folder.
    """

    root: Path
    _listed: dict[str, Names] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise StoreError(f"images: {self.root} is no folder; give one of pictures")

    def find(self, unit: str, frame: str) -> Path:
        """The file of a frame; StoreError where there is none, or several."""
        for pattern in FOLDERS:
            folder = self.root / pattern.format(unit=unit)
            if ".." not in Path(unit).parts and not Path(unit).is_absolute() and folder.is_dir():
                return self._one(self._names(folder, deep=False), unit, frame, folder)
        names = self._names(self.root, deep=False)
        single = unit == frame or bare(unit) in names
        if not single or bare(frame if unit == frame else unit) not in names:
            names = self._names(self.root, deep=True)
        return self._one(names, unit, frame, self.root)

    def _one(self, names: Names, unit: str, frame: str, folder: Path) -> Path:
        for wanted in dict.fromkeys((bare(frame), bare(unit))):
            found = names.get(wanted, [])
            if len(found) > 1:
                exact = [path for path in found if path.stem in (frame, unit)]
                if len(exact) != 1:
                    said = listed((str(path.relative_to(self.root)) for path in found), 3)
                    what = f"unit {unit!r}, frame {frame!r} may be {said}"
                    raise StoreError(f"images: {what}; keep one of them")
                found = exact
            if found:
                return found[0]
        hint = did_you_mean(frame, names) if names else f"; it holds none of {listed(SUFFIXES)}"
        raise StoreError(f"images: {folder} has no picture of unit {unit!r}, frame {frame!r}{hint}")

    def _names(self, folder: Path, *, deep: bool) -> Names:
        """Files of a folder, or of the whole tree, by bare name; listed once."""
        key = f"{folder}{'/**' * deep}"
        if key not in self._listed:
            found: Names = {}
            places = os.walk(folder) if deep else [(str(folder), [], os.listdir(folder))]
            for place, _, files in places:
                for name in sorted(files):
                    if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                        found.setdefault(bare(Path(name).stem), []).append(Path(place) / name)
            self._listed[key] = found
        return self._listed[key]

    def check(self, unit: str, frame: str, size: tuple[int, int]) -> None:
        """That a frame has a picture of a size (H, W), by its header alone; errors as of `read`."""
        from PIL import Image

        path = self.find(unit, frame)
        with _readable(path), Image.open(path) as picture:
            found = picture.height, picture.width
        _check_size(path, found, size)

    def read(self, unit: str, frame: str, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """A frame's picture, uint8 [H, W, 3].

        Args:
            unit: id of a video, image or case.
            frame: id.
            size: (H, W) that it must have.

        Raises:
            StoreError: no such file, or none that can be read.
            InputError: another size.
        """
        from PIL import Image

        path = self.find(unit, frame)
        with _readable(path), Image.open(path) as picture:
            if size is not None:
                _check_size(path, (picture.height, picture.width), size)
            return np.array(picture.convert("RGB"))


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what Pillow says of a file into a StoreError."""
    # for good: filters of a block are not safe in threads. What it warns of it reads all the same
    warnings.filterwarnings("ignore", module="PIL")
    try:
        yield
    except FusionError:
        raise
    except Exception as error:  # Pillow leaves by whatever the file led it to
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StoreError(f"{path}: cannot be read ({reason}); repair or leave it out") from error


def _check_size(path: Path, found: tuple[int, int], size: tuple[int, int]) -> None:
    if found != tuple(size):
        got = f"{found[0]}x{found[1]}, its labels are {size[0]}x{size[1]}"
        raise InputError(f"{path}: got {got}; give pictures of the labels' size")
