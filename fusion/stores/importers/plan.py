"""One import: a folder is looked through, contradictions are refused, then it is written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from fusion.errors import InputError
from fusion.kernels.numbers import MOST_CLASSES
from fusion.progress import Progress, silent
from fusion.stores.format import VALUES
from fusion.stores.importers.protocol import Frames, Importer, Source
from fusion.stores.importers.values import check_values
from fusion.stores.locations import Address, location_of
from fusion.stores.pack_writer import PackWriter
from fusion.stores.writer import LogitWriter
from fusion.text import bare, did_you_mean, listed

Size = tuple[int, int]
Places = Callable[[str], Mapping[str, Any] | None]
Taker = LogitWriter | PackWriter
MANY = 16  # single images


class Beside(Protocol):
    """What an import takes from labels: `fusion.Labels`."""

    @property
    def videos(self) -> Sequence[str]: ...
    def frames(self, video: str) -> Sequence[str]: ...
    def size(self, video: str) -> Size: ...
    def geometry(self, video: str) -> Mapping[str, Any] | None: ...


class PerVideo(Mapping[str, Any]):
    """What is read of a video when it is asked for."""

    def __init__(self, videos: Sequence[str], read: Callable[[str], Any]) -> None:
        self._videos, self._read = dict.fromkeys(videos), read

    def __getitem__(self, video: str) -> Any:
        if video not in self._videos:
            raise KeyError(video)
        return self._read(video)

    def __contains__(self, video: object) -> bool:
        return video in self._videos

    def __iter__(self) -> Iterator[str]:
        return iter(self._videos)

    def __len__(self) -> int:
        return len(self._videos)


class Imported(NamedTuple):
    """How many videos an import wrote, and how many were in the store already."""

    written: int
    there: int


@dataclass(frozen=True)
class Rules:
    """How the numbers of an import are checked.

    Args:
        values: what they are said to be.
        told: whether somebody said so, the caller or the format.
        normalise: whether probabilities may sum to something else than 1.
        step: of the numbers, where the format rounds them.
    """

    values: str = "logits"
    told: bool = True
    normalise: bool = True
    step: float = 0.0


@dataclass(frozen=True)
class Plan:
    """A folder that was looked through; made by `of`.

    Args:
        importer: reads it.
        path: where it is.
        dest: the store's folder, or its URL.
        sources: its videos.
        left_out: those that have no frame ids or size and were left out.
        renamed: how many are called as in the labels, though files add a suffix.
        classes: C names.
        rules: of its numbers.
        frames: {video: ids}, of sources that do not name their own.
        size: of the images, by video or of all.
        geometry: says where a video lies whose files do not.
        overwrite: whether committed videos are replaced.
        warning: what people must know.
        store: LogitWriter's other arguments.
    """

    importer: Importer
    path: Path
    dest: Address
    sources: tuple[Source, ...]
    left_out: tuple[str, ...]
    renamed: int
    classes: tuple[str, ...]
    rules: Rules
    frames: Mapping[str, Sequence[str]] | None
    size: Size | Mapping[str, Size] | None
    geometry: Places | None
    overwrite: bool
    warning: str | None
    store: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        importer: Importer,
        path: Path,
        dest: Address,
        *,
        classes: Sequence[str] | int | None,
        values: str,
        frames: Mapping[str, Sequence[str]] | None,
        size: Size | Mapping[str, Size] | None,
        geometry: Places | None,
        intersect: bool,
        normalise: bool,
        overwrite: bool,
        store: Mapping[str, Any],
    ) -> Plan:
        """Looks through a folder; the arguments are `fusion.stores.importers.import_folder`'s."""
        if values not in ("auto", *VALUES):
            raise InputError(f"values: got {values!r}{did_you_mean(values, ('auto', *VALUES))}")
        known, found = importer.known(path), importer.videos(path)
        found, renamed = _named_as(found, _names(frames, size), path)
        names = _class_names(path, classes, known.classes)
        said = known.values if values == "auto" else values
        if values == "auto" and said == "probabilities" and len(names) == 1:
            said = "sigmoid-probabilities"  # of one class there is no softmax
        rules = Rules(said or "logits", said is not None, normalise, known.step)
        plan = cls(
            importer=importer,
            path=path,
            dest=dest,
            sources=tuple(found),
            left_out=(),
            renamed=renamed,
            classes=names,
            rules=rules,
            frames=frames,
            size=size,
            geometry=geometry,
            overwrite=overwrite,
            warning=known.warning,
            store=store,
        )
        lost = [source for source in found if not plan._knows(source)]
        if not lost:
            return plan
        if not intersect or len(lost) == len(found):
            raise InputError(f"{path}: {plan._say_lost(lost)}")
        kept = tuple(source for source in found if source not in lost)
        return replace(plan, sources=kept, left_out=tuple(source.video for source in lost))

    def _knows(self, source: Source) -> bool:
        """Whether frame ids and size of a video were given, where any were."""
        named = source.named or self.frames is None or source.video in self.frames
        return named and (not isinstance(self.size, Mapping) or source.video in self.size)

    def _say_lost(self, lost: list[Source]) -> str:
        names = _names(self.frames, self.size)
        videos = [source.video for source in lost]
        shown = listed(map(repr, videos), 3)
        problem = f"{len(lost)} of {len(self.sources)} videos ({shown}) have no labels or frame ids"
        rest = "; intersect=True imports the others" if len(lost) < len(self.sources) else ""
        return f"{problem}{did_you_mean(videos[0], sorted(names))}{rest}"

    def describe(self) -> str:
        """What was recognised, in a line."""
        videos = f"{len(self.sources)} videos, {len(self.classes)} classes, {self.rules.values}"
        out = f"; left out without labels: {listed(self.left_out, 3)}" if self.left_out else ""
        if self.renamed:
            out += f"; {self.renamed} named as the labels are: {self.sources[0].video}"
        how = "" if self.rules.told else " (assumed)"
        return f"{self.path}: {self.importer.name}, {videos}{how}{out}"

    def preview(self, most: int = 3) -> Iterator[dict[str, Any]]:
        """Facts of the first videos: id, frames, shape, size, values, geometry; writes nothing."""
        for source in self.sources[:most]:
            frames, size = self._frames(source), self._size(source)
            first = next(iter(self._checked(source, frames, size)))
            yield {
                "video": source.video,
                "frames": list(frames.ids),
                "shape": [len(frames.ids), *first.shape],
                "size": list(size or first.shape[1:]),
                "values": self.rules.values,
                "geometry": dict(frames.geometry) if frames.geometry else None,
            }

    def run(self, progress: Progress = silent) -> Imported:
        """Writes it."""
        # a store of wrong values would be in the way of the next try
        if location_of(self.dest).missing() is not None:
            next(self.preview(1))
        writer = LogitWriter(self.dest, self.classes, **{**self.store, "values": self.rules.values})
        written = 0
        with contextlib.ExitStack() as stack:
            taker = stack.enter_context(writer.pack()) if self._has_images else writer
            for source in progress(self.sources, "importing", len(self.sources)):
                frames, size = self._frames(source), self._size(source)
                arrays = self._checked(source, frames, size)
                made = frames._replace(arrays=arrays)
                written += _write(taker, source, made, size, self.overwrite)
        return Imported(written, len(self.sources) - written)

    @property
    def _has_images(self) -> bool:
        """Whether there are many single images, which share files."""
        return len(self.sources) >= MANY and len(self._frames(self.sources[0]).ids) == 1

    def _frames(self, source: Source) -> Frames:
        ids = None if source.named or self.frames is None else self.frames[source.video]
        found = _with_ids(self.importer.frames(source, self.classes), ids, source)
        if found.geometry is None and self.geometry is not None:
            found = found._replace(geometry=self.geometry(source.video))
        return found

    def _size(self, source: Source) -> Size | None:
        return self.size[source.video] if isinstance(self.size, Mapping) else self.size

    def _checked(self, source: Source, frames: Frames, size: Size | None) -> Iterator[np.ndarray]:
        return _checked(frames, source, size, self.rules)


def _names(frames: Mapping[str, Any] | None, size: Any) -> set[str]:
    """The videos that somebody gave ids or sizes for."""
    return {*(frames or ()), *(size if isinstance(size, Mapping) else ())}


def _named_as(found: Sequence[Source], known: set[str], path: Path) -> tuple[list[Source], int]:
    """Videos under the names that they have in `known`, where only a suffix is in between.

    InputError: two would have one name.
    """
    plain = {bare(name): name for name in sorted(known)}
    names = [v if v in known else plain.get(bare(v), v) for v in (s.video for s in found)]
    if twice := [name for name in names if names.count(name) > 1][:1] if known else []:
        both = [source.video for source, name in zip(found, names, strict=True) if name == twice[0]]
        got = f"{both[0]!r} and {both[1]!r} are both {twice[0]!r} in the labels"
        raise InputError(f"{path}: {got}; keep one")
    made = [replace(source, video=name) for source, name in zip(found, names, strict=True)]
    return made, sum(one != other for one, other in zip(found, made, strict=True))


def import_video(
    writer: Any,
    importer: Importer,
    source: Source,
    *,
    frames: Sequence[str] | None = None,
    size: Size | None = None,
    overwrite: bool = False,
) -> bool:
    """Writes one source as a video. Run it again to resume.

    Args:
        writer: the store's.
        importer: the one that found the source.
        source: the video.
        frames: ids for a source that does not name its own; default 00000, 00001, ...
        size: (height, width) of the images; default the arrays' own.
        overwrite: whether a committed video is replaced.

    Returns:
        False where the video was committed already.
    """
    found = importer.frames(source, writer.info.classes)
    found = _with_ids(found, None if source.named else frames, source)
    arrays = _checked(found, source, size, Rules(writer.info.values))
    return _write(writer, source, found._replace(arrays=arrays), size, overwrite)


def _with_ids(frames: Frames, ids: Sequence[str] | None, source: Source) -> Frames:
    """Frames under the ids that are given; else a single image's is called as its unit is."""
    if not ids:
        volume = (frames.geometry or {}).get("kind") == "nifti"  # of one slice, perhaps
        image = not source.named and len(frames.ids) == 1 and not volume
        return frames._replace(ids=[source.video]) if image else frames
    if len(ids) != len(frames.ids):
        problem = f"{len(frames.ids)} frames, but {len(ids)} frame ids are given for it"
        raise InputError(f"{source.files[0]}: {problem}; make them agree")
    return frames._replace(ids=ids)


def _checked(
    frames: Frames, source: Source, size: Size | None, rules: Rules
) -> Iterator[np.ndarray]:
    """The arrays, each looked at before it is handed on; errors name the file and the frame."""
    for index, array in enumerate(frames.arrays):
        frame = frames.ids[index] if index < len(frames.ids) else index
        try:
            if size is not None:
                _check_turned(array, size)
            check_values(
                array,
                rules.values,
                told=rules.told,
                normalise=rules.normalise,
                first=index == 0,
                step=rules.step,
            )
        except InputError as error:
            file = source.files[index if source.named and index < len(source.files) else 0]
            part = "" if source.part is None else f", {source.part!r}"
            raise InputError(f"{file}{part}, frame {frame!r}: {error}") from None
        yield array


def _check_turned(array: np.ndarray, size: Size) -> None:
    """Height and width swapped: the arrays' sides are as those of the images, turned."""
    (height, width), (tall, wide) = size, array.shape[1:]
    ratio, turned, straight = tall / wide, width / height, height / width
    near, far = abs(ratio / turned - 1), abs(ratio / straight - 1)
    if near < 0.02 and far > 0.05:
        got = f"arrays of {tall}x{wide} for images of {height}x{width}"
        raise InputError(f"{got}: height and width are swapped; say so with axes='CWH' or the like")


def _write(
    taker: Taker, source: Source, frames: Frames, size: Size | None, overwrite: bool
) -> bool:
    how: dict[str, Any] = {"geometry": frames.geometry, "overwrite": overwrite}
    with taker.video(source.video, frames=frames.ids, size=size, **how) as out:
        out.extend(frames.arrays)
    return not out.committed


def _class_names(
    path: Path, given: Sequence[str] | int | None, known: tuple[str, ...] | None
) -> tuple[str, ...]:
    """The class names: those that were given, unless the format contradicts, else the format's."""
    if given is None:
        if known is None:
            problem = "its files do not name the classes"
            raise InputError(f"{path}: {problem}; give classes=NAMES, or their number")
        return known
    if isinstance(given, int):
        if not 1 <= given <= MOST_CLASSES:
            raise InputError(f"classes: got {given}; give at least one, {MOST_CLASSES} at most")
        names: tuple[str, ...] = tuple(f"class_{c}" for c in range(given))
    else:
        names = tuple(given)
    if known is not None and len(known) != len(names):
        got = f"its files say {len(known)} classes ({listed(known, 5)}), classes= {len(names)}"
        raise InputError(f"{path}: {got}; leave classes= out, or give as many")
    if known is not None and names != known and set(names) == set(known):
        order = f"its files have the classes in the order {listed(known)}"
        raise InputError(f"{path}: {order}; give them in that order, or leave classes= out")
    if known is not None and isinstance(given, int):
        return known
    return names
