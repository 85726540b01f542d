"""A store whose numbers are arrays in memory: what notebooks fuse without writing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion.arguments import checked
from fusion.errors import InputError
from fusion.geometry import slice_ids
from fusion.stores import format as disk
from fusion.stores.codec import kernel_numbers, to_numpy
from fusion.stores.documents import crc32c
from fusion.stores.store import Store
from fusion.stores.video_writer import checked_names, checked_size
from fusion.text import listed

PROFILE = "memory"  # no code: float32 logits, as a store of the exact profile without float16
SHOWN = 8  # of names, characters of a digest
Size = tuple[int, int]


@checked
class MemoryStore(Store):
    """One model's predictions for one split, as arrays in memory.

    The numbers are checked as `LogitWriter` checks them and copied as float32, so that nothing
    changes with the arrays afterwards. A copy travels to every process that fuses them.

    Args:
        arrays: unit (a video, an image, a case) -> [C, h, w] or [T, C, h, w], or one array
            [N, C, h, w], or a list of N such units, which are called "0000", "0001", ... Floats of
            any framework, dtype and device.
        classes: C names; default "0", "1", ...
        values: what the arrays are, as `LogitWriter` takes it.
        model: its name; default one made of the content.
        size: (H, W) of the source images, the resolution of the labels, for all units or by unit;
            default the arrays' own.
        frames: ids of T frames, for all units or by unit; default "00000", "00001", ..., and the
            unit's id where its array is a single image.

    Raises:
        InputError: what `LogitWriter` and its `append` refuse, in their words.
    """

    item_bytes = 4

    def __init__(
        self,
        arrays: Any,
        classes: Sequence[str] | None = None,
        *,
        values: disk.Values = "logits",
        model: str = "",
        size: Size | Mapping[str, Size] | None = None,
        frames: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        where = model or type(self).__name__
        if values not in disk.VALUES:
            raise InputError(f"{where}: values {values!r}; choose one of {disk.VALUES}")
        units = units_of(arrays, 3)
        clips = {unit: _clip(where, unit, array) for unit, array in units.items()}
        if classes is None:
            classes = [str(c) for c in range(next(iter(clips.values())).shape[1])]
        names = checked_names("classes", classes)
        self._numbers: dict[str, np.ndarray] = {}
        videos = []
        for unit, clip in clips.items():
            default = [unit] if len(units[unit].shape) == 3 else slice_ids(len(clip))
            said = default if frames is None else _of_unit(frames, unit)
            ids = checked_names(f"video {unit!r}: frames", said)
            kept = self._numbers[unit] = _kept(f"{where}: video {unit!r}", clip, ids, names, values)
            place = checked_size(unit, _of_unit(size, unit)) or kept.shape[2:]
            crc = tuple(map(crc32c, kept))
            videos.append(disk.VideoInfo(unit, ids, place, kept.shape, len(kept), crc))
        super().__init__("memory", model, names, PROFILE, values, videos)
        # what it is called follows from the content: no sum depends on who was there first
        content = self.digest()[:SHOWN]
        self.model = model or f"memory-{content}"
        self.place = f"memory:{self.model}" + (f"-{content}" if model else "")

    @property
    def folder(self) -> Path:
        do = "write it with LogitWriter, and give the ensemble that store"
        raise InputError(f"{self.place}: lies in memory, not in a folder; {do}")

    def codes(self, video: str, frames: Sequence[str] | None = None) -> np.ndarray:
        """Frames as float32 [T, C, h, w]: logits, or scores.

        Args:
            video: its id.
            frames: ids, in the order asked for; default all, in stored order.
        """
        wanted = list(self._positions(video, frames))
        return self._numbers[video][wanted]

    read = codes


def units_of(arrays: Any, axes: int) -> dict[str, Any]:
    """Arrays by unit, from a mapping, an array of one axis more than a unit has, or a list.

    Args:
        arrays: as `MemoryStore` takes them.
        axes: of a unit's single frame.
    """
    if isinstance(arrays, Mapping):
        found = {unit: as_array(array) for unit, array in arrays.items()}
        if wrong := [unit for unit in found if not isinstance(unit, str)]:
            raise InputError(f"arrays: unit {wrong[0]!r}; give a string")
    else:
        images = arrays
        if not isinstance(arrays, list | tuple) or not all(hasattr(a, "shape") for a in arrays):
            images = as_array(arrays)
            if len(images.shape) != axes + 1:
                got, do = list(images.shape), "with the units first, or a dict of unit -> array"
                raise InputError(f"arrays: got shape {got}; give {axes + 1} axes {do}")
        found = {f"{n:04d}": as_array(image) for n, image in enumerate(images)}
    if not found:
        raise InputError("arrays: got none; give at least one unit")
    return found


def as_array(array: Any) -> Any:
    """An array of any framework as it is, without its gradient; nested lists as NumPy's."""
    if hasattr(array, "detach"):
        return array.detach()
    if hasattr(array, "shape"):
        return array
    try:
        return np.asarray(array)
    except ValueError as error:
        raise InputError(f"arrays: {error}; give arrays, or lists of equal lengths") from error


def _clip(where: str, unit: str, array: Any) -> Any:
    """A unit's array as [T, C, h, w]."""
    if len(array.shape) not in (3, 4) or 0 in array.shape:
        got = f"video {unit!r} has shape {list(array.shape)}"
        raise InputError(f"{where}: {got}; give [C, h, w] or [T, C, h, w], nothing empty")
    return array if len(array.shape) == 4 else array[None]


def _kept(
    where: str, clip: Any, ids: Sequence[str], classes: Sequence[str], values: str
) -> np.ndarray:
    """A unit's frames [T, C, h, w] as kernels take them, checked."""
    if len(ids) != len(clip):
        raise InputError(f"{where}: got {len(clip)} frames and {len(ids)} ids; give an id for each")
    kept = np.empty(clip.shape, np.float32)
    for target, frame, name in zip(kept, clip, ids, strict=True):
        try:
            target[...] = kernel_numbers(to_numpy(frame), len(classes), values)
        except InputError as error:
            raise InputError(f"{where}, frame {name!r}: {error}") from None
    return kept


def _of_unit(given: Any, unit: str) -> Any:
    """What is said of all units, or of this one by name."""
    if not isinstance(given, Mapping):
        return given
    if unit not in given:
        raise InputError(f"video {unit!r}: no entry among {listed(given)}; give one for each")
    return given[unit]
