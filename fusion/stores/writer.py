"""Writing a logit store: every video appears whole, by one rename, or not at all.

    stage in a fresh folder -> shards through zarr -> read back and compare -> commit.json -> fsync -> rename -> fsync the parent

A video that is committed already with the same frame ids is skipped; with others it is refused. Of two writers of one video the
first to rename wins; the other compares and drops its own. Running the same program again is the way to resume.
"""

from __future__ import annotations

import errno
import fcntl
import operator
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fusion.errors import InputError, StoreConflictError, StoreError
from fusion.stores.codec import GapCodec
from fusion.stores.format import (
    COMMIT,
    MAX_FRAME_ELEMENTS,
    MAX_SHARD_BYTES,
    METADATA,
    PROFILES,
    STAGING,
    VALUES,
    Profile,
    StoreInfo,
    Values,
    VideoInfo,
    array_attributes,
    checked_classes,
    checked_ids,
    commit_document,
    crc32c,
    parse_video,
    read_document,
    video_key,
)

LOCK = "lock"


class LogitWriter:
    """Opens or creates a store for writing. Several writers, in several processes, may fill one store.

    path: the store's folder. classes: C names in channel order. profile: "compact" (uint8 gap codes, the default) or "exact"
    (float16). values: what `append` is given: "logits", "probabilities" (any non-negative numbers; they are normalised per pixel
    and kept as logarithms), or "scores" (averaged as they are; "exact" only). model: a name, default the folder's.
    provenance: free JSON (checkpoint digest, TTA, seed, command). Raises InputError for bad arguments, StoreConflictError where
    the folder holds a store of another model, class list, profile or kind of values.
    """

    def __init__(
        self,
        path: str | Path,
        classes: Sequence[str],
        profile: Profile = "compact",
        *,
        values: Values = "logits",
        model: str | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        self.path = Path(path)
        if profile not in PROFILES or values not in VALUES:
            raise InputError(
                f"{path}: profile {profile!r}, values {values!r}; choose one of {tuple(PROFILES)} and one of {VALUES}"
            )
        if values == "scores" and profile != "exact":
            raise InputError(
                f"{path}: scores are averaged as they are, gap codes cannot keep them; use profile='exact'"
            )
        self.info = StoreInfo(
            model or self.path.stem, checked_classes(classes), profile, values, provenance or {}
        )
        self._document = _create(self.path, self.info)

    def __enter__(self) -> LogitWriter:
        return self

    def __exit__(self, *_: object) -> None:
        """Videos commit themselves; there is nothing left to close."""

    def video(
        self, video: str, *, frames: Sequence[str], size: tuple[int, int] | None = None
    ) -> VideoWriter:
        """A context in which each frame's [C, h, w] array is appended in order; leaving it commits, an exception discards.

        frames: ids, each once, in the order of the appends. size: (height, width) in pixels of the source images, the resolution
        of the labels; default the arrays' own. Raises StoreConflictError where the video is committed with other frame ids.
        """
        return VideoWriter(self, video, _checked_frames(video, frames), _checked_size(video, size))


class VideoWriter:
    """The frames of one video on their way into a store; made by `LogitWriter.video`."""

    def __init__(
        self, writer: LogitWriter, video: str, frames: tuple[str, ...], size: tuple[int, int] | None
    ) -> None:
        self._writer, self.video, self.frames, self._size = writer, video, frames, size
        self._folder = writer.path / video_key(video)
        self._staging = writer.path / STAGING / uuid.uuid4().hex
        self._array: Any = None
        self._pending: list[np.ndarray] = []
        self._crc: list[int] = []
        self._lock: int | None = None
        self.committed = os.path.lexists(
            self._folder
        )  # True: appends are ignored, the video is there already
        if self.committed:
            self._compare(None)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None and not self.committed:
                self._guard(self._commit)
        finally:
            self._discard()

    def append(self, frame: Any) -> None:
        """Adds the next frame: [C, h, w] floats of any framework, dtype, device or memory layout.

        Raises InputError, and nothing is committed, for NaN or +inf (count and first index), a pixel with no finite class, values
        beyond float16 in an "exact" store, a wrong class count, a size that differs from the first frame's, or one frame too many.
        """
        if self.committed:
            return
        where = f"{self._writer.path.name}: video {self.video!r}, frame {len(self._crc)}"
        if len(self._crc) == len(self.frames):
            raise InputError(
                f"{where}: got more frames than the {len(self.frames)} announced; give every frame id to video()"
            )
        code = _encode(frame, self._writer.info, f"{where} ({self.frames[len(self._crc)]!r})")
        first = (
            self._pending[0].shape
            if self._pending
            else self._array.shape[1:]
            if self._array is not None
            else code.shape
        )
        if code.shape != first:
            raise InputError(
                f"{where}: got {list(code.shape)}, the first frame {list(first)}; all frames of a video have one size"
            )
        self._pending.append(code)
        self._crc.append(crc32c(code))
        if len(self._pending) == self._shard_frames:
            self._guard(self._flush)

    @property
    def _shard_frames(self) -> int:
        return (
            max(1, min(len(self.frames), MAX_SHARD_BYTES // self._pending[0].nbytes))
            if self._array is None
            else self._array.shards[0]
        )

    def _guard(self, step: Callable[[], None]) -> None:
        """Runs a step on the disk; its OSError becomes a StoreError that names the place."""
        try:
            step()
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            need = sum(code.nbytes for code in self._pending)
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            advice = (
                f"free at least {need} bytes there"
                if full
                else "check the folder's rights and the disk"
            )
            raise StoreError(
                f"{self._writer.path}: video {self.video!r} not written ({error.strerror or error}); {advice}"
            ) from error

    def _flush(self) -> None:
        """Writes the pending frames as one shard, once."""
        codes = np.stack(self._pending)
        if self._array is None:
            self._stage(codes)
        free = shutil.disk_usage(self._staging).free
        if (
            free < codes.nbytes // 8
        ):  # zstd rarely does better on codes; a disk that fills up all the same is caught above
            raise OSError(errno.ENOSPC, f"{free} bytes free for a shard of {codes.nbytes}")
        first = len(self._crc) - len(codes)
        self._array[first : len(self._crc)] = codes
        written = self._array[first : len(self._crc)]
        if written.tobytes() != codes.tobytes():
            raise StoreError(
                f"{self._staging}: read back other bytes than were written; check the disk and memory of this machine"
            )
        self._pending = []

    def _stage(self, codes: np.ndarray) -> None:
        import zarr
        from zarr.codecs import ZstdCodec

        self._staging.mkdir(parents=True)
        self._lock = os.open(self._staging / LOCK, os.O_CREAT | os.O_RDWR, 0o644)
        fcntl.flock(
            self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB
        )  # held while this writer lives: what gc goes by
        frame = codes.shape[1:]
        self._array = zarr.create_array(
            store=str(self._staging / "video"),
            shape=(len(self.frames), *frame),
            dtype=codes.dtype,
            chunks=(1, *frame),
            shards=(self._shard_frames, *frame),
            compressors=ZstdCodec(level=3, checksum=True),
            fill_value=255 if codes.dtype == np.uint8 else float("nan"),
            dimension_names=("frame", "class", "y", "x"),
            attributes=array_attributes(self.video, self.frames, self._size or frame[1:]),
            config={"write_empty_chunks": True},
        )

    def _commit(self) -> None:
        if len(self._crc) != len(self.frames):
            message = f"got {len(self._crc)} frames, {len(self.frames)} announced; append every frame, nothing was committed"
            raise InputError(f"{self._writer.path.name}: video {self.video!r}: {message}")
        if self._pending:
            self._flush()
        staged = self._staging / "video"
        shape, shard = self._array.shape, self._array.shards[0]
        info = VideoInfo(
            self.video, self.frames, self._size or shape[2:], shape, shard, tuple(self._crc)
        )
        writer = {
            "writer": f"{socket.gethostname()}:{os.getpid()}",
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        document = commit_document(
            info,
            self._array.dtype,
            read_document(staged / METADATA),
            self._writer._document,
            writer,
        )
        (staged / COMMIT).write_bytes(document)
        _sync_tree(staged)
        try:
            os.rename(staged, self._folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            self._compare(info)  # another writer was first: theirs stays, ours goes
        sync_folder(self._writer.path)

    def _compare(self, ours: VideoInfo | None) -> None:
        """What stands in our place must be a sound video of the same frames (and, where both were written, the same bytes)."""
        theirs = parse_video(self._folder, self._writer.info, self._writer._document)
        same = (
            theirs.frames == self.frames
            and theirs.video == self.video
            and self._size in (None, theirs.size)
        )
        if not same or (ours is not None and theirs.crc != ours.crc):
            message = f"is committed already with other content ({len(theirs.frames)} frames, size {theirs.size})"
            raise StoreConflictError(
                f"{self._writer.path}: video {self.video!r} {message}; delete {self._folder} to replace it"
            )

    def _discard(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
        shutil.rmtree(self._staging, ignore_errors=True)


def _create(root: Path, info: StoreInfo) -> bytes:
    """Writes the group document of a new store, or returns that of the store that is there and agrees."""
    config = GapCodec().get_config() if info.profile == "compact" else None
    document, path = info.document(config), root / METADATA
    if not os.path.lexists(path):
        scratch = root / STAGING / uuid.uuid4().hex
        try:
            scratch.mkdir(parents=True)
            (scratch / METADATA).write_bytes(document)
            _sync_tree(scratch)
            os.link(scratch / METADATA, path)  # refuses to replace: of two creators one wins
            sync_folder(root)
        except FileExistsError:
            pass
        except OSError as error:
            raise StoreError(
                f"{root}: a store cannot be made here ({error.strerror}); check the path and its rights"
            ) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    there = read_document(path)
    found = StoreInfo.parse(there, path)
    for name in ("model", "classes", "profile", "values"):
        if getattr(found, name) != getattr(info, name):
            got, have = f"{getattr(info, name)!r:.80}", f"{getattr(found, name)!r:.80}"
            raise StoreConflictError(
                f"{root}: holds a store with {name} {have}, got {got}; write to another folder"
            )
    return there


def _encode(frame: Any, info: StoreInfo, where: str) -> np.ndarray:
    """One frame as the profile keeps it: contiguous, native order, checked."""
    values = to_numpy(frame, where)
    if values.ndim != 3 or values.shape[0] != len(info.classes) or 0 in values.shape:
        raise InputError(
            f"{where}: got shape {list(values.shape)}, expected [{len(info.classes)}, h, w] by the store's classes"
        )
    if values.size > MAX_FRAME_ELEMENTS:
        raise InputError(
            f"{where}: {values.size} numbers in a frame, at most {MAX_FRAME_ELEMENTS}; store a lower resolution"
        )
    bad = np.isnan(values) | np.isposinf(values)
    if bad.any():
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"{where}: {int(bad.sum())} NaN or +inf, the first at [class, y, x] = {list(first)}; repair the model's output"
        )
    if info.values == "probabilities":
        values = _logarithms(values, where)
    dead = np.isneginf(values).all(axis=0)
    if info.values != "scores" and dead.any():
        y, x = (int(i) for i in np.argwhere(dead)[0])
        message = "have no class with a finite logit (or a probability above 0)"
        raise InputError(
            f"{where}: {int(dead.sum())} pixels {message}, the first at [y, x] = [{y}, {x}]; repair the model's output"
        )
    if info.profile == "compact":
        return np.ascontiguousarray(GapCodec().encode(values))
    with np.errstate(over="ignore"):
        halves = values.astype("<f2")
    beyond = np.isinf(halves) & np.isfinite(values)
    if beyond.any():
        raise InputError(
            f"{where}: {int(beyond.sum())} values beyond float16's 65504; use profile='compact'"
        )
    return np.ascontiguousarray(halves)


def _logarithms(values: np.ndarray, where: str) -> np.ndarray:
    """log p. The softmax of it is p divided by its sum, so sources that do not sum to one are normalised."""
    if (values < 0).any():
        raise InputError(
            f"{where}: {int((values < 0).sum())} negative probabilities; write logits with values='logits'"
        )
    with np.errstate(divide="ignore"):
        return np.log(values)


def to_numpy(frame: Any, where: str) -> np.ndarray:
    """float32 NumPy array of any framework's floats (torch on any device and dtype, JAX, NumPy, nested lists)."""
    if hasattr(frame, "detach"):
        frame = frame.detach().to("cpu")
        if not frame.dtype.is_floating_point:
            raise InputError(f"{where}: got {frame.dtype}; give floating-point logits")
        frame = (frame if frame.dtype.itemsize == 8 else frame.float()).numpy()
    array = np.asarray(frame)
    if array.dtype.kind != "f":
        raise InputError(f"{where}: got dtype {array.dtype}; give floating-point logits")
    with np.errstate(over="ignore"):
        singles = array.astype(np.float32)
    if array.dtype.itemsize > 4 and not np.array_equal(np.isinf(singles), np.isinf(array)):
        raise InputError(f"{where}: values beyond float32's 3.4e38; repair the model's output")
    return singles


def _checked_frames(video: str, frames: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(video, str):
        raise InputError(f"video id: got {video!r}; give a string")
    try:
        return checked_ids(frames)
    except ValueError as error:
        raise InputError(f"video {video!r}: frames: {error}") from None


def _checked_size(video: str, size: tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    try:
        height, width = (operator.index(n) for n in size)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise InputError(
            f"video {video!r}: size {size!r}; give (height, width) in pixels, both at least 1"
        )
    return height, width


def _sync_tree(folder: Path) -> None:
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            handle = os.open(os.path.join(parent, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        sync_folder(Path(parent))


def sync_folder(folder: Path) -> None:
    """fsync of a folder: makes the renames inside it survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
