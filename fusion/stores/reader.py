"""Reading a logit store. Reading never creates a file, and never returns a number that was not committed.

Frames are fetched straight from the shards (index, zstd frame, crc32c): every byte that is used has been checked, a frame costs
one seek, and a chunk that claims another size than the picture's is refused before anything is allocated.
"""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import zstd

from fusion.errors import CorruptStoreError, InputError, StoreError
from fusion.stores.codec import DECODE_TABLE
from fusion.stores.format import (
    COMMIT,
    METADATA,
    PROFILES,
    StoreInfo,
    VideoInfo,
    crc32c,
    dump,
    parse_video,
    read_document,
)

MAX_OFFSET = 2**63 - 1  # of a file; 2**64 - 1 stands for an inner chunk that was never written


class LogitStore:
    """One model's predictions for one split.

    videos: ids in sorted order. classes: C names. profile: "compact" (uint8 gap codes) or "exact" (float16). values: what the
    source was ("logits", "probabilities" kept as logarithms, "scores"). Raises StoreError for a folder that is no store, and
    CorruptStoreError, naming the file, for metadata that is not what was committed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.info, group = read_group(self.path)
        self._videos: dict[str, tuple[Path, VideoInfo]] = {}
        for folder in committed(self.path):
            info = parse_video(folder, self.info, group)
            self._videos[info.video] = (folder, info)

    @classmethod
    def opened(
        cls, path: Path, info: StoreInfo, videos: dict[str, tuple[Path, VideoInfo]]
    ) -> LogitStore:
        """A store of metadata that has been read and checked already."""
        store = cls.__new__(cls)
        store.path, store.info, store._videos = path, info, videos
        return store

    def __repr__(self) -> str:
        frames = sum(len(info.frames) for _, info in self._videos.values())
        return f"LogitStore({str(self.path)!r}: {self.profile}, {len(self.classes)} classes, {len(self._videos)} videos, {frames} frames)"

    @property
    def model(self) -> str:
        return self.info.model

    @property
    def classes(self) -> tuple[str, ...]:
        return self.info.classes

    @property
    def profile(self) -> str:
        return self.info.profile

    @property
    def values(self) -> str:
        return self.info.values

    @property
    def kernel_values(self) -> str:
        """How `fusion.kernels` takes this store's numbers: as they are, or through a softmax."""
        return "probabilities" if self.info.values == "scores" else "logits"

    @property
    def videos(self) -> tuple[str, ...]:
        return tuple(sorted(self._videos))

    def describe(self, video: str) -> VideoInfo:
        """Shape, frame ids and source size of a committed video; InputError with the closest name otherwise."""
        if video not in self._videos:
            close = difflib.get_close_matches(video, self._videos, n=1)
            hint = (
                f"; did you mean {close[0]!r}"
                if close
                else f"; it holds {len(self._videos)} videos"
            )
            raise InputError(f"{self.path}: no video {video!r}{hint}")
        return self._videos[video][1]

    def frames(self, video: str) -> tuple[str, ...]:
        """Frame ids in stored order."""
        return self.describe(video).frames

    def codes(self, video: str, frames: Sequence[str] | None = None) -> np.ndarray:
        """Frames as they are kept, [T, C, h, w] uint8 gap codes or float16; by frame id, in the order asked for (default: all)."""
        folder, info = self._videos[self.describe(video).video]
        order = {frame: index for index, frame in enumerate(info.frames)}
        missing = [frame for frame in frames or () if frame not in order]
        if missing:
            raise InputError(
                f"{self.path}: video {video!r} has no frame {missing[0]!r} ({len(missing)} missing of {len(order)})"
            )
        wanted = list(range(len(order))) if frames is None else [order[frame] for frame in frames]
        try:
            out = np.empty((len(wanted), *info.frame_shape), PROFILES[self.profile])
        except (MemoryError, ValueError) as error:
            raise StoreError(
                f"{self.path}: video {video!r}: {error}; read fewer frames at a time"
            ) from error
        shards: dict[int, list[tuple[int, int]]] = {}
        for position, index in enumerate(wanted):
            shards.setdefault(index // info.shard_frames, []).append((position, index))
        for shard, members in shards.items():
            self._read_shard(folder, info, shard, members, out)
        return out

    def read(self, video: str, frames: Sequence[str] | None = None) -> np.ndarray:
        """Frames as float32 [T, C, h, w]: logits up to a per-pixel constant ("compact"), or the values kept ("exact")."""
        codes = self.codes(video, frames)
        return DECODE_TABLE[codes] if self.profile == "compact" else codes.astype(np.float32)

    def digest(self, videos: Sequence[str] | None = None) -> str:
        """sha256 of what the numbers are: model, classes, profile, values, and every frame's id and crc. No time, no path."""
        parts: list[Any] = [self.info.model, list(self.classes), self.profile, self.values]
        for video in sorted(self.videos if videos is None else videos):
            info = self.describe(video)
            parts.append(
                [info.video, list(info.frames), list(info.size), list(info.shape), list(info.crc)]
            )
        return hashlib.sha256(dump({"digest": parts})).hexdigest()

    def _read_shard(
        self,
        folder: Path,
        info: VideoInfo,
        shard: int,
        members: list[tuple[int, int]],
        out: np.ndarray,
    ) -> None:
        where = f"{self.path.name}: video {info.video!r}"
        path = folder / "c" / str(shard) / "0" / "0" / "0"
        _refuse_links(folder, path, where)
        try:
            # non-blocking: whoever puts a pipe in a chunk's place gets an error, not a reader that hangs
            with os.fdopen(
                os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb"
            ) as file:
                index = _shard_index(file.fileno(), info.shard_frames, where, path)
                for position, frame in members:
                    offset, length = (int(n) for n in index[frame % info.shard_frames])
                    name = f"{where}, frame {info.frames[frame]!r}"
                    _read_frame(file.fileno(), offset, length, out[position], name)
                    if crc32c(out[position]) != info.crc[frame]:
                        raise CorruptStoreError(
                            f"{name}: crc32c differs from the committed one; delete {folder} and write the video again"
                        )
        except CorruptStoreError:
            raise
        except OSError as error:
            raise CorruptStoreError(
                f"{where}: {path.relative_to(self.path)} cannot be read ({error.strerror}); write it again"
            ) from error


def read_group(root: Path) -> tuple[StoreInfo, bytes]:
    """What the store's zarr.json says, and its bytes; StoreError, with a hint at a misspelt name, where there is no store."""
    if not root.is_dir():
        raise StoreError(
            f"{root}: no such logit store{_nearest(root)}; give the folder that LogitWriter made"
        )
    document = read_document(root / METADATA)
    return StoreInfo.parse(document, root / METADATA), document


def committed(root: Path) -> list[Path]:
    """Folders with a commit.json, the only ones that exist for a reader; the writer's working folder is none of them."""
    try:
        names = sorted(os.listdir(root))
    except OSError as error:
        raise StoreError(
            f"{root}: cannot be listed ({error.strerror}); check the folder's rights"
        ) from error
    return [
        root / name
        for name in names
        if not name.startswith(".") and os.path.lexists(root / name / COMMIT)
    ]


def _refuse_links(folder: Path, path: Path, where: str) -> None:
    while path != folder:
        if path.is_symlink():
            raise CorruptStoreError(
                f"{where}: {path} is a link; stores hold plain files only, copy it instead"
            )
        path = path.parent


def _shard_index(handle: int, chunks: int, where: str, path: Path) -> np.ndarray:
    """[chunks, 2] uint64 offset and length of every inner chunk, from the shard's tail (Zarr v3 sharding_indexed)."""
    size = chunks * 16 + 4
    end = os.fstat(handle).st_size
    tail = os.pread(handle, size, max(0, end - size))
    if len(tail) != size or int.from_bytes(tail[-4:], "little") != google_crc32c.value(tail[:-4]):
        raise CorruptStoreError(
            f"{where}: {path.name} has a damaged shard index ({end} bytes); write the video again"
        )
    return np.frombuffer(tail[:-4], "<u8").reshape(chunks, 2)


def _read_frame(handle: int, offset: int, length: int, out: np.ndarray, name: str) -> None:
    if (
        offset > MAX_OFFSET or length > out.nbytes + out.nbytes // 64 + 1024
    ):  # zstd's bound for incompressible data
        raise CorruptStoreError(
            f"{name}: missing or too long ({length} bytes for {out.nbytes}); write the video again"
        )
    packed = os.pread(handle, length, offset)
    if len(packed) != length or _content_size(packed) != out.nbytes:
        raise CorruptStoreError(
            f"{name}: truncated, or unpacks to another size than {out.nbytes} bytes; write the video again"
        )
    try:
        zstd.decompress(packed, out.reshape(-1).view(np.uint8))
    except (
        RuntimeError,
        ValueError,
    ) as error:  # ValueError: more than one frame, together larger than the picture
        raise CorruptStoreError(
            f"{name}: damaged ({error}); delete the video's folder and write it again"
        ) from error


def _content_size(packed: bytes) -> int:
    """Bytes that a zstd frame says it unpacks to, -1 where it does not say (RFC 8878, 3.1.1.1)."""
    if len(packed) < 14 or packed[:4] != b"\x28\xb5\x2f\xfd":
        return -1
    flags = packed[4]
    single, dictionary = flags >> 5 & 1, (0, 1, 2, 4)[flags & 3]
    width = (1 if single else 0, 2, 4, 8)[flags >> 6]
    start = 5 + (0 if single else 1) + dictionary
    size = int.from_bytes(packed[start : start + width], "little") + (256 if width == 2 else 0)
    return size if width else -1


def _nearest(path: Path) -> str:
    """A hint at a misspelt path: the closest name that exists beside it."""
    try:
        names = sorted(os.listdir(path.parent))
    except OSError:
        return f" (nor is there a folder {path.parent})"
    close = difflib.get_close_matches(path.name, names, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
