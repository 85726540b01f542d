"""Logits in .npy and .npz files: a file per video, image or frame, any key, several axis orders.

SOURCE/<video>.npy|npz            [T, C, H, W], or the one frame [C, H, W] of an image
SOURCE/<video>/<frame>.npy|npz    [C, H, W]; nnU-Net's are read by their key ("probabilities")
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np

from fusion.errors import InputError
from fusion.geometry import DEFLATE_RATIO, slice_ids
from fusion.stores.codec import MAX_FRAME_ELEMENTS
from fusion.stores.importers.axes import as_clip, axes_option
from fusion.stores.importers.folders import checked, find, stem
from fusion.stores.importers.protocol import Frames, Importer, Source, option

SUFFIXES = (".npy", ".npz")
NNUNET_KEYS = ("probabilities", "softmax", "logits")


@dataclass(frozen=True)
class ArrayFiles(Importer):
    """Files of `suffixes` that hold arrays, of which `load` reads one; `as_clip` tells
    what is taken by itself where no axes are given.
    """

    suffixes: ClassVar[tuple[str, ...]]

    key: str | None = option(
        "name of the array in files of several (default: the only one, or nnU-Net's)"
    )
    axes: str | None = axes_option()

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return bool(find(path, cls.suffixes))

    def load(self, path: Path) -> np.ndarray:
        """The array of a file, the one that `key` chooses."""
        raise NotImplementedError

    def videos(self, path: Path) -> list[Source]:
        return checked(path, find(path, self.suffixes), self.holds)

    def frames(self, source: Source, classes: Sequence[str]) -> Frames:
        def clip(file: Path) -> np.ndarray:
            return as_clip(self.load(file), len(classes), self.axes, file)

        return frames_of_files(source, clip, self.suffixes)


def frames_of_files(
    source: Source, clip: Callable[[Path], np.ndarray], suffixes: Sequence[str]
) -> Frames:
    """The frames of a video that `folders.find` found.

    Args:
        source: the video.
        clip: reads the [T, C, H, W] of a file.
        suffixes: of the files.
    """

    def clips() -> Iterator[np.ndarray]:
        for file in source.files:  # opened one by one, as the writer asks for frames
            frames = clip(file)
            if len(frames) != 1:
                problem = f"holds {len(frames)} frames, one expected in a file per frame"
                raise InputError(f"{file}: {problem}; put videos into one file each")
            yield frames

    if source.named:
        arrays: Iterable[np.ndarray] = chain.from_iterable(clips())
        return Frames([stem(file, suffixes) for file in source.files], arrays)
    whole = clip(source.files[0])
    return Frames(slice_ids(len(whole)), whole)


def load_array(path: Path, key: str | None, *, alone: bool = True) -> np.ndarray:
    """A .npy (memory-mapped) or one array of an .npz; pickles are refused.

    alone: whether the only array of a file will do, whatever its key.
    """
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with zipfile.ZipFile(path) as archive:  # NumPy would allocate whatever the headers claim
            _check_members(archive, path)
        with np.load(path, allow_pickle=False) as bundle:
            array = bundle[choose_key(bundle.files, key, path, alone=alone)]
        if not isinstance(array, np.ndarray):
            raise TypeError("no NumPy array under this name")
        return array
    except InputError:
        raise
    except Exception as error:  # NumPy, zipfile and zlib raise some ten unrelated kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        advice = "export plain float arrays with numpy.save or numpy.savez"
        raise InputError(f"{path}: not a readable array ({reason}); {advice}") from error


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """That no member claims more than any frame, than it can hold, or another size than its own."""
    for item in archive.infolist():
        size = item.file_size
        if size > 4 * MAX_FRAME_ELEMENTS:
            raise InputError(f"{path}: an array of {size} bytes; split it into one file per frame")
        if size > DEFLATE_RATIO * max(1, item.compress_size):
            raise ValueError(f"{item.filename} claims {size} bytes in {item.compress_size}")
        if item.filename.endswith(".npy"):
            with archive.open(item) as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0
                header = read if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = header(member)
                claimed = math.prod(shape) * dtype.itemsize
                if not dtype.hasobject and member.tell() + claimed != size:
                    raise ValueError(f"{item.filename} claims {list(shape)} in {size} bytes")


def choose_key(keys: Sequence[str], key: str | None, where: object, *, alone: bool = True) -> str:
    """The array to read of a file with several; `alone`: the only one will do."""
    known = [name for name in NNUNET_KEYS if name in keys]
    if key in keys or (key is None and len(keys) == 1 and alone):
        return key or keys[0]
    if key is None and len(known) == 1:
        return known[0]
    held = f"holds {list(keys)[:8]}"
    problem = held if key is None else f"no array {key!r}, it {held}"
    raise InputError(f"{where}: {problem}; choose one with key=NAME")


@dataclass(frozen=True)
class Arrays(ArrayFiles):
    """.npy and .npz files."""

    kind: ClassVar[str] = "arrays"
    name: ClassVar[str] = "NumPy arrays"
    holds: ClassVar[str] = "<video>.npy|npz [T,C,H,W] or <video>/<frame>.npy|npz [C,H,W]"
    suffixes: ClassVar[tuple[str, ...]] = SUFFIXES

    def load(self, path: Path) -> np.ndarray:
        return load_array(path, self.key)
