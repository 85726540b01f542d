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
from typing import IO

import numpy as np
from numpy.typing import NDArray

from fusion.errors import FusionError, InputError, StoreError
from fusion.text import bare, did_you_mean, listed, natural_order

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
    _folders: dict[str, Path | None] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.root.is_dir():
            raise StoreError(f"images: {self.root} is no folder; give one of pictures")

    def find(self, unit: str, frame: str) -> Path:
        """The file of a frame; StoreError where there is none, or several."""
        folder = self._folder(unit)
        if folder is not None:
            return self._one(self._names(folder, deep=False), unit, frame, folder)
        names = self._names(self.root, deep=False)
        single = unit == frame or bare(unit) in names
        if not single or bare(frame if unit == frame else unit) not in names:
            names = self._names(self.root, deep=True)
        return self._one(names, unit, frame, self.root)

    def open(self, unit: str, frame: str) -> Path | IO[bytes]:
        """What Pillow reads a frame's picture from; errors as of `find`."""
        return self.find(unit, frame)

    def units(self) -> tuple[str, ...]:
        """Ids of the folders of pictures, else of the single ones; StoreError: there is neither."""
        entries = sorted((e.name for e in os.scandir(self.root) if e.is_dir()), key=natural_order)
        folders = [n for n in entries if n[0] != "." and self._names(self.root / n, deep=False)]
        found = folders or self._stems(self.root)
        if not found:
            held = f"has no pictures ({listed(SUFFIXES)}) and no folders of them"
            raise StoreError(f"images: {self.root} {held}; give one folder of pictures a video")
        return tuple(found)

    def frames(self, unit: str) -> list[str]:
        """Ids of a unit's pictures, in natural order; StoreError: none, or two of one id."""
        folder = self._folder(unit)
        if folder is None:
            self.find(unit, unit)
            return [unit]
        found = self._stems(folder)
        if not found or len(set(found)) != len(found):
            got = f"{folder} has {len(found)} pictures, {len(set(found))} different ids"
            raise StoreError(f"images: {got}; give each frame one file")
        return found

    def _folder(self, unit: str) -> Path | None:
        """The folder of a unit, if it has one; looked for once."""
        if unit not in self._folders:
            inside = ".." not in Path(unit).parts and not Path(unit).is_absolute()
            places = (self.root / pattern.format(unit=unit) for pattern in FOLDERS if inside)
            self._folders[unit] = next((place for place in places if place.is_dir()), None)
        return self._folders[unit]

    def _stems(self, folder: Path) -> list[str]:
        paths = (path for some in self._names(folder, deep=False).values() for path in some)
        return sorted((path.stem for path in paths), key=natural_order)

    def _one(self, names: Names, unit: str, frame: str, folder: Path) -> Path:
        for wanted in dict.fromkeys((bare(frame), bare(f"{unit}_{frame}"), bare(unit))):
            found = names.get(wanted, [])
            if unit != frame and folder == self.root and wanted == bare(frame) != bare(unit):
                # any folder has a 00000.jpg: it is this unit's where a folder on the way says so
                found = [p for p in found if unit in p.relative_to(self.root).parts[:-1]]
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
