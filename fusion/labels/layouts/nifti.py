"""3D cases: <root>/<case>.nii.gz or .nii, slices along Z are frames 00000, 00001, ...

Z Y X voxels; `fusion.geometry` owns the order of axes. A volume of four axes holds channels. Each
thread keeps the volume it read last, since its slices are asked for one after the other.
"""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import numpy as np

from fusion.errors import StoreError
from fusion.geometry import Placed, nifti_shape, read_nifti, slice_ids
from fusion.labels.formats import INTEGERS, Stored
from fusion.labels.layouts.base import Indexed, directory, holds_masks, nothing
from fusion.labels.png import MOST_PIXELS, Size, reading

ENDINGS = (".nii.gz", ".nii")
SHAPES_KEPT = 10_000
_last = threading.local()


class Nifti(Indexed):
    """Cases in one folder; read with nibabel."""

    name = "nifti"
    holds = "<case>.nii.gz"

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        super().__init__(directory(root), split, **options)
        found = []
        for path in sorted(root.iterdir()):
            ending = next((e for e in ENDINGS if path.name.endswith(e)), None)
            if ending and not path.name.startswith("."):
                case = path.name.removesuffix(ending)
                found.append((case, case, path.name))
        if not found:
            raise nothing(root, self.holds, "give the folder of the cases")
        self.index(found)

    @classmethod
    def recognises(cls, root: Path, split: str | None) -> bool:
        return holds_masks(root, (".gz", ".nii")) and any(
            path.name.endswith(ENDINGS) for path in root.iterdir()
        )

    def volume(self, unit: str) -> Path:
        """The file of a case."""
        return self.root / self._files[unit][unit]

    def frames(self, unit: str) -> list[str]:
        return slice_ids(self._shape(unit)[-3])

    def place(self, unit: str, frame: str) -> Path:
        self._slice(unit, frame)
        return self.volume(unit)

    def size(self, unit: str, frame: str) -> Size:
        self._slice(unit, frame)
        height, width = self._shape(unit)[-2:]
        return height, width

    def stored(self, unit: str, frame: str, depth: int | None) -> Stored:
        z, volume = self._slice(unit, frame), self._volume(unit).array
        if volume.ndim == 4:
            return Stored("channels", volume[:, z])
        return Stored("ids", volume[z])

    def content(self, unit: str, frame: str) -> bytes:
        array = self.stored(unit, frame, None).array
        return f"{array.dtype.str} {array.shape} ".encode() + array.tobytes()

    def geometry(self, unit: str) -> dict[str, Any] | None:
        return self._volume(unit).geometry

    def _slice(self, unit: str, frame: str) -> int:
        """The place of a frame along Z."""
        number = int(frame) if frame.isdecimal() else -1
        # ids are those of `geometry.slice_ids`, without a list of them
        if not 0 <= number < self._shape(unit)[-3] or frame != f"{number:05d}":
            raise self.lacks(unit, frame, self.volume(unit))
        return number

    def _shape(self, unit: str) -> tuple[int, ...]:
        """[Z, Y, X], or [C, Z, Y, X], by a header; looked up once a thread."""
        path, shapes = self.volume(unit), _last.__dict__.setdefault("shapes", {})
        key = _version(path)
        if key not in shapes:
            shape = nifti_shape(path)
            with reading(path):
                if len(shape) not in (3, 4) or math.prod(shape[-2:]) > MOST_PIXELS:
                    raise StoreError(f"is {list(shape)}; give volumes [Z, Y, X] or [C, Z, Y, X]")
            if len(shapes) >= SHAPES_KEPT:
                shapes.clear()
            shapes[key] = shape
        found: tuple[int, ...] = shapes[key]
        return found

    def _volume(self, unit: str) -> Placed:
        """All of a case; the thread's last one is kept, until its file changes."""
        path = self.volume(unit)
        key = _version(path)
        if getattr(_last, "key", None) != key:
            _last.key = _last.volume = None  # lets go of one before it takes another
            self._shape(unit)
            placed = read_nifti(path)
            with reading(path):
                _last.volume = placed._replace(array=_whole(placed.array))
            _last.key = key
        volume: Placed = _last.volume
        return volume


def _version(path: Path) -> tuple[object, ...]:
    """A file as it is now."""
    with reading(path):
        now = path.stat()
    return path, now.st_ino, now.st_mtime_ns, now.st_size


def _whole(array: np.ndarray) -> np.ndarray:
    """Ids that a tool saved as floating-point numbers, if they are whole; StoreError if not."""
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind != "f" or not (np.abs(array) < 1 << 31).all():  # NaN too
        raise StoreError(f"holds {array.dtype} numbers that are no ids; {INTEGERS}")
    whole = array.astype(np.int32)
    if (whole != array).any():
        wrong = array[whole != array].flat[0]
        raise StoreError(f"holds {wrong:g}, which is no whole number; {INTEGERS}")
    return whole
