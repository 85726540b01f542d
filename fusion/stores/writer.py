"""Writing a logit store: every video appears whole, by one rename, or not at all.

    append -> codec.encode_frame -> shards through zarr, read back and compared
    leaving the block -> commit.json -> files.publish: fsync, rename, fsync the parent

A video that is committed already with the same frame ids is skipped; with others it is refused. Of
two writers of one video the first to rename wins; the other compares and drops its own. Running
the same program again is the way to resume.
"""

from __future__ import annotations

import contextlib
import errno
import operator
import os
import shutil
import socket
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fusion import files
from fusion.errors import InputError, StoreConflictError, StoreError
from fusion.stores import format as disk
from fusion.stores.codec import PROFILES, encode_frame

MAX_SHARD_BYTES = 256 << 20


class LogitWriter:
    """Opens or creates a store for writing. Several writers, in several processes, may fill one.

    Args:
        path: the store's folder.
        classes: C names in channel order.
        profile: "compact" (uint8 gap codes, the default) or "exact" (float16).
        values: what `append` is given: "logits", "probabilities" (any non-negative numbers; they
            are normalised per pixel and kept as logarithms), "scores" (averaged as they are;
            "exact" only), "sigmoid" (logits of independent channels: C = 1 for binary masks, many
            labels a pixel, regions) or "sigmoid-probabilities" (their probabilities).
        model: a name, default the folder's.
        provenance: free JSON (checkpoint digest, TTA, seed, command).

    Raises:
        InputError: bad arguments.
        StoreConflictError: the folder holds a store of another model, class list, profile or kind
            of values.
    """

    def __init__(
        self,
        path: str | Path,
        classes: Sequence[str],
        profile: disk.Profile = "compact",
        *,
        values: disk.Values = "logits",
        model: str | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        if profile not in PROFILES or values not in disk.VALUES:
            choice = f"choose one of {tuple(PROFILES)} and one of {disk.VALUES}"
            raise InputError(f"{path}: profile {profile!r}, values {values!r}; {choice}")
        if values == "scores" and profile != "exact":
            raise InputError(f"{path}: gap codes cannot keep scores; use profile='exact'")
        names, model = checked_names("classes", classes), model or self.path.stem
        self.info = disk.StoreInfo(model, names, profile, values, provenance or {})
        self._group = _create(self.path, self.info)

    def __enter__(self) -> LogitWriter:
        return self

    def __exit__(self, *_: object) -> None:
        """Videos commit themselves; there is nothing left to close."""

    def video(
        self, video: str, *, frames: Sequence[str], size: tuple[int, int] | None = None
    ) -> VideoWriter:
        """A context to append each frame in order; leaving it commits, an exception discards.

        Args:
            video: its id, any string.
            frames: ids, each once, in the order of the appends.
            size: (height, width) in pixels of the source images, the resolution of the labels;
                default the arrays' own.

        Raises:
            StoreConflictError: the video is committed with other frame ids.
        """
        if not isinstance(video, str):
            raise InputError(f"video id: got {video!r}; give a string")
        ids = checked_names(f"video {video!r}: frames", frames)
        return VideoWriter(self, video, ids, checked_size(video, size))


class VideoWriter:
    """The frames of one video on their way into a store; made by `LogitWriter.video`."""

    def __init__(
        self, writer: LogitWriter, video: str, frames: tuple[str, ...], size: tuple[int, int] | None
    ) -> None:
        self.video, self.frames = video, frames
        self._root, self._store, self._group = writer.path, writer.info, writer._group
        self._size, self._folder = size, writer.path / disk.video_key(video)
        self._staging = contextlib.ExitStack()  # the staged folder, once the first shard is full
        self._array: Any = None  # zarr's, in that folder
        self._draft = Path()  # the array's folder
        self._info: disk.VideoInfo | None = None  # from the first frame on; crc still to come
        self._pending: list[np.ndarray] = []  # codes of the shard that is being filled
        self._crc: list[int] = []
        self.committed = os.path.lexists(self._folder)  # appends are ignored, the video is there
        if self.committed:
            self._compare(None)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._staging:
            if kind is None and not self.committed:
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
        store, index, count = self._store, len(self._crc), len(self.frames)
        where = f"{self._root.name}: video {self.video!r}, frame {index}"
        if index == count:
            problem = f"got more frames than the {count} announced"
            raise InputError(f"{where}: {problem}; give every frame id to video()")
        try:
            codes = encode_frame(frame, len(store.classes), store.profile, store.values)
        except InputError as error:
            raise InputError(f"{where} ({self.frames[index]!r}): {error}") from None
        if self._info is None:
            shape, most = (count, *codes.shape), MAX_SHARD_BYTES // codes.nbytes
            size, shard_frames = self._size or codes.shape[1:], max(1, min(count, most))
            self._info = disk.VideoInfo(self.video, self.frames, size, shape, shard_frames, ())
        if codes.shape != self._info.frame_shape:
            got = f"got {list(codes.shape)}, the first frame {list(self._info.frame_shape)}"
            raise InputError(f"{where}: {got}; all frames of a video have one size")
        self._pending.append(codes)
        self._crc.append(disk.crc32c(codes))
        if len(self._pending) == self._info.shard_frames:
            with self._refusals():
                self._write_shard(self._info)

    def _refusals(self) -> contextlib.AbstractContextManager[None]:
        need = sum(codes.nbytes for codes in self._pending)
        return files.refusals(self._root, need, problem=f"video {self.video!r} not written")

    def _write_shard(self, info: disk.VideoInfo) -> None:
        """Writes the pending frames as one file, once."""
        codes = np.stack(self._pending)
        if self._array is None:
            self._draft = self._staging.enter_context(files.staged(self._root)) / "video"
            self._array = _make_array(self._draft, info, PROFILES[self._store.profile].fill, codes)
        free = shutil.disk_usage(self._draft).free
        # zstd rarely does better on codes; a disk that fills up all the same is noticed as well
        if free < codes.nbytes // 8:
            raise OSError(errno.ENOSPC, f"{free} bytes free for a shard of {codes.nbytes}")
        frames = slice(len(self._crc) - len(codes), len(self._crc))
        self._array[frames] = codes
        if self._array[frames].tobytes() != codes.tobytes():
            problem = "read back other bytes than were written"
            raise StoreError(f"{self._draft}: {problem}; check the disk and memory of this machine")
        self._pending = []

    def _commit(self) -> None:
        if self._info is None or len(self._crc) != len(self.frames):
            problem = f"got {len(self._crc)} frames, {len(self.frames)} announced"
            where = f"{self._root.name}: video {self.video!r}"
            raise InputError(f"{where}: {problem}; append every frame, nothing was committed")
        with self._refusals():
            if self._pending:
                self._write_shard(self._info)
            facts = {
                "dtype": self._array.dtype.name,
                "writer": f"{socket.gethostname()}:{os.getpid()}",
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            info = replace(self._info, crc=tuple(self._crc))
            metadata = disk.read_document(self._draft / disk.METADATA)
            document = info.commit(metadata, self._group, facts)
            (self._draft / disk.COMMIT).write_bytes(document)
            if not files.publish(self._draft, self._folder):
                self._compare(info)  # another writer was first: theirs stays, ours goes

    def _compare(self, ours: disk.VideoInfo | None) -> None:
        """What has our place must be a sound video of our frames (and bytes, once written)."""
        theirs = disk.parse_video(self._folder, self._store, self._group)
        same = (theirs.video, theirs.frames) == (self.video, self.frames)
        same = same and self._size in (None, theirs.size)
        if not same or (ours is not None and theirs.crc != ours.crc):
            there = f"{len(theirs.frames)} frames, size {theirs.size}"
            problem = f"video {self.video!r} is committed already with other content ({there})"
            advice = f"delete {self._folder} to replace it"
            raise StoreConflictError(f"{self._root}: {problem}; {advice}")


def _make_array(folder: Path, info: disk.VideoInfo, fill: float, codes: np.ndarray) -> Any:
    """An empty zarr array of a video: a frame a chunk, a shard a file."""
    import zarr
    from zarr.codecs import ZstdCodec

    return zarr.create_array(
        store=str(folder),
        shape=info.shape,
        dtype=codes.dtype,
        chunks=(1, *info.frame_shape),
        shards=(info.shard_frames, *info.frame_shape),
        compressors=ZstdCodec(level=3, checksum=True),
        fill_value=fill,
        dimension_names=("frame", "class", "y", "x"),
        attributes=info.attributes(),
        config={"write_empty_chunks": True},
    )


def _create(root: Path, info: disk.StoreInfo) -> bytes:
    """Writes a new store's group document, or returns that of the store there, if it agrees."""
    document, path = info.document(), root / disk.METADATA
    if not os.path.lexists(path):
        problem = "a store cannot be made here"
        with files.refusals(root, problem=problem), files.staged(root) as folder:
            (folder / disk.METADATA).write_bytes(document)
            files.publish(folder / disk.METADATA, path)  # of two creators the first wins
    there = disk.read_document(path)
    found = disk.StoreInfo.parse(there, path)
    for name in ("model", "classes", "profile", "values"):
        if getattr(found, name) != getattr(info, name):
            have, got = (f"{getattr(store, name)!r:.80}" for store in (found, info))
            problem = f"holds a store with {name} {have}, got {got}"
            raise StoreConflictError(f"{root}: {problem}; write to another folder")
    return there


def checked_names(what: str, ids: Any) -> tuple[str, ...]:
    try:
        return disk.checked_ids(ids)
    except ValueError as error:
        raise InputError(f"{what}: {error}") from None


def checked_size(video: str, size: tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    try:
        height, width = (operator.index(n) for n in size)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        advice = "give (height, width) in pixels, both at least 1"
        raise InputError(f"video {video!r}: size {size!r}; {advice}")
    return height, width
