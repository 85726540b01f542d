"""The frames of one video on their way into a store.

append -> codec.encode_frame -> shards through zarr, read back and compared
leaving the block -> commit.json -> the location publishes: by a rename, or the marker last
"""

from __future__ import annotations

import contextlib
import errno
import operator
import os
import shutil
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fusion import files
from fusion.arguments import checked
from fusion.errors import InputError, StoreConflictError, StoreError
from fusion.kernels.numbers import MOST_PIXELS
from fusion.parsing import DEEPEST, parse_json
from fusion.stores import format as disk
from fusion.stores.catalog import PackIndex
from fusion.stores.codec import PROFILES, encode_frame
from fusion.stores.documents import MAX_METADATA_BYTES, Document, checked_ids, crc32c, dump
from fusion.stores.locations import Location, location_of, read_document

MAX_SHARD_BYTES = 256 << 20


@dataclass(frozen=True)
class Target:
    """The store that is written to.

    Args:
        path: where it lies.
        info: what its zarr.json says.
        group: the bytes of that.
        packs: what is committed in packs.
        durable: whether commits wait for the disk.
    """

    path: Location
    info: disk.StoreInfo
    group: bytes
    packs: PackIndex
    durable: bool = True

    def has(self, video: str) -> bool:
        """Whether readers find a video; damaged ones count."""
        folder = self.path / disk.video_key(video)
        return folder.taken() or bool(self.packs.find(video))

    def committed(self, video: str) -> disk.VideoInfo | None:
        """What readers find of a video."""
        folder = self.path / disk.video_key(video)
        if folder.taken():
            return disk.parse_video(folder, self.info, self.group)
        return next(iter(self.packs.find(video)), None)


@dataclass(frozen=True)
class Request:
    """What `LogitWriter.video` was asked for, checked.

    Args:
        video: id.
        frames: ids.
        size: (height, width) of the source; None for the arrays' own.
        geometry: plain JSON, or None.
        overwrite: whether to replace what is committed.
    """

    video: str
    frames: tuple[str, ...]
    size: tuple[int, int] | None
    geometry: Document | None
    overwrite: bool

    @classmethod
    def of(
        cls,
        video: str,
        frames: Sequence[str],
        size: tuple[int, int] | None,
        geometry: Mapping[str, Any] | None,
        overwrite: bool,
    ) -> Request:
        """InputError that names what is wrong."""
        if not isinstance(video, str):
            raise InputError(f"video id: got {video!r}; give a string")
        ids = checked_names(f"video {video!r}: frames", frames)
        return cls(video, ids, checked_size(video, size), _geometry(video, geometry), overwrite)

    def compare(
        self, root: Location, theirs: disk.VideoInfo, crc: tuple[int, ...] | None = None
    ) -> None:
        """StoreConflictError where what is committed is another video than ours."""
        what = theirs.difference(self.frames, self.size, self.geometry, crc)
        if what:
            problem = f"video {self.video!r} is committed already with other content ({what})"
            advice = "give overwrite=True to replace it, nothing was overwritten"
            raise StoreConflictError(f"{root}: {problem}; {advice}")


@checked
class VideoWriter:
    """The frames of one video on their way into a store; made by `LogitWriter.video`.

    Attributes:
        video: its id.
        frames: ids.
        committed: whether the video is there already; then appends are ignored.
    """

    def __init__(self, target: Target, request: Request) -> None:
        self.video, self.frames = request.video, request.frames
        self._target, self._request = target, request
        self._staging = contextlib.ExitStack()  # the staged folder, once the first shard is full
        self._array: Any = None  # zarr's, in that folder
        self._draft = Path()  # the array's folder
        self._info: disk.VideoInfo | None = None  # from the first frame on; crc still to come
        self._pending: list[np.ndarray] = []  # codes of the shard that is being filled
        self._crc: list[int] = []
        # what is replaced is not looked at: it may be damaged
        theirs = None if request.overwrite else target.committed(self.video)
        self.committed = theirs is not None
        if theirs is not None:
            request.compare(target.path, theirs)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._staging:
            if kind is None and not self.committed:
                self._check_complete()
                self._commit()

    def append(self, frame: Any) -> None:
        """Adds the next frame; on the disk, in one file with others, once a shard is full.

        Args:
            frame: [C, h, w] floats of any framework, dtype, device or memory layout.

        Raises:
            InputError: NaN or +inf (count and first index), a pixel with no finite class, values
                beyond float16 in an "exact" store, a wrong class count, a size that differs from
                the first frame's, one frame too many. Nothing is committed.
            StoreError: the disk refuses.
        """
        if self.committed:
            return
        store, index, count = self._target.info, len(self._crc), len(self.frames)
        where = f"{self._target.path.name}: video {self.video!r}, frame {index}"
        if index == count:
            problem = f"got more frames than the {count} announced"
            raise InputError(f"{where}: {problem}; give every frame id to video()")
        try:
            codes = encode_frame(frame, len(store.classes), store.profile, store.values)
        except InputError as error:
            raise InputError(f"{where} ({self.frames[index]!r}): {error}") from None
        if self._info is None:
            self._info = self._begin(codes)
        if codes.shape != self._info.frame_shape:
            got = f"got {list(codes.shape)}, the first frame {list(self._info.frame_shape)}"
            raise InputError(f"{where}: {got}; all frames of a video have one size")
        self._pending.append(codes)
        self._crc.append(crc32c(codes))
        self._keep(self._info)

    def extend(self, batch: Iterable[Any]) -> None:
        """Adds frames one after the other.

        Args:
            batch: [T, C, h, w], or an iterable of [C, h, w], as `append` takes them.

        Raises:
            InputError, StoreError: as `append`.
        """
        if self.committed:
            return
        try:
            frames = iter(batch)
        except TypeError:
            where = f"{self._target.path.name}: video {self.video!r}"
            advice = "give [T, C, h, w] or an iterable of [C, h, w]"
            raise InputError(f"{where}: got {type(batch).__name__}; {advice}") from None
        for frame in frames:
            self.append(frame)

    def _begin(self, codes: np.ndarray) -> disk.VideoInfo:
        count, request = len(self.frames), self._request
        most = max(1, min(count, MAX_SHARD_BYTES // codes.nbytes))
        size: Any = request.size or codes.shape[1:]
        shape: Any = (count, *codes.shape)
        replaces: tuple[str, ...] = ()
        if request.overwrite:
            replaces = tuple(info.folder for info in self._target.packs.find(self.video))
        return disk.VideoInfo(
            self.video, self.frames, size, shape, most, (), request.geometry, replaces
        )

    def _keep(self, info: disk.VideoInfo) -> None:
        """Takes a frame that was appended to what is pending."""
        if len(self._pending) == info.shard_frames:
            with self._refusals():
                self._write_shard(info)

    def _refusals(self) -> contextlib.AbstractContextManager[None]:
        need = sum(codes.nbytes for codes in self._pending)
        problem = f"video {self.video!r} not written"
        return files.refusals(self._target.path, need, problem=problem)

    def _write_shard(self, info: disk.VideoInfo) -> None:
        """Writes the pending frames as one file, once."""
        codes = np.stack(self._pending)
        if self._array is None:
            root = self._target.path
            self._draft = self._staging.enter_context(root.staged()) / "video"
            self._array = make_array(
                self._draft,
                codes,
                shape=info.shape,
                shard_frames=info.shard_frames,
                fill=PROFILES[self._target.info.profile].fill,
                names=("frame", "class", "y", "x"),
                attributes=info.attributes(),
            )
        write_rows(self._array, self._draft, len(self._crc) - len(codes), codes)
        self._pending = []

    def _check_complete(self) -> None:
        if self._info is None or len(self._crc) != len(self.frames):
            problem = f"got {len(self._crc)} frames, {len(self.frames)} announced"
            where = f"{self._target.path.name}: video {self.video!r}"
            raise InputError(f"{where}: {problem}; append every frame, nothing was committed")

    def _commit(self) -> None:
        assert self._info is not None
        with self._refusals():
            if self._pending:
                self._write_shard(self._info)
            target = self._target
            crc, inside = tuple(self._crc), target.path.draft_name()
            info = replace(self._info, crc=crc, draft=inside)
            metadata = draft_metadata(self._draft, f"{target.path}: video {self.video!r}")
            document = info.commit(metadata, target.group, facts(self._array))
            (self._draft / disk.COMMIT).write_bytes(document)
            self._publish(info)

    def _publish(self, info: disk.VideoInfo) -> None:
        target, folder = self._target, self._target.path / info.folder
        # another writer was first: theirs stays, ours goes; no put of ours would tell of a pack
        for theirs in target.packs.find(self.video, now=True):
            if theirs.folder not in info.replaces:
                return self._request.compare(target.path, theirs, info.crc)
        if self._request.overwrite:
            folder.replace(self._draft, info.draft, durable=target.durable)
        elif not folder.publish(self._draft, info.draft, durable=target.durable):
            theirs = disk.parse_video(folder, target.info, target.group)
            self._request.compare(target.path, theirs, info.crc)
        return None


def make_array(
    folder: Path,
    codes: np.ndarray,
    *,
    shape: Sequence[int],
    shard_frames: int,
    fill: float,
    names: Sequence[str],
    attributes: Document,
) -> Any:
    """An empty zarr array for codes [T, ...]: a frame a chunk, a shard a file."""
    import zarr
    from zarr.codecs import ZstdCodec

    return zarr.create_array(
        store=str(folder),
        shape=tuple(shape),
        dtype=codes.dtype,
        chunks=(1, *codes.shape[1:]),
        shards=(shard_frames, *codes.shape[1:]),
        compressors=ZstdCodec(level=3, checksum=True),
        fill_value=fill,
        dimension_names=tuple(names),
        attributes=attributes,
        config={"write_empty_chunks": True},
    )


def write_rows(array: Any, folder: Path, first: int, codes: np.ndarray) -> None:
    """Writes whole shards of an array, and reads them back."""
    free = shutil.disk_usage(folder).free
    # zstd rarely does better on codes; a disk that fills up all the same is noticed as well
    if free < codes.nbytes // 8:
        raise OSError(errno.ENOSPC, f"{free} bytes free for a shard of {codes.nbytes}")
    rows = slice(first, first + len(codes))
    array[rows] = codes
    if not np.array_equal(array[rows].view(np.uint8), codes.view(np.uint8)):
        problem = "read back other bytes than were written"
        raise StoreError(f"{folder}: {problem}; check the disk and memory of this machine")


def draft_metadata(draft: Path, where: str) -> bytes:
    """The zarr.json of an array that is about to be committed."""
    size = (draft / disk.METADATA).stat().st_size
    if size > MAX_METADATA_BYTES:
        got = f"{where}: frame ids and geometry take {size} bytes"
        raise InputError(f"{got}, metadata stays below {MAX_METADATA_BYTES}; shorten them")
    return read_document(location_of(draft / disk.METADATA))


def facts(array: Any) -> Document:
    """What commit.json says besides: information only."""
    return {
        "dtype": array.dtype.name,
        "writer": f"{socket.gethostname()}:{os.getpid()}",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _geometry(video: str, geometry: Mapping[str, Any] | None) -> Document | None:
    if geometry is None:
        return None
    try:
        if isinstance(geometry, Mapping):
            inside = DEEPEST - 8  # of a zarr.json
            return dict(parse_json(dump(dict(geometry)), deepest=inside))
        problem = f"got {type(geometry).__name__}"
    except (TypeError, ValueError, RecursionError) as error:
        problem = f"not JSON ({error})"
    advice = "give a dict of strings, finite numbers, lists and dicts"
    raise InputError(f"video {video!r}: geometry: {problem}; {advice}")


def checked_names(what: str, ids: Any) -> tuple[str, ...]:
    """Strings, at least one, each once; InputError says what they are of."""
    try:
        return checked_ids(ids)
    except ValueError as error:
        raise InputError(f"{what}: {error}") from None


def checked_size(video: str, size: tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    try:
        height, width = (operator.index(n) for n in size)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1 or height * width > MOST_PIXELS:
        advice = "give (height, width) in pixels, both at least 1, 2^40 pixels at most"
        raise InputError(f"video {video!r}: size {size!r}; {advice}")
    return height, width
