"""Logits in .npy and .npz files: a file per video or per frame, any array key, several axis orders.

SOURCE/<video>.npy|npz            [T, C, H, W], or one frame
SOURCE/<video>/<frame>.npy|npz    [C, H, W]; nnU-Net's are read by their key ("probabilities")
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import ClassVar

import numpy as np

from fusion.errors import InputError
from fusion.stores.codec import MAX_FRAME_ELEMENTS
from fusion.stores.importers.protocol import Source, option, refusal
from fusion.text import natural_order

SUFFIXES = (".npy", ".npz")
AXES = ("TCHW", "CTHW", "CHW", "HWC", "THWC")
NNUNET_KEYS = ("probabilities", "softmax", "logits")


@dataclass(frozen=True)
class Arrays:
    """.npy and .npz files; `as_clip` tells what is taken by itself where no axes are given."""

    name: ClassVar[str] = "NumPy arrays"
    holds: ClassVar[str] = "<video>.npy|npz [T,C,H,W] or <video>/<frame>.npy|npz [C,H,W]"

    key: str | None = option(
        "name of the array in .npz files (default: the only one, or nnU-Net's)"
    )
    axes: str | None = option("order of the axes (default: told by the class count)", choices=AXES)

    @staticmethod
    def recognises(folder: Path) -> bool:
        return bool(_find(folder))

    def videos(self, folder: Path) -> list[Source]:
        found = _find(folder)
        names = [source.video for source in found]
        twice = sorted(name for name in names if names.count(name) > 1)
        if twice:
            problem = f"video {twice[0]!r} is there twice (.npy, .npz or a folder)"
            raise InputError(f"{folder}: {problem}; keep one")
        if not found:
            raise refusal(folder, self.holds)
        return found

    def frames(self, source: Source, classes: int) -> tuple[Sequence[str], Iterable[np.ndarray]]:
        def clips() -> Iterator[np.ndarray]:
            for file in source.files:  # opened one by one, as the writer asks for frames
                clip = as_clip(load_array(file, self.key), classes, self.axes, file)
                if source.named and len(clip) != 1:
                    problem = f"holds {len(clip)} frames, one expected in a file per frame"
                    raise InputError(f"{file}: {problem}; put videos into one file each")
                yield clip

        if source.named:
            return [file.stem for file in source.files], chain.from_iterable(clips())
        clip = next(clips())
        return [f"{i:05d}" for i in range(len(clip))], clip


def _find(folder: Path) -> list[Source]:
    found = []
    for entry in _listed(folder) if folder.is_dir() else []:
        if entry.is_file() and entry.suffix in SUFFIXES:
            found.append(Source(entry.stem, (entry,), named=False))
        elif entry.is_dir():
            files = tuple(file for file in _listed(entry) if file.suffix in SUFFIXES)
            if files:
                found.append(Source(entry.name, files, named=True))
    return found


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda entry: natural_order(entry.name))
    except OSError as error:
        problem = f"cannot be listed ({error.strerror})"
        raise InputError(f"{folder}: {problem}; check the folder's rights") from error


def load_array(path: Path, key: str | None) -> np.ndarray:
    """A .npy (memory-mapped) or one array of an .npz; pickles are refused."""
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with zipfile.ZipFile(path) as archive:  # NumPy would allocate whatever the headers claim
            largest = max((item.file_size for item in archive.infolist()), default=0)
        if largest > 4 * MAX_FRAME_ELEMENTS:
            advice = "split it into one file per frame"
            raise InputError(f"{path}: an array of {largest} bytes; {advice}")
        with np.load(path, allow_pickle=False) as bundle:
            array = bundle[_choose_key(bundle.files, key, path)]
        if not isinstance(array, np.ndarray):
            raise TypeError("no NumPy array under this name")
        return array
    except InputError:
        raise
    except Exception as error:  # NumPy, zipfile and zlib raise some ten unrelated kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        advice = "export plain float arrays with numpy.save or numpy.savez"
        raise InputError(f"{path}: not a readable array ({reason}); {advice}") from error


def _choose_key(keys: Sequence[str], key: str | None, path: Path) -> str:
    known = [name for name in NNUNET_KEYS if name in keys]
    if key in keys or (key is None and len(keys) == 1):
        return key or keys[0]
    if key is None and len(known) == 1:
        return known[0]
    held = f"holds {list(keys)[:8]}"
    problem = held if key is None else f"no array {key!r}, it {held}"
    raise InputError(f"{path}: {problem}; choose one with key=NAME")


def as_clip(array: np.ndarray, classes: int, axes: str | None, path: Path) -> np.ndarray:
    """[T, C, H, W] view of an array.

    Args:
        array: [T, C, H, W], [C, H, W], nnU-Net's [C, 1, H, W], or an order that `axes` gives.
        classes: C.
        axes: one of AXES.
        path: the file, for errors.
    """
    if axes is not None and axes not in AXES:
        raise InputError(f"axes: got {axes!r}; choose one of {AXES}")
    shape = array.shape
    fitting = [a for a in AXES if len(a) == len(shape) and shape[a.index("C")] == classes]
    # taken by itself only where no other reading is as likely: [C, T, H, W] is not guessed
    plain = [a for a in fitting if a in ("TCHW", "CHW") or (a == "CTHW" and shape[1] == 1)]
    order = axes or next(iter(plain), None)
    if order not in fitting:
        wanted = f"{axes or '[T, C, H, W] or [C, H, W]'} with C = {classes} classes"
        say = " or ".join(f"axes='{a}'" for a in fitting)
        hint = f"; if the order is another, say so with {say}" if fitting else ""
        raise InputError(f"{path}: shape {list(shape)}, expected {wanted}{hint}")
    if "T" not in order:
        array, order = array[None], f"T{order}"
    return array.transpose([order.index(axis) for axis in "TCHW"])
