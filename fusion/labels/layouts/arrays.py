"""Labels in memory, made by `Labels.from_arrays`; nothing lies on a disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fusion.errors import InputError
from fusion.geometry import slice_ids
from fusion.labels.formats import INTEGERS, Stored
from fusion.labels.layouts.base import Held
from fusion.labels.png import Size

Frames = Mapping[str, Sequence[str]]


class Arrays(Held):
    """Units as arrays; see `unit_array` for their shapes.

    Args:
        root: unused, there is no place.
        units: id -> array.
        frames: ids of a unit's frames; default 00000, 00001, ..., and the unit's id where its array
            is a single image.
    """

    name = "arrays"
    holds = "arrays in memory"
    takes = ("units", "frames")

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        super().__init__(root, split, **options)
        units: Mapping[str, ArrayLike] = self.options.get("units") or {}
        frames: Frames = self.options.get("frames") or {}
        if not units or (unknown := set(frames) - set(units)):
            got = f"frames of {min(unknown)!r}, which has no array" if units else "no unit"
            raise InputError(f"labels: got {got}; give {{unit: array}}")
        made = {unit: unit_array(unit, array, frames.get(unit)) for unit, array in units.items()}
        self._kinds = {unit: kind for unit, (kind, _, _) in made.items()}
        self._arrays = {unit: array for unit, (_, array, _) in made.items()}
        self._places = {u: {f: k for k, f in enumerate(ids)} for u, (_, _, ids) in made.items()}
        self.units, self.options = tuple(units), {}

    def listing(self) -> object:
        def said(array: np.ndarray) -> tuple[Any, ...]:
            content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
            return array.dtype.str, array.shape, content

        places = {unit: list(frames) for unit, frames in self._places.items()}
        return places, self._kinds, {unit: said(array) for unit, array in self._arrays.items()}

    def frames(self, unit: str) -> list[str]:
        return list(self._places[unit])

    def place(self, unit: str, frame: str) -> Path:
        if frame not in self._places[unit]:
            raise self.lacks(unit, frame)
        return Path(f"{unit}[{self._places[unit][frame]}]")

    def size(self, unit: str, frame: str) -> Size:
        return self.stored(unit, frame, None).size

    def stored(self, unit: str, frame: str, depth: int | None) -> Stored:
        self.place(unit, frame)
        return Stored(self._kinds[unit], self._arrays[unit][self._places[unit][frame]])

    def content(self, unit: str, frame: str) -> bytes:
        array = self.stored(unit, frame, None).array
        return f"{array.dtype.str} {array.shape} ".encode() + array.tobytes()


def unit_array(
    unit: str, given: ArrayLike, frames: Iterable[str] | None
) -> tuple[str, np.ndarray, list[str]]:
    """Kind, array [T, ...] and frame ids of a unit.

    Args:
        unit: its id, for errors.
        given: integers [H, W] of one frame or [T, H, W]; channels of 0, 1 and 255, integers or
            bool, [T, C, H, W], or bool [C, H, W] of one frame; colours uint8 [T, H, W, 3].
        frames: T ids.
    """
    array = np.asarray(given)
    if array.dtype.kind not in "iub":
        raise InputError(f"labels: unit {unit!r} holds {array.dtype} numbers; {INTEGERS}")
    kind, single, is_bool = "ids", array.ndim == 2, array.dtype == bool
    if array.ndim == 4 or (is_bool and array.ndim == 3):
        kind, single = "channels", array.ndim == 3
        if array.shape[-1] == 3 and array.dtype == np.uint8 and array.shape[1] > 3:
            kind = "colours"
    elif array.ndim not in (2, 3):
        rule = "give [H, W], [T, H, W], or channels [T, C, H, W]"
        raise InputError(f"labels: unit {unit!r} is {list(array.shape)}; {rule}")
    if not array.size:
        raise InputError(f"labels: unit {unit!r} is {list(array.shape)}, without a pixel; drop it")
    array = array.view(np.uint8) if is_bool else array
    array = array[None] if single else array
    default = [unit] if single else slice_ids(len(array))
    ids = list(default if frames is None else frames)
    if len(ids) != len(array) or len(set(ids)) != len(ids):
        got = f"{len(array)} frames, {len(ids)} ids, {len(set(ids))} different"
        raise InputError(f"labels: unit {unit!r} has {got}; give each frame an id of its own")
    return kind, array, ids
