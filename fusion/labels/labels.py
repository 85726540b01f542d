"""Label maps: ground truth and predictions.

H W pixels, C classes. A label map is an array [H, W] of class ids 0..C-1 and void: uint8 with void
255, or, beyond 255 classes, uint16 with void 65535. Where masks lie is a layout's to say
(`fusion.labels.layouts`), what their values mean a class map's (`fusion.labels.class_map`); without
one they are class ids. A unit is called video: a clip, a single image or a 3D case; it may have
labels for some of its frames only. What is no whole mask of the right kind and size is an error
that names the file, never a guess.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.arguments import checked
from fusion.errors import InputError
from fusion.kernels.numbers import void_label
from fusion.labels import channels as targets
from fusion.labels.class_map import ClassMap
from fusion.labels.formats import Stored
from fusion.labels.layouts import Layout, open_layout
from fusion.labels.layouts.arrays import Arrays, Frames
from fusion.labels.layouts.hf import HeldDataset
from fusion.labels.lookup import Value, pack, packed
from fusion.labels.meaning import Map, as_ids, chosen_map, mapped
from fusion.labels.png import PathLike, Size, colours_found
from fusion.text import did_you_mean, listed

STRAYS = ("error", "void")
SHOWN = 8  # values in one error


@checked
@dataclass(frozen=True, repr=False)
class Labels:
    """The label maps of a set of videos; read when they are asked for. Made by `open` and the like.

    Args:
        rule: the layout, opened.
        videos: ids in order.
        classes: C if it is known here; else any id is taken until `read` is told.
        stray: what becomes of values that are in no entry: "error", which names file and values, or
            "void".
        class_map: what stored values mean; None where they are class ids.
    """

    rule: Layout
    videos: tuple[str, ...]
    classes: int | None = None
    stray: str = "error"
    class_map: ClassMap | None = None

    @classmethod
    def open(
        cls,
        layout: str,
        root: PathLike,
        split: str | None = None,
        *,
        classes: int | None = None,
        stray: str = "error",
        class_map: Map | None = None,
        **options: str | None,
    ) -> Self:
        """The labels of a data set that lies as `layout` says.

        Args:
            layout: a name in `LAYOUTS`, or "auto" for whichever recognises the place.
            root: the folder or file.
            split: the part of it; of layouts without own splits the subfolder of that name.
            classes: C, where no class map says it.
            stray: "error" or "void", for values that are no labels.
            class_map: as `read_class_map` takes it, "none" for values as they are; default: what
                the layout itself says.
            options: the layout's, such as pattern.

        Raises:
            StoreError: no such directory or list, no masks, or a listed video without them.
            InputError: an unknown layout, map or option.
        """
        place = Path(root)
        return cls._of(open_layout(layout, place, split, **options), classes, stray, class_map)

    @classmethod
    def _of(cls, rule: Layout, classes: int | None, stray: str, class_map: Map | None) -> Self:
        if stray not in STRAYS:
            raise InputError(f"stray: got {stray!r}; choose one of {', '.join(STRAYS)}")
        known = chosen_map(rule, class_map)
        if known is not None and known.names:
            if classes is not None and classes != len(known.names):
                got = f"got {classes}, the class map has {len(known.names)}"
                raise InputError(f"classes: {got}; leave classes out")
            classes = len(known.names)
        return cls(rule, rule.units, classes, stray, known)

    @classmethod
    def folder(
        cls,
        path: PathLike,
        *,
        classes: int | None = None,
        stray: str = "error",
        class_map: Map | None = None,
    ) -> Self:
        """Labels as ``<video>/<frame>.png``, 16-bit beyond 255 classes; raises as `open`."""
        return cls.open("folder", path, classes=classes, stray=stray, class_map=class_map)

    @classmethod
    def vspw(cls, root: PathLike, split: str = "val", *, stray: str = "error") -> Self:
        """Labels of a VSPW tree, 480p or original, as ``<split>.txt`` lists; raises as `open`."""
        return cls.open("vspw", root, split, stray=stray)

    @classmethod
    def from_arrays(
        cls,
        units: Mapping[str, ArrayLike],
        *,
        frames: Frames | None = None,
        classes: int | None = None,
        stray: str = "error",
        class_map: Map | None = None,
    ) -> Self:
        """Labels in memory.

        Args:
            units: id -> integers [H, W] of one frame or [T, H, W]; channels [T, C, H, W], or bool
                [C, H, W] of one frame; colours uint8 [T, H, W, 3].
            frames: ids of a unit's frames; default 00000, 00001, ..., and the unit's id where its
                array is a single image.
            classes, stray, class_map: as in `open`.

        Raises:
            InputError: other types or shapes, no unit, another number of ids.
        """
        rule = Arrays(Path(), units=dict(units), frames=None if frames is None else dict(frames))
        return cls._of(rule, classes, stray, class_map)

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        column: str | None = None,
        unit_column: str | None = None,
        *,
        frame_column: str | None = None,
        classes: int | None = None,
        stray: str = "error",
        class_map: Map | None = None,
    ) -> Self:
        """Labels in a column of a Hugging Face `datasets.Dataset`; see `layouts.hf`.

        Args:
            dataset: one split, not streamed.
            column: of masks: images (PNG) or arrays; default the only one with such a name.
            unit_column: of ids; rows of equal ids are frames of one unit. Default: a unit a row.
            frame_column: of frame ids.
            classes, stray, class_map: as in `open`.
        """
        columns = {"column": column, "unit_column": unit_column, "frame_column": frame_column}
        rule = HeldDataset(Path("dataset"), dataset=dataset, **columns)
        return cls._of(rule, classes, stray, class_map)

    @property
    def root(self) -> Path:
        """Where the data set lies."""
        return self.rule.root

    @property
    def layout(self) -> str:
        """The layout's name in `LAYOUTS`."""
        return self.rule.name

    @property
    def names(self) -> tuple[str, ...] | None:
        """The C class names, where a class map knows them."""
        return self.class_map.names or None if self.class_map is not None else None

    @property
    def void(self) -> int:
        """The label of pixels that never count."""
        return void_label(self.classes)

    def frames(self, video: str) -> list[str]:
        """Ids of the frames that have labels, in natural order (2 before 10)."""
        return self.rule.frames(self._known(video))

    def path(self, video: str, frame: str) -> Path:
        """The file of one frame. InputError: no such video or frame, and what comes near."""
        return self.rule.place(self._known(video), frame)

    def size(self, video: str, frame: str | None = None) -> Size:
        """(H, W) of a frame, of the video's first one by default; reads the file's header only."""
        return self.rule.size(video, self.frames(video)[0] if frame is None else frame)

    def geometry(self, video: str) -> dict[str, Any] | None:
        """Where a volume or raster lies, as `fusion.geometry` has it; None for plain images."""
        return self.rule.geometry(self._known(video))

    def raw(self, video: str, frame: str, *, classes: int | None = None) -> NDArray[np.integer]:
        """The values as stored: what VSPW's own video consistency script compares.

        Ids [H, W], colours as one number each [H, W], or channels [C, H, W].
        """
        stored = self._stored(video, frame, classes)
        return packed(stored.array) if stored.kind == "colours" else stored.array

    def read(
        self, video: str, frame: str, *, classes: int | None = None, size: Size | None = None
    ) -> NDArray[np.integer]:
        """Class ids [H, W], uint8 with void 255 (uint16 with void 65535 beyond 255 classes).

        Args:
            classes: C, where it was not given before; ids at or above it are no labels.
            size: the (H, W) that the file must have.

        Raises:
            InputError: values that are no labels, other size.
            StoreError: a file that is not a whole label PNG.
        """
        labels, stray = self._labels(video, frame, classes, size)
        if stray and self.stray == "error":
            void = void_label(self.classes if classes is None else classes)
            limit = (self.classes if classes is None else classes) or void
            allowed = f"0..{limit - 1} (void is {void})"
            if self.class_map is not None:
                allowed = self.class_map.allowed(classes)
            self._refuse(video, frame, stray, allowed)
        return labels

    def channels(
        self, video: str, frame: str, classes: int | Sequence[str], *, size: Size | None = None
    ) -> NDArray[np.uint8]:
        """Targets of independent channels, uint8 [C, H, W] of 0, 1 and void 255.

        Stored channels are taken as they are, a mask of 0 and 1 is one channel, and ids or colours
        become channels by the class map: regions, bits, or one of each class.

        Args:
            video, frame: which.
            classes: C, or the names of the C channels: of a class map's classes some, by name.
            size: the (H, W) that the file must have.

        Raises:
            InputError: another number of channels, values that are none, other size.
            StoreError: a file that is no whole mask.
        """
        stored = self._stored(video, frame, None, channels=True)
        self._check_size(video, frame, stored.size, size)
        wanted = classes if isinstance(classes, int) else len(classes)
        array, known = stored.array, self.class_map
        try:
            if stored.kind == "channels" or (stored.kind == "colours" and known is None):
                made, stray = targets.of_channels(array, wanted)
            elif known is not None:
                made, stray = targets.of_map(known, array, classes)
            elif wanted == 1:
                made, stray = targets.of_mask(array)
            else:
                raise InputError(f"holds ids, {wanted} channels are wanted; {targets.HOW}")
        except InputError as error:
            raise InputError(f"labels: {self.path(video, frame)} {error}") from None
        if stray and self.stray == "error":
            allowed = f"bits 0..{wanted - 1}"
            if known is None or known.names:
                allowed = "0, 1 and 255" if known is None else known.allowed()
            self._refuse(video, frame, stray, allowed)
        return made

    def strays(self, video: str, frame: str, classes: int | None = None) -> dict[Value, int]:
        """Pixels by stored value that `read` takes for void though the value is not."""
        return self._labels(video, frame, classes, None)[1]

    def digest(
        self, videos: Iterable[str] | None = None, frames: Mapping[str, Sequence[str]] | None = None
    ) -> str:
        """sha256 (hex) of all that could change a score: layout, classes, stray rule, class map,
        and the ids and bytes of these videos and frames (default: all), in any order.
        """
        meaning: tuple[Any, ...] = (self.layout, self.classes, self.stray)
        # of a layout whose values always mean the same, its name says it all
        if self.class_map is not None and self.layout != "vspw":
            meaning += (self.class_map.get_config(),)
        total = hashlib.sha256(repr(meaning).encode())
        for video in sorted(self.videos if videos is None else videos):
            for frame in sorted(self.frames(video) if frames is None else frames.get(video, ())):
                content = hashlib.sha256(self.rule.content(self._known(video), frame)).hexdigest()
                total.update(f"{video!r} {frame!r} {content}\n".encode())
        return total.hexdigest()

    def summary(self) -> str:
        """What was found, in a line: layout, units, frames, three names."""
        frames = sum(len(self.frames(video)) for video in self.videos)
        known = f", {len(self.names)} classes" if self.names else ""
        amount = f"{len(self.videos):,} videos, {frames:,} frames{known}"
        return f"{self.layout} layout, {amount}: {listed(self.videos, 3)}"

    def __repr__(self) -> str:
        classes = "any" if self.classes is None else self.classes
        amount = f"{len(self.videos)} videos, {classes} classes"
        return f"{type(self).__name__}({self.layout!r}, {str(self.root)!r}; {amount})"

    def _repr_html_(self) -> str:
        """A table of at most ten lines, for notebooks."""
        rows = {"layout": self.layout, "root": str(self.root), "videos": f"{len(self.videos):,}"}
        rows["names"] = listed(self.videos, 3)
        rows["classes"] = str(self.classes or "not known")
        if self.names:
            rows["class names"] = listed(self.names, 6)
        rows["values in no entry"] = self.stray
        lines = [f"<tr><th>{name}</th><td>{escape(text)}</td></tr>" for name, text in rows.items()]
        return "\n".join(["<table>", *lines, "</table>"])

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels without what the layout knows as well, which is made again."""
        videos = None if self.videos == self.rule.units else self.videos
        own = self.class_map is self.rule.class_map
        facts = self.classes, self.stray, None if own else self.class_map
        return _restored, (type(self), self.rule, videos, own, *facts)

    @cached_property
    def _listed(self) -> frozenset[str]:
        return frozenset(self.videos)

    def _known(self, video: str) -> str:
        if video not in self._listed:
            near = did_you_mean(video, self.videos, cutoff=0.5)
            raise InputError(f"labels: no video {video!r} in {self.root}{near}")
        return video

    def _stored(
        self, video: str, frame: str, classes: int | None, *, channels: bool = False
    ) -> Stored:
        known = self.classes if classes is None else classes
        depth = 16 if known is not None and known > 255 else 8
        depends = channels or self.class_map is not None
        return self.rule.stored(self._known(video), frame, None if depends else depth)

    def _labels(
        self, video: str, frame: str, classes: int | None, size: Size | None
    ) -> tuple[NDArray[np.integer], dict[Value, int]]:
        """Class ids and void [H, W], and the pixels of values in no entry, which are void too."""
        stored = self._stored(video, frame, classes)
        self._check_size(video, frame, stored.size, size)
        known = self.class_map
        try:
            if stored.kind == "channels":
                got = f"holds {len(stored.array)} channels, not one class a pixel"
                raise InputError(f"{got}; read channels, or give masks of class ids")
            if known is not None:
                return mapped(known, stored.array, classes)
            if stored.kind == "colours":
                raise InputError(f"holds colours; {colours_found(stored.array)}")
        except InputError as error:
            raise InputError(f"labels: {self.path(video, frame)} {error}") from None
        return as_ids(stored.array, self.classes if classes is None else classes)

    def _check_size(self, video: str, frame: str, got: Size, wanted: Size | None) -> None:
        if wanted is not None and got != tuple(wanted):
            said = f"is {list(got)} [H, W], expected {list(wanted)}"
            place = self.path(video, frame)
            raise InputError(f"labels: {place} {said}; use labels of the videos' own size")

    def _refuse(self, video: str, frame: str, stray: Mapping[Value, int], allowed: str) -> None:
        most = sorted(stray.items(), key=lambda item: pack(item[0]))
        values = listed((value for value, _ in most), SHOWN)
        pixels = listed((f"{value} has {count:,} pixels" for value, count in most), SHOWN)
        path = self.path(video, frame)
        do = "correct it, or read with stray='void'"
        raise InputError(f"labels: {path} holds {values} outside {allowed}: {pixels}; {do}")


def _restored(
    kind: type[Labels], rule: Layout, videos: Any, own: bool, classes: Any, stray: str, known: Any
) -> Labels:
    videos = rule.units if videos is None else videos
    return kind(rule, videos, classes, stray, rule.class_map if own else known)
