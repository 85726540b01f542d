"""Zarr: a group with an array a unit, [T, H, W] or [H, W], or one array [N, H, W] of single images.

Integers, or channels [T, C, H, W] of 0, 1 and 255. Ids of frames are the attribute "frames" of an
array, or {unit: [...]} of the group, default 00000, 00001, ...; those of single images the
attribute "units". Zarr itself reads a chunk that is not there as the fill value: 0, if not said
otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fusion.errors import FusionError, StoreError
from fusion.geometry import slice_ids
from fusion.labels.formats import Stored, frame_kind
from fusion.labels.layouts.base import Layout, directory
from fusion.labels.png import Size, reading
from fusion.stores.importers.zarr_files import open_zarr
from fusion.text import natural_order

MARKS = ("zarr.json", ".zgroup", ".zarray")


class ZarrArrays(Layout):
    """A Zarr store of format 2 or 3 in a folder."""

    name = "zarr"
    holds = "a Zarr group or array"
    marked = True

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        super().__init__(directory(root), split, **options)
        node, self._opened = self._open(""), {}
        self.is_array = hasattr(node, "shape")
        if self.is_array:
            self._opened[""], count = node, node.shape[0] if node.shape else 0
            with reading(root):
                named = _tried(lambda: node.attrs.get("units"))
            self.units = tuple(self._ids(root, named, count))
            self._place = {unit: k for k, unit in enumerate(self.units)}
            self._kind(root, node)
        else:
            with reading(root):
                keys = sorted(_tried(lambda: list(node.array_keys())), key=natural_order)
            self.units = tuple(keys)
            with reading(root):
                self._frames: dict[str, Any] = _tried(lambda: dict(node.attrs.get("frames", {})))
        if not self.units:
            raise StoreError(f"labels: {root} has no array; give a group with an array a unit")

    @classmethod
    def recognises(cls, root: Path, split: str | None) -> bool:
        return any((root / mark).is_file() for mark in MARKS)

    def frames(self, unit: str) -> list[str]:
        if self.is_array:
            return [unit]
        array = self._array(unit)
        if array.ndim == 2:
            return [unit]
        with reading(self.root / unit):
            given = _tried(lambda: array.attrs.get("frames", self._frames.get(unit)))
        return self._ids(self.root / unit, given, array.shape[0])

    def place(self, unit: str, frame: str) -> Path:
        self._index(unit, frame)
        return self.root if self.is_array else self.root / unit

    def size(self, unit: str, frame: str) -> Size:
        path = self.place(unit, frame)
        return self._kind(path, self._array(unit))[1]

    def stored(self, unit: str, frame: str, depth: int | None) -> Stored:
        index, array, path = self._index(unit, frame), self._array(unit), self.place(unit, frame)
        kind, size = self._kind(path, array)
        with reading(path):
            values = np.asarray(_tried(lambda: array[...] if index is None else array[index]))
        values = values.view(np.uint8) if values.dtype == bool else values
        first = kind != "channels" or values.shape[-2:] == size
        return Stored(kind, values if first else np.moveaxis(values, -1, 0))

    def content(self, unit: str, frame: str) -> bytes:
        array = self.stored(unit, frame, None).array
        return f"{array.dtype.str} {array.shape} ".encode() + array.tobytes()

    def _index(self, unit: str, frame: str) -> int | None:
        """Where in its array a frame is; None where it is all of it."""
        frames = self.frames(unit)
        if frame not in frames:
            raise self.lacks(unit, frame, self.root if self.is_array else self.root / unit)
        if self.is_array:
            return self._place[unit]
        return None if self._array(unit).ndim == 2 else frames.index(frame)

    def _kind(self, path: Path, array: Any) -> tuple[str, Size]:
        with reading(path):
            return frame_kind(array.shape[-2:] if array.ndim < 3 else array.shape[1:], array.dtype)

    def _array(self, unit: str) -> Any:
        key = "" if self.is_array else unit
        if key not in self._opened:
            self._opened[key] = self._open(key)
        return self._opened[key]

    def _open(self, key: str) -> Any:
        with reading(self.root / key):
            return _tried(lambda: open_zarr(self.root, key))

    def _ids(self, path: Path, given: Any, count: int) -> list[str]:
        with reading(path):
            listed = _tried(lambda: None if given is None else [str(each) for each in given])
        ids = slice_ids(count) if listed is None else listed
        if len(ids) != count or len(set(ids)) != count:
            got = f"{count} frames, {len(ids)} ids, {len(set(ids))} different"
            raise StoreError(f"labels: {path} has {got}; give each an id of its own")
        return ids


def _tried(read: Any) -> Any:
    """What Zarr reads; its many errors as one."""
    try:
        return read()
    except FusionError:
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StoreError(f"cannot be read as Zarr ({reason}); restore it") from error
