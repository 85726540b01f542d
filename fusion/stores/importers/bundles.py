"""Files that hold many arrays by name: which of them are videos. What HDF5 and Zarr share.

An array [T, C, H, W] or [C, H, W] is a video of the array's name. One array alone is a video of its
file's name, whose first axis counts frames; or single images, each a video (`first="videos"`). A
list of as many strings beside it names them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fusion.errors import FusionError, InputError
from fusion.geometry import slice_ids
from fusion.stores.codec import MAX_FRAME_ELEMENTS
from fusion.stores.importers.axes import Clip, axes_option, order_of
from fusion.stores.importers.folders import checked, stem
from fusion.stores.importers.protocol import Frames, Importer, Source, option

FIRST = ("frames", "videos")
TEXT = "OSUT"  # kinds of NumPy's types of strings


@dataclass(frozen=True)
class Bundles(Importer):
    """What an importer of such files inherits; it says which they are and how one is opened."""

    suffixes: ClassVar[tuple[str, ...]]

    key: str | None = option(
        "name of the array in files of several (default: the only one, or nnU-Net's)"
    )
    axes: str | None = axes_option()
    first: str | None = option(
        "what the first axis counts in a file of one array [N, C, H, W] (default frames)",
        choices=FIRST,
    )

    @classmethod
    def files(cls, path: Path) -> list[Path]:
        """The files of a folder, or the one that is given."""
        raise NotImplementedError

    @classmethod
    def opened(cls, file: Path) -> contextlib.AbstractContextManager[Mapping[str, Any]]:
        """Arrays by name: each has shape, dtype and chunks, and slices are read as asked for."""
        raise NotImplementedError

    @classmethod
    def complete(cls, array: Any) -> str | None:
        """What is missing of an array that reads all the same."""
        return None

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return bool(cls.files(path))

    def videos(self, path: Path) -> list[Source]:
        files = self.files(path)
        found = [source for file in files for source in self._sources(file, alone=len(files) == 1)]
        return checked(path, found, self.holds)

    def _sources(self, file: Path, *, alone: bool) -> list[Source]:
        with self._reading(file), self.opened(file) as arrays:
            shapes = {name: array.shape for name, array in arrays.items()}
            found = [name for name, array in arrays.items() if _is_floats(array)]
            if self.key is not None:
                found = [name for name in found if name == self.key]
            if not found:
                held = ", ".join(f"{name} {list(shape)}" for name, shape in [*shapes.items()][:5])
                wanted = "floats [T, C, H, W] or [C, H, W]"
                what = f"no {wanted}" + (f" called {self.key!r}" if self.key else "")
                raise InputError(f"{file}: holds {what}, but {held or 'nothing'}; export them")
            own = stem(file, self.suffixes)
            if self.first == "videos":
                return self._images(file, found, arrays)
            if len(found) == 1:
                return [Source(own, (file,), False, found[0])]
            return [
                Source(name if alone else f"{own}/{name}", (file,), False, name) for name in found
            ]

    def _images(self, file: Path, found: list[str], arrays: Mapping[str, Any]) -> list[Source]:
        if len(found) > 1:
            problem = f"holds {len(found)} arrays, and first=videos is for one"
            raise InputError(f"{file}: {problem}; choose one with key=NAME")
        number = arrays[found[0]].shape[self._frame_axis()]
        names = _names(arrays, number) or slice_ids(number)
        return [Source(name, (file,), False, found[0], n) for n, name in enumerate(names)]

    def _frame_axis(self) -> int:
        return max(0, (self.axes or "T").find("T"))

    def frames(self, source: Source, classes: Sequence[str]) -> Frames:
        file, part = source.files[0], source.part or ""
        where = f"{file}, {part!r}"
        with self._reading(file), self.opened(file) as arrays:
            array, index = arrays[part], source.index
            order = order_of(array.shape, len(classes), self.axes, where)
            _check_size(array, order, where)
            if lost := self.complete(array):
                raise InputError(f"{where}: {lost}; write the array again")
            number = array.shape[order.index("T")] if "T" in order else 1
            names = None if index is not None else _names(arrays, number)

        def read() -> Iterator[np.ndarray]:
            with self._reading(file), self.opened(file) as again:
                yield from Clip(again[part], order).at(index)

        return Frames(slice_ids(1) if index is not None else names or slice_ids(number), read())

    @contextlib.contextmanager
    def _reading(self, file: Path) -> Iterator[None]:
        """Turns a library's errors into one that names the file."""
        try:
            yield
        except (FusionError, GeneratorExit):
            raise
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0][:160]
            raise InputError(f"{file}: cannot be read ({reason}); restore it") from error


def _is_floats(array: Any) -> bool:
    return len(array.shape) in (3, 4) and np.dtype(array.dtype).kind == "f"


def _names(arrays: Mapping[str, Any], number: int) -> list[str] | None:
    """The only list of that many strings."""
    lists = [
        array
        for array in arrays.values()
        if array.shape == (number,) and np.dtype(array.dtype).kind in TEXT
    ]
    if len(lists) != 1:
        return None
    values = np.asarray(lists[0][:]).tolist()
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]


def _check_size(array: Any, order: str, where: str) -> None:
    """That neither a frame nor a chunk, which is unpacked whole, is larger than any frame."""
    frame = math.prod(n for n, axis in zip(array.shape, order, strict=True) if axis != "T")
    chunk = math.prod(getattr(array, "chunks", None) or (1,))
    if not 0 < max(frame, chunk) <= MAX_FRAME_ELEMENTS or 0 in array.shape:
        got = f"claims {list(array.shape)} numbers, chunks of {chunk}"
        raise InputError(f"{where}: {got}; write it in chunks of a frame each")
