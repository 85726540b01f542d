"""What a layout says, and what layouts of files share. H W pixels, C classes.

A unit is what is scored together: a clip, a single image, or a 3D case, whose slices are frames.
"""

from __future__ import annotations

import functools
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from fusion.errors import InputError, StoreError
from fusion.images import Images
from fusion.labels.class_map import ClassMap
from fusion.labels.formats import FORMATS, PLAIN, Stored
from fusion.labels.known_maps import MAPS
from fusion.labels.png import Size, reading, whole_file
from fusion.text import did_you_mean, listed, natural_order


class Layout(ABC):
    """The units of one data set: which there are, and what is stored of each frame.

    Making one lists units and opens no mask. It travels to other processes as its arguments, is
    made again there once, and must find the same units.

    Args:
        root: where the data set lies.
        split: which part of it; None for the usual one.
        options: those that the layout takes, by name; see `takes`.

    Raises:
        StoreError: nothing of this kind is there.
        InputError: options it does not have, or needs.
    """

    name: ClassVar[str]
    holds: ClassVar[str]  # what lies where, in a line
    marked: ClassVar[bool] = False  # a file of its own gives it away; layouts without come second
    splits: ClassVar[bool] = False  # it finds its splits itself, not in subfolders of their names
    takes: ClassVar[tuple[str, ...]] = ()  # options

    class_map: ClassMap | None = None  # what the data set itself says its values mean
    units: tuple[str, ...] = ()  # ids, in order

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        self.root, self.split = root, split
        self.options = {name: value for name, value in options.items() if value is not None}
        if unknown := sorted(set(self.options) - set(self.takes)):
            known = f"it takes {listed(self.takes)}" if self.takes else "it takes none"
            got = f"{unknown[0]}={self.options[unknown[0]]}"
            raise InputError(f"layout {self.name}: got {got}; {known}, leave it out")

    @classmethod
    def recognises(cls, root: Path, split: str | None) -> bool:
        """Whether a data set of this layout seems to lie there; looks at few names."""
        return False

    @abstractmethod
    def frames(self, unit: str) -> list[str]:
        """Ids of a unit's frames, in order; StoreError where there are none (any more)."""

    @abstractmethod
    def place(self, unit: str, frame: str) -> Path:
        """The file of a frame, to name in errors. InputError: there is no such frame."""

    @abstractmethod
    def size(self, unit: str, frame: str) -> Size:
        """(H, W) of a frame by a header."""

    @abstractmethod
    def stored(self, unit: str, frame: str, depth: int | None) -> Stored:
        """A frame as it lies there; depth: of PNGs, as in `decode_png`."""

    @abstractmethod
    def content(self, unit: str, frame: str) -> bytes:
        """What a digest of the frame is taken of."""

    def geometry(self, unit: str) -> dict[str, Any] | None:
        """Where the unit lies in the world, as `fusion.geometry` says it, if that is known."""
        return None

    def lacks(self, unit: str, frame: str, where: Path | None = None) -> InputError:
        """The error of a frame that is not there."""
        near = did_you_mean(frame, self.frames(unit), cutoff=0.5)
        place = self.root if where is None else where
        return InputError(f"labels: video {unit!r} has no frame {frame!r} in {place}{near}")

    # What training asks of where images lie and of classes, which needs no masks.

    @classmethod
    def class_names(cls, root: Path) -> tuple[str, ...] | None:
        """Names of the classes, where the data set says them."""
        return MAPS[cls.name]().names if cls.name in MAPS else None

    @classmethod
    def images(cls, root: Path, split: str | None) -> Path:
        """The folder of a split's images, for `fusion.images`; InputError: it has no such place."""
        got = f"layout {cls.name}: {root} has no place of its own for images"
        raise InputError(f"{got}; give the folders of both (images, labels)")

    @classmethod
    def pictures(cls, root: Path, split: str | None, **options: Any) -> Images:
        """The images themselves. options: as the layout was, or would be, made with."""
        return Images(cls.images(root, split))

    @classmethod
    def videos(cls, root: Path, split: str | None, **options: Any) -> tuple[str, ...]:
        """Ids of all units of a split, with or without masks."""
        return cls.pictures(root, split, **options).units()

    @classmethod
    def split_in(cls, root: Path) -> bool:
        """Whether a place has splits of its own, of which one is to be named."""
        return cls.splits

    # Layouts are values: equal if they list the same, and pickled by what they were made from.

    def _arguments(self) -> tuple[Any, ...]:
        return self.root, self.split, tuple(sorted(self.options.items()))

    def listing(self) -> object:
        """What two layouts must have in common to be the same, beyond their arguments."""
        return self.units

    @functools.cached_property
    def token(self) -> str:
        """A digest of what was listed."""
        return hashlib.sha256(repr(self.listing()).encode()).hexdigest()[:24]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return (self._arguments(), self.token) == (other._arguments(), other.token)

    def __hash__(self) -> int:
        return hash((self.name, self.token))

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), *self._arguments(), self.token)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.root)!r})"


@functools.lru_cache(maxsize=8)
def _again(
    kind: type[Layout], root: Path, split: str | None, options: tuple[Any, ...], token: str
) -> Layout:
    """A layout in another process, made once for all tasks there."""
    made = kind(root, split, **dict(options))
    if made.token != token:
        raise StoreError(f"labels: {root} changed since it was opened; open the labels again")
    return made


class Held(Layout):
    """Layouts of what Python holds in memory: it travels with them."""

    def _arguments(self) -> tuple[Any, ...]:
        return ()

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.__dict__)


def _restored(kind: type[Layout], state: dict[str, Any]) -> Layout:
    made = object.__new__(kind)
    made.__dict__.update(state)
    return made


class Files(Layout):
    """Layouts with a file a frame."""

    @abstractmethod
    def file(self, unit: str, frame: str) -> Path:
        """The file of a frame. InputError: there is no such frame."""

    def place(self, unit: str, frame: str) -> Path:
        return self.file(unit, frame)

    def size(self, unit: str, frame: str) -> Size:
        path = self.file(unit, frame)
        return FORMATS[path.suffix].size(path)

    def stored(self, unit: str, frame: str, depth: int | None) -> Stored:
        path = self.file(unit, frame)
        return FORMATS[path.suffix].read(path, depth)

    def content(self, unit: str, frame: str) -> bytes:
        path = self.file(unit, frame)
        with reading(path):
            return whole_file(path)


class Indexed(Files):
    """Layouts whose files were listed once: unit -> frame -> path below the root."""

    def index(self, found: Iterable[tuple[str, str, str]]) -> None:
        """Takes (unit, frame, path below the root) in any order. StoreError: two of one frame."""
        files: dict[str, dict[str, str]] = {}
        for unit, frame, path in found:
            frames = files.setdefault(unit, {})
            if frame in frames:
                raise twice(unit, frame, self.root / frames[frame], self.root / path)
            frames[frame] = path
        self._files = {unit: files[unit] for unit in sorted(files, key=natural_order)}
        self.units = tuple(self._files)

    def listing(self) -> object:
        return self._files

    def frames(self, unit: str) -> list[str]:
        frames = self._files[unit]
        return sorted(frames, key=natural_order) if len(frames) > 1 else list(frames)

    def file(self, unit: str, frame: str) -> Path:
        path = self._files[unit].get(frame)
        if path is None:
            raise self.lacks(unit, frame)
        return self.root / path


def twice(unit: str, frame: str, one: Path, other: Path) -> StoreError:
    """The error of two files of one frame."""
    of = f"unit {unit!r}" if frame == unit else f"unit {unit!r}, frame {frame!r}"
    return StoreError(f"labels: {one} and {other} are both of {of}; remove or rename one of them")


def directory(path: Path) -> Path:
    """The path, if it is a directory. StoreError: it is not, and what comes near."""
    if not path.is_dir():
        state = "is no directory" if path.exists() else "does not exist"
        beside = names_in(path.parent) if path.parent.is_dir() else []
        raise StoreError(f"labels: {path} {state}{did_you_mean(path.name, beside)}")
    return path


def names_in(folder: Path) -> list[str]:
    """What is in a folder, without hidden files, in natural order."""
    return sorted((n for n in os.listdir(folder) if not n.startswith(".")), key=natural_order)


def ids_in(path: Path) -> tuple[str, ...]:
    """The ids in a text file, one a line, hidden ones left out; StoreError: none, or other text."""
    try:
        lines = map(str.strip, path.read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError as error:
        do = "one folder name a line"
        raise StoreError(f"labels: {path} is no text ({error.reason}); {do}") from error
    found = tuple(line for line in lines if line and not line.startswith("."))
    if len(set(found)) != len(found):
        raise StoreError(f"labels: {path} lists a video twice; each would count twice")
    away = [v for v in found if Path(v).name != v]  # a name with a slash reads files elsewhere
    if away or not found:
        got = f"lists {len(found)} videos" + (f", {away[0]!r} is no name" if away else "")
        raise StoreError(f"labels: {path} {got}; one folder name a line")
    return found


def stems(folder: Path, suffix: str) -> list[str]:
    """The names in a folder that end so, without that end, in natural order."""
    return [name.removesuffix(suffix) for name in names_in(folder) if name.endswith(suffix)]


def masks_in(folder: Path, suffixes: Sequence[str] = PLAIN) -> list[tuple[str, str]]:
    """(id, name) of a folder's masks, in no order."""
    ends = tuple(suffixes)
    with reading(folder):
        names = [n for n in os.listdir(folder) if n.endswith(ends) and n[0] != "."]
    return [(name[: name.rindex(".")], name) for name in names]


def holds_masks(folder: Path, suffixes: Sequence[str] = PLAIN) -> bool:
    """Whether there is a mask right in a folder; stops at the first."""
    if not folder.is_dir():
        return False
    ends = tuple(suffixes)
    with os.scandir(folder) as entries:
        return any(entry.name.endswith(ends) and entry.name[0] != "." for entry in entries)


def nothing(root: Path, wanted: str, advice: str) -> StoreError:
    """The error of a place without masks; says where what lies there would lose ids."""
    lossy = (".jpg", ".jpeg", ".JPG")
    if root.is_dir() and holds_masks(root, lossy):
        advice = "JPEG changes class ids: save the masks as PNG"
    return StoreError(f"labels: {root} has no {wanted}; {advice}")
