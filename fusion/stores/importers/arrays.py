"""Bringing logits that lie in .npy and .npz files: a file per video or per frame, any array key, several axis orders.

SOURCE/<video>.npy|npz          [T, C, H, W], or one frame
SOURCE/<video>/<frame>.npy|npz  [C, H, W]; nnU-Net's .npz are read by their key ("probabilities")
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusion.errors import InputError
from fusion.stores.format import MAX_FRAME_ELEMENTS
from fusion.stores.writer import LogitWriter

SUFFIXES = (".npy", ".npz")
AXES = ("TCHW", "CTHW", "CHW", "HWC", "THWC")
NNUNET_KEYS = ("probabilities", "softmax", "logits")


@dataclass(frozen=True)
class Source:
    """One video to import: its id, and either one file or a file per frame."""

    video: str
    files: tuple[Path, ...]
    per_frame: bool


def find_videos(folder: Path) -> list[Source]:
    """What there is to import, in natural order; InputError where the folder holds no arrays."""
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; give one that holds <video>.npy|npz or <video>/<frame>.npy|npz"
        )
    found = []
    for entry in sorted(folder.iterdir(), key=natural):
        if entry.is_file() and entry.suffix in SUFFIXES:
            found.append(Source(entry.stem, (entry,), False))
        elif entry.is_dir():
            files = tuple(sorted((f for f in entry.iterdir() if f.suffix in SUFFIXES), key=natural))
            if files:
                found.append(Source(entry.name, files, True))
    twice = {source.video for source in found if [s.video for s in found].count(source.video) > 1}
    if twice:
        raise InputError(
            f"{folder}: video {sorted(twice)[0]!r} is there twice (.npy, .npz or a folder); keep one"
        )
    if not found:
        raise InputError(
            f"{folder}: no .npy or .npz inside; give the folder that holds <video>.npy or <video>/<frame>.npy"
        )
    return found


def natural(path: Path) -> tuple[Any, ...]:
    """frame2 before frame10."""
    return tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part)
        for part in re.split(r"(\d+)", path.name)
    )


def import_videos(
    writer: LogitWriter,
    sources: Iterable[Source],
    *,
    key: str | None = None,
    axes: str | None = None,
    frames: Mapping[str, Sequence[str]] | None = None,
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> Iterator[tuple[str, bool]]:
    """Writes each source as a video; yields its id and whether it was there already. Run it again to resume.

    key: the array's name in .npz files. axes: order of the axes, one of AXES, default as `as_clip` tells it. frames: frame ids
    by video, default the file names, or 0, 1, 2, ... in a file per video. sizes: (height, width) of the images by video.
    """
    for source in sources:
        if source.per_frame:
            ids: Sequence[str] = [file.stem for file in source.files]
            arrays: Iterable[np.ndarray] = (
                _single(load_array(f, key), writer, axes, f) for f in source.files
            )
        else:
            clip = as_clip(
                load_array(source.files[0], key), len(writer.info.classes), axes, source.files[0]
            )
            ids = (frames or {}).get(source.video) or [f"{i:05d}" for i in range(len(clip))]
            if len(ids) != len(clip):
                raise InputError(
                    f"{source.files[0]}: {len(clip)} frames, but {len(ids)} frame ids are given for it; make them agree"
                )
            arrays = clip
        with writer.video(source.video, frames=ids, size=(sizes or {}).get(source.video)) as out:
            if not out.committed:
                for array in arrays:
                    out.append(array)
        yield source.video, out.committed


def _single(array: np.ndarray, writer: LogitWriter, axes: str | None, path: Path) -> np.ndarray:
    clip = as_clip(array, len(writer.info.classes), axes, path)
    if len(clip) != 1:
        raise InputError(
            f"{path}: holds {len(clip)} frames, one expected in a file per frame; put videos into one file each"
        )
    return clip[0]


def load_array(path: Path, key: str | None) -> np.ndarray:
    """A .npy (memory-mapped) or one array of an .npz; pickles are refused."""
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with zipfile.ZipFile(path) as archive:
            largest = max((item.file_size for item in archive.infolist()), default=0)
            if largest > 4 * MAX_FRAME_ELEMENTS:
                raise InputError(
                    f"{path}: an array of {largest} bytes; split it into one file per frame"
                )
        with np.load(path, allow_pickle=False) as bundle:
            array = bundle[_choose_key(bundle.files, key, path)]
        if not isinstance(array, np.ndarray):
            raise TypeError("no NumPy array under this name")
        return array
    except InputError:
        raise
    except (
        Exception
    ) as error:  # of damaged files NumPy, zipfile and zlib raise some ten unrelated kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path}: not a readable array ({reason}); export plain float arrays with numpy.save or numpy.savez"
        ) from error


def _choose_key(keys: Sequence[str], key: str | None, path: Path) -> str:
    if key is not None and key not in keys:
        raise InputError(
            f"{path}: no array {key!r}, it holds {list(keys)[:8]}; choose one with --key"
        )
    known = [name for name in NNUNET_KEYS if name in keys]
    if key is None and len(keys) != 1 and len(known) != 1:
        raise InputError(f"{path}: holds {list(keys)[:8]}; choose one with --key")
    return key or (keys[0] if len(keys) == 1 else known[0])


def as_clip(array: np.ndarray, classes: int, axes: str | None, path: Path) -> np.ndarray:
    """[T, C, H, W] view of an array: [T, C, H, W], [C, H, W] or nnU-Net's [C, 1, H, W] by themselves, other orders by `axes`."""
    if axes is not None and axes not in AXES:
        raise InputError(f"--axes: got {axes!r}; choose one of {AXES}")
    fitting = [
        order
        for order in AXES
        if len(order) == array.ndim and array.shape[order.index("C")] == classes
    ]
    plain = [
        order
        for order in fitting
        if order in ("TCHW", "CHW") or (order == "CTHW" and array.shape[1] == 1)
    ]
    order = axes or (plain[0] if plain else None)
    if order not in fitting:
        hint = f"; if its axes are {' or '.join(fitting)}, say so with --axes" if fitting else ""
        raise InputError(
            f"{path}: shape {list(array.shape)}, expected {axes or '[T, C, H, W] or [C, H, W]'} with C = {classes} classes{hint}"
        )
    if "T" not in order:
        array, order = array[None], f"T{order}"
    return array.transpose([order.index(axis) for axis in "TCHW"])


def read_classes(path: Path) -> list[str]:
    """Class names: a JSON list, or one name a line."""
    try:
        text = path.read_text(encoding="utf-8")
        names = (
            json.loads(text)
            if path.suffix == ".json"
            else [line.strip() for line in text.splitlines() if line.strip()]
        )
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: class names cannot be read ({error}); give one name a line, or a JSON list"
        ) from error
    if not isinstance(names, list):
        raise InputError(f"{path}: holds {type(names).__name__}; give a JSON list of class names")
    return names


def read_frames(path: Path) -> dict[str, list[str]]:
    """Frame ids by video: a JSON object {video: [frame, ...]}, at the top or under "videos"."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        frames = document.get("videos", document)
        if not all(isinstance(ids, list) for ids in frames.values()):
            raise TypeError("a video's frames are no list")
        return {video: [str(frame) for frame in ids] for video, ids in frames.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path}: frame ids cannot be read ({error}); give JSON {{video: [frame, ...]}}"
        ) from error
