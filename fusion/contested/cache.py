"""Condensed videos on disk, whole or not there, so that processes may build them side by side.

    <root>/<digest>.2/marker            version, digest, groups, classes
    <root>/<digest>.2/<video>/marker    the same, the video's id, and of every span of `pixels`
                                        candidates per pixel, number of pixels, and CRC-32C
    <root>/<digest>.2/<video>/pixels    the spans, each a run's targets, classes and means as
                                        fusion.kernels.contested.layout has them in memory; then
                                        constant [C, C] and rows [C], int64

`digest` stands for everything that the pixels depend on: stores, labels, groups, resize, stride.
A marker ends with the sha256 of itself; a span is read as a whole and checked before use. So a
byte that changed, a file cut short, edited, or taken from another video or build is an error, never
another number. A video is staged in a locked folder and renamed into its place; what a killed build
left is swept at the next start.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import google_crc32c
import numpy as np

from fusion import files, sealed
from fusion.contested.pixels import MEMORY, Condensed
from fusion.contested.video import VideoPixels
from fusion.ensemble.plan import Budget
from fusion.errors import CorruptStoreError, StoreError
from fusion.kernels.contested import layout
from fusion.kernels.contested.layout import Block, Run, bundle_bytes, bundles
from fusion.stores.format import video_key

VERSION = 2
MARKER, PIXELS = "marker", "pixels"
SPAN = 1 << 18  # bytes that are read and checked together, or one bundle if that is more
LONGEST_MARKER = 1 << 28  # bytes; its spans would describe terabytes
WHOLE = 1 << 62  # bundles
DAMAGE = (
    *(FileNotFoundError, NotADirectoryError),
    *(ValueError, KeyError, TypeError, OverflowError, RecursionError),
)


def cache_folder(root: Path, digest: str) -> Path:
    """Where a digest's pixels are kept; those of version 1 are removed, with a line on stderr."""
    old = root / digest[:16]
    if old.is_dir() and not old.is_symlink():
        print(f"{old}: condensed pixels in an older format; they are built again", file=sys.stderr)
        shutil.rmtree(old, ignore_errors=True)
    return root / f"{digest[:16]}.{VERSION}"


class Span(NamedTuple):
    """A run on disk: candidates of each pixel, pixels, CRC-32C."""

    width: int
    pixels: int
    crc: int

    def nbytes(self, groups: int) -> int:
        return bundles(self.pixels) * bundle_bytes(self.width, groups)


class CondensedCache:
    """A folder of condensed videos.

    Args:
        path: created where missing.
        digest: what the pixels were made from.
        groups, classes: names.

    Raises:
        StoreError: the folder is of another digest, groups, classes or version, is damaged, or
            cannot be written.
    """

    def __init__(
        self, path: str | Path, digest: str, groups: Sequence[str], classes: Sequence[str]
    ) -> None:
        self.path, self.groups, self.classes = Path(path), tuple(groups), tuple(classes)
        self.identity: dict[str, Any] = {"version": VERSION, "digest": digest}
        self.identity |= {"groups": list(groups), "classes": list(classes)}
        marker = self.path / MARKER
        if os.path.lexists(self.path) and not self.path.is_dir():
            raise StoreError(f"{self.path}: cannot be used: it is no folder; give another place")
        if not os.path.lexists(marker):
            # of several that start at once one makes the marker, the others compare theirs with it
            found = contextlib.suppress(FileExistsError)
            fresh = files.replacing(marker, overwrite=False, durable=True)
            with files.refusals(self.path), found, fresh as scratch:
                scratch.write_bytes(sealed.marker(self.identity))
        with _damage(self.path):
            kept = _unsealed(marker)
        differing = [key for key, value in self.identity.items() if kept.get(key) != value]
        if differing:
            got = f"holds condensed pixels of another {differing[0]}"
            raise StoreError(f"{self.path}: {got}; delete it or give another folder")
        with contextlib.suppress(OSError):  # a read-only disk keeps its leftovers
            files.sweep(self.path)

    def check(self) -> None:
        """StoreError where the folder is not the one that was made or opened."""
        with _damage(self.path):
            if _unsealed(self.path / MARKER) != self.identity:
                raise ValueError("another one has its place")

    def missing(self, videos: Sequence[str]) -> list[str]:
        """Those of the videos that are still to be built, in their order."""
        return [v for v in videos if not os.path.lexists(self.path / video_key(v))]

    def write(self, video: str, blocks: Iterable[Block]) -> None:
        """Commits one video, its blocks taken one at a time; of several writers one wins."""
        place = self.path / video_key(video)
        with files.refusals(place), files.staged(self.path) as folder:
            fresh = folder / "video"
            fresh.mkdir()
            spans, last = self._write_pixels(fresh / PIXELS, blocks)
            document = {**self.identity, "video": video, "spans": spans, "last": last}
            (fresh / MARKER).write_bytes(sealed.marker(document))
            files.publish(fresh, place)

    def _write_pixels(self, path: Path, blocks: Iterable[Block]) -> tuple[list[Span], int]:
        """Spans of all blocks, and the CRC-32C of what follows them."""
        size, groups, spans = len(self.classes), len(self.groups), []
        numbers = np.zeros((size + 1, size), "<i8")
        with path.open("xb") as file:
            for block in blocks:
                runs = layout.runs(block)
                numbers += [*block.constant, layout.rows(runs, size)]
                for run in runs:
                    most = max(1, SPAN // bundle_bytes(run.width, groups))
                    for span in run.cut(groups, most):
                        content = b"".join(array.tobytes() for array in span.arrays)
                        spans.append(Span(span.width, span.pixels, google_crc32c.value(content)))
                        file.write(content)
            file.write(numbers.tobytes())
        return spans, google_crc32c.value(numbers.tobytes())

    def load(self, videos: Sequence[str], memory: int = MEMORY) -> Condensed:
        """The videos as one set, in memory where the budget holds them, else streamed when counted.

        StoreError: a video has not been built. CorruptStoreError: its files are damaged.
        """
        missing = self.missing(videos)
        if missing:
            got = f"{len(missing)} videos are not condensed yet, first {missing[0]!r}"
            raise StoreError(f"{self.path}: {got}; build them first")
        stored = [StoredPixels.open(self.path, {**self.identity, "video": v}) for v in videos]
        resident = sum(pixels.nbytes for pixels in stored) <= Budget(memory).resident
        pixels = tuple(each.read() if resident else each for each in stored)
        return Condensed(self.groups, self.classes, tuple(videos), pixels, memory)


@dataclass(frozen=True, eq=False)
class StoredPixels(VideoPixels):
    """`VideoPixels` on disk, of `Span`s. path: the video's folder."""

    path: Path
    resident: ClassVar[bool] = False

    @classmethod
    def open(cls, root: Path, identity: dict[str, Any]) -> StoredPixels:
        """The video of this identity; CorruptStoreError where it is not all there."""
        groups, classes = len(identity["groups"]), len(identity["classes"])
        path = root / video_key(identity["video"])
        with _damage(path):
            document = _unsealed(path / MARKER)
            differing = [key for key, value in identity.items() if document[key] != value]
            if differing:
                raise ValueError(f"is of another {differing[0]}")
            spans = tuple(Span(*map(int, span)) for span in document["spans"])
            if not all(1 <= span.width <= classes and span.pixels > 0 for span in spans):
                raise ValueError("impossible numbers of candidates or pixels")
            size, rest = sum(span.nbytes(groups) for span in spans), 8 * classes * (classes + 1)
            with _opened(path / PIXELS) as file:
                if os.fstat(file).st_size != size + rest:
                    raise ValueError(f"{PIXELS} is not of the {size + rest} bytes it should have")
                content = _checked(os.pread(file, rest, size), int(document["last"]))
            numbers = np.frombuffer(content, "<i8").reshape(classes + 1, classes)
            if numbers[classes].sum() != sum(span.pixels for span in spans):
                raise ValueError("numbers of pixels that do not agree")
        return cls(groups, spans, numbers[:classes], numbers[classes], path)

    def read(self) -> VideoPixels:
        """The same in memory."""
        runs = tuple(self.cut(WHOLE))
        return ReadPixels(self.groups, runs, self.constant, self.rows, self)

    def check(self) -> None:
        with _damage(self.path):
            _unsealed(self.path / MARKER)

    def cut(self, bundles: int) -> Iterator[Run]:
        """Runs of at most `bundles` bundles, each span read and checked when its turn comes."""
        with _damage(self.path), _opened(self.path / PIXELS) as file:
            place = 0
            for span in self.spans:
                size = span.nbytes(self.groups)
                content = _checked(os.pread(file, size, place), span.crc)
                run = layout.from_bytes(span.width, span.pixels, self.groups, content)
                yield from run.cut(self.groups, bundles)
                place += size


@dataclass(frozen=True, eq=False)
class ReadPixels(VideoPixels):
    """`VideoPixels` in memory that lie on disk as well. stored: there."""

    stored: StoredPixels

    @property
    def shipped(self) -> VideoPixels:
        return self.stored


def _unsealed(path: Path) -> dict[str, Any]:
    with _opened(path) as file:
        size = os.fstat(file).st_size
        if size > LONGEST_MARKER:
            raise ValueError(f"{path.name} has {size} bytes")
        return sealed.from_marker(os.pread(file, size, 0))


def _checked(content: bytes, crc: int) -> bytes:
    if google_crc32c.value(content) != crc:
        raise ValueError(f"a checksum of {PIXELS} is wrong")
    return content


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    """A plain file in a real folder, for reading: no link is followed, no pipe waited for."""
    if path.parent.is_symlink() or not stat.S_ISREG(path.lstat().st_mode):
        raise ValueError(f"{path.name} is a link or no plain file")
    with files.opened(path, files.PLAIN) as handle:
        yield handle


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turns what a damaged folder makes of its reader into one error that says what to do."""
    try:
        yield
    except DAMAGE as error:
        advice = "delete this folder and run again"
        raise CorruptStoreError(f"{path}: is damaged ({error}); {advice}") from error
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"{path}: cannot be read ({reason}); check its rights") from error
