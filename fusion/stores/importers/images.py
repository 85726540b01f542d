"""Probabilities as grey PNGs, 8- or 16-bit, number / 255 or / 65535; a file a class.

SOURCE/<video>/<frame>_<class>.png    class: its name, or its number
SOURCE/<video>/<frame>/<class>.png
SOURCE/<image>/<class>.png            a video of one frame

One class, "how much is it there": SOURCE/<video>/<frame>.png, or SOURCE/<image>.png.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from fusion.errors import InputError
from fusion.geometry import slice_ids
from fusion.stores.importers.folders import checked, ends, files_in, listed, stem
from fusion.stores.importers.pictures import PNG, read_picture
from fusion.stores.importers.protocol import Frames, Importer, Known, Source
from fusion.text import listed as say


@dataclass(frozen=True)
class Images(Importer):
    """Probabilities as grey PNGs."""

    kind: ClassVar[str] = "images"
    name: ClassVar[str] = "probability images"
    holds: ClassVar[str] = "<video>/<frame>_<class>.png or <video>/<frame>/<class>.png"

    @staticmethod
    def recognises(path: Path) -> bool:
        """Folders of folders only: one grey PNG looks like a label map."""
        found = _find(path)[:1]
        return bool(found) and len(found[0].files[0].relative_to(path).parts) == 3

    def known(self, path: Path) -> Known:
        return Known("probabilities", step=1 / 255)

    def videos(self, path: Path) -> list[Source]:
        return checked(path, _find(path), self.holds)

    def frames(self, source: Source, classes: Sequence[str]) -> Frames:
        found = _grouped(source, classes)

        def maps() -> Iterator[np.ndarray]:
            for files in found.values():
                channels = [_read(file) for file in files]
                shapes = {
                    file: channel.shape for file, channel in zip(files, channels, strict=True)
                }
                other = next((f for f in files if shapes[f] != shapes[files[0]]), None)
                if other is not None:
                    got = f"is {list(shapes[other])}, {files[0].name} {list(shapes[files[0]])}"
                    raise InputError(f"{other}: {got} [H, W]; a frame's classes have one size")
                yield np.stack(channels)

        return Frames(list(found), maps())


def _find(path: Path) -> list[Source]:
    if path.is_file():
        return [Source(stem(path, PNG), (path,), named=False)] if ends(path, PNG) else []
    found = []
    for entry in listed(path) if path.is_dir() else []:
        if entry.is_dir():
            files = files_in(entry, PNG)
            inner = [f for f in listed(entry) if f.is_dir()] if not files else []
            files = files or tuple(file for frame in inner for file in files_in(frame, PNG))
            if files:
                found.append(Source(entry.name, files, named=True))
        elif ends(entry, PNG):
            found.append(Source(stem(entry, PNG), (entry,), named=False))
    return found


def _grouped(source: Source, classes: Sequence[str]) -> Mapping[str, list[Path]]:
    """Frame id -> its files in the order of the classes."""
    if not source.named:
        if len(classes) > 1:
            wanted = f"a file for each of {len(classes)} classes, as <image>/<class>.png"
            raise InputError(f"{source.files[0]}: one image; give {wanted}")
        return {slice_ids(1)[0]: [source.files[0]]}
    deep = source.files[0].parent.name != source.video
    if len(classes) == 1 and not deep:
        return {stem(file, PNG): [file] for file in source.files}
    numbers = {str(c): c for c in range(len(classes))}
    by_name = {name: c for c, name in enumerate(classes)}
    alone = not deep and all(_class_of(stem(f, PNG), by_name, numbers) for f in source.files)
    frames: dict[str, dict[int, Path]] = {}
    for file in source.files:
        plain = stem(file, PNG)
        frame = file.parent.name if deep else slice_ids(1)[0]
        found = _class_of(plain, by_name, numbers)
        if not deep and not alone:
            frame, found = _split(plain, by_name, numbers)
        if found is None or found[0] in frames.setdefault(frame, {}):
            what = "is of no class" if found is None else "is of a class that is there already"
            wanted = f"<frame>_<class>.png or <frame>/<class>.png, classes {say(classes, 5)}"
            raise InputError(f"{file}: {what}; name files {wanted} or their numbers")
        frames[frame][found[0]] = file
    for frame, files in frames.items():
        lost = [name for c, name in enumerate(classes) if c not in files]
        if lost:
            problem = f"frame {frame!r} has no file of {len(lost)} classes ({say(lost, 3)})"
            raise InputError(f"{source.files[0].parent}: {problem}; give one of every class")
    return {frame: [files[c] for c in range(len(classes))] for frame, files in frames.items()}


def _class_of(
    text: str, by_name: Mapping[str, int], numbers: Mapping[str, int]
) -> tuple[int] | None:
    """The class of a name, or of a number however many zeros it begins with."""
    if text in by_name:
        return (by_name[text],)
    plain = text.lstrip("0") or "0"
    return (numbers[plain],) if text.isascii() and text.isdigit() and plain in numbers else None


def _split(
    text: str, by_name: Mapping[str, int], numbers: Mapping[str, int]
) -> tuple[str, tuple[int] | None]:
    """Frame and class of <frame>_<class>; of two names that fit the longer."""
    parts = text.split("_")
    for n in range(1, len(parts)):
        found = _class_of("_".join(parts[n:]), by_name, numbers)
        if found is not None:
            return "_".join(parts[:n]), found
    return text, None


def _read(file: Path) -> np.ndarray:
    codes = read_picture(file, palette=False)
    return codes.astype(np.float32) / np.float32(np.iinfo(codes.dtype).max)
