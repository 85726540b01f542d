"""Condensed videos on disk: a Zarr v3 group per video, written whole or not at all, so that processes may build it side by side.

    <path>/zarr.json            attributes: digest, groups, classes, version
    <path>/<video>/<part>/      widths [R, 2], constant [C, C], rows [C], and the flat arrays targets, classes, values in the
                                layout of kernels/contested.py, all runs one after the other; a long video comes in parts

`digest` stands for everything that the pixels depend on (stores, labels, groups, resize); a folder of another digest is refused. A video
is staged in a hidden folder beside its place and renamed into it; after an interruption the missing videos are those to build.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec

from fusion.contested.pixels import MEMORY, Condensed, ResidentPixels, VideoPixels
from fusion.errors import CorruptStoreError, StoreError
from fusion.kernels.contested.cpu import LANES, Block, Run
from fusion.stores.format import video_key

VERSION = 1
CHUNK = 1 << 20  # elements


class CondensedCache:
    """A folder of condensed videos.

    path: created where missing. digest: what the pixels were made from. groups, classes: names. StoreError: the folder holds something
    else, is of another digest, groups, classes or version, or cannot be written.
    """

    def __init__(
        self, path: str | Path, digest: str, groups: Sequence[str], classes: Sequence[str]
    ) -> None:
        self.path, self.groups, self.classes = Path(path), tuple(groups), tuple(classes)
        expected: dict[str, Any] = {
            "version": VERSION,
            "digest": digest,
            "groups": list(groups),
            "classes": list(classes),
        }
        try:
            root = zarr.open_group(self.path, mode="a", zarr_format=3)
            if not dict(root.attrs) and not self.finished():
                root.attrs.update(expected)
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(
                f"{self.path}: cannot be used as a condensed cache ({error}); give an empty folder"
            ) from error
        differing = [key for key, value in expected.items() if root.attrs.get(key) != value]
        if differing:
            raise StoreError(
                f"{self.path}: holds condensed pixels of another {differing[0]}; delete it or give another folder"
            )

    def finished(self) -> set[str]:
        """Folder names of the videos that are complete."""
        return {
            entry.name
            for entry in self.path.iterdir()
            if entry.is_dir() and not entry.name.startswith(".")
        }

    def missing(self, videos: Sequence[str]) -> list[str]:
        """Those of the videos that are still to be built, in their order."""
        finished = self.finished()
        return [video for video in videos if video_key(video) not in finished]

    def write(self, video: str, blocks: Iterable[Block]) -> None:
        """Commits one video, a part for each block, taken one at a time; of several writers of a video one wins, all write the same."""
        staged = self.path / f".{uuid.uuid4().hex}"
        try:
            group = zarr.create_group(staged, zarr_format=3, attributes={"video": video})
            parts = 0
            for parts, block in enumerate(blocks, start=1):
                _write_part(group.create_group(f"{parts:06d}"), ResidentPixels.of([block]))
            group.attrs["parts"] = parts
            _commit(staged, self.path / video_key(video))
        except OSError as error:
            raise StoreError(
                f"{self.path}: video {video!r} cannot be written ({error}); free space or give another folder"
            ) from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def load(self, videos: Sequence[str], memory: int = MEMORY) -> Condensed:
        """The videos as one set: read into memory where half the budget holds them, else streamed at every evaluation.

        StoreError: a video has not been built. CorruptStoreError: its arrays are damaged.
        """
        missing = self.missing(videos)
        if missing:
            raise StoreError(
                f"{self.path}: {len(missing)} videos are not condensed yet, first {missing[0]!r}; build them first"
            )
        stored: tuple[VideoPixels, ...] = tuple(
            StoredPixels.open(self.path / video_key(video), len(self.groups)) for video in videos
        )
        if 2 * sum(pixels.nbytes for pixels in stored) <= memory:
            stored = tuple(
                ResidentPixels(p.constant, tuple(p.pieces(1 << 62)), len(self.groups))
                for p in stored
            )
        return Condensed(self.groups, self.classes, tuple(videos), stored, memory)


def _commit(staged: Path, place: Path) -> None:
    try:
        staged.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def _write_part(group: zarr.Group, pixels: ResidentPixels) -> None:
    _create(group, "constant", pixels.constant)
    _create(group, "widths", pixels.widths)
    _create(group, "rows", pixels.rows)
    for name in ("targets", "classes", "values"):
        whole = [getattr(run, name) for run in pixels.runs]
        _create(group, name, np.concatenate(whole) if whole else np.zeros(0, np.uint16))


def _create(group: zarr.Group, name: str, data: NDArray[Any]) -> None:
    chunks = (max(1, min(CHUNK, data.shape[0])), *data.shape[1:])
    group.create_array(
        name,
        data=data,
        chunks=chunks,
        compressors=Crc32cCodec(),
        config={"write_empty_chunks": True},
    )


@dataclass(frozen=True, eq=False)
class StoredPixels:
    """`fusion.contested.VideoPixels` on disk: all parts of a video."""

    parts: tuple[StoredPart, ...]
    constant: NDArray[np.int64]
    widths: NDArray[np.int64]
    rows: NDArray[np.int64]
    resident: bool = False

    @classmethod
    def open(cls, path: Path, groups: int) -> StoredPixels:
        try:
            count: Any = zarr.open_group(path, mode="r", zarr_format=3).attrs["parts"]
            names = [f"{part:06d}" for part in range(1, count + 1)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorruptStoreError(
                f"{path}: cannot be read ({error}); delete this folder and condense again"
            ) from error
        parts = tuple(StoredPart.open(path / name, groups) for name in names)
        if not parts:
            raise CorruptStoreError(f"{path}: has no parts; delete this folder and condense again")
        constant, rows = (
            np.sum([getattr(part, name) for part in parts], axis=0) for name in ("constant", "rows")
        )
        return cls(parts, constant, np.concatenate([part.widths for part in parts]), rows)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    def pieces(self, bundles: int) -> Iterator[Run]:
        """Runs of at most `bundles` bundles, each read when its turn comes."""
        for part in self.parts:
            yield from part.pieces(bundles)


@dataclass(frozen=True, eq=False)
class StoredPart:
    """One part of a video on disk."""

    path: Path
    groups: int
    constant: NDArray[np.int64]
    widths: NDArray[np.int64]
    rows: NDArray[np.int64]

    @classmethod
    def open(cls, path: Path, groups: int) -> StoredPart:
        arrays = _arrays(path)
        constant, widths, rows = (
            _read(path, arrays[name]) for name in ("constant", "widths", "rows")
        )
        return cls(path, groups, constant, widths, rows)

    @property
    def nbytes(self) -> int:
        return sum(
            -(-pixels // LANES) * LANES * (2 + width * (2 + 4 * self.groups))
            for width, pixels in self.widths.tolist()
        )

    @cached_property
    def arrays(self) -> dict[str, zarr.Array]:
        return _arrays(self.path)

    def pieces(self, bundles: int) -> Iterator[Run]:
        """Runs of at most `bundles` bundles, each read when its turn comes."""
        starts = [0, 0, 0]
        for width, pixels in self.widths.tolist():
            per = (LANES, LANES * width, LANES * width * self.groups)
            whole = -(-pixels // LANES)
            for first in range(0, whole, bundles):
                count = min(bundles, whole - first)
                spans = [
                    slice(start + first * size, start + (first + count) * size)
                    for start, size in zip(starts, per, strict=True)
                ]
                names = ("targets", "classes", "values")
                read = [
                    _read(self.path, self.arrays[name], span)
                    for name, span in zip(names, spans, strict=True)
                ]
                yield Run(width, min(pixels - first * LANES, count * LANES), *read)
            starts = [start + whole * size for start, size in zip(starts, per, strict=True)]


def _arrays(path: Path) -> dict[str, zarr.Array]:
    try:
        return dict(zarr.open_group(path, mode="r", zarr_format=3).arrays())
    except (OSError, ValueError, KeyError) as error:
        raise CorruptStoreError(
            f"{path}: cannot be read ({error}); delete this folder and condense again"
        ) from error


def _read(path: Path, array: zarr.Array, span: slice = slice(None)) -> NDArray[Any]:
    """A span of an array whose every chunk is there and has its checksum."""
    try:
        if array.nchunks_initialized != array.nchunks:
            raise ValueError(f"{array.name} lacks chunks")
        return np.ascontiguousarray(array[span])
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CorruptStoreError(
            f"{path}: is damaged ({error}); delete this folder and condense again"
        ) from error
