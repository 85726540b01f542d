"""Reading a logit store: creates no file, and returns no number that was not committed.

Frames are fetched straight from the shards (index, zstd frame, crc32c): every byte that is used
has been checked, a frame costs one seek, and a chunk that claims another size than the picture's
is refused before anything is allocated.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import zstd

from fusion import files
from fusion.errors import CorruptStoreError, StoreError
from fusion.stores import format as disk
from fusion.stores.codec import PROFILES, coding
from fusion.stores.store import Store
from fusion.text import closest

Members = list[tuple[int, np.ndarray]]  # frames of one file: position in the video, target
MAX_OFFSET = 2**63 - 1  # of a file; 2**64 - 1 stands for an inner chunk that was never written


class LogitStore(Store):
    """One model's predictions for one split, on disk.

    Attributes:
        path: the store's folder.
        model: its name.
        videos: ids in sorted order.
        classes: C names.
        profile: "compact" (uint8 gap codes) or "exact" (float16).
        values: what the source was, one of `fusion.stores.format.VALUES`.
        channels: whether classes are independent channels ("sigmoid").
        kernel_values: what `fusion.kernels` calls the codes; its "probabilities" get no softmax.

    Raises:
        StoreError: the folder is no store.
        CorruptStoreError: metadata that is not what was committed; names the file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        info, group = read_group(self.path)
        found = [disk.parse_video(folder, info, group) for folder in committed(self.path)]
        names = info.model, info.classes, info.profile, info.values
        super().__init__(str(self.path), *names, found)
        self.info, self.item_bytes = info, PROFILES[info.profile].dtype.itemsize

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels to other processes as its path; it is opened again there."""
        return type(self), (str(self.path),)

    @property
    def folder(self) -> Path:
        return self.path

    @property
    def identity(self) -> str:
        return str(self.path.absolute())

    def is_called(self, key: str) -> bool:
        """By path, file name or model name."""
        named = key == self.path.name or Path(key).absolute() == self.path.absolute()
        return named or super().is_called(key)

    def codes(self, video: str, frames: Sequence[str] | None = None) -> np.ndarray:
        """Frames as they are kept: [T, C, h, w] uint8 gap codes or float16.

        Args:
            video: its id.
            frames: ids, in the order asked for; default all, in stored order.
        """
        info, wanted = self.describe(video), self._positions(video, frames)
        return read_codes(self.path / disk.video_key(video), info, self.profile, wanted)

    def read(self, video: str, frames: Sequence[str] | None = None) -> np.ndarray:
        """Frames as float32 [T, C, h, w]; "compact": logits up to a constant a pixel, or of a
        channel."""
        return coding(self.profile, self.values).decode(self.codes(video, frames))


def read_group(root: Path) -> tuple[disk.StoreInfo, bytes]:
    """What the store's zarr.json says, and its bytes; StoreError, with a hint, where none is."""
    if not root.is_dir():
        advice = "give the folder that LogitWriter made"
        raise StoreError(f"{root}: no such logit store{_nearest(root)}; {advice}")
    document = disk.read_document(root / disk.METADATA)
    return disk.StoreInfo.parse(document, root / disk.METADATA), document


def _nearest(path: Path) -> str:
    """A hint at a misspelt path: the closest name that exists beside it."""
    try:
        close = closest(path.name, sorted(os.listdir(path.parent)))
    except OSError:
        return f" (nor is there a folder {path.parent})"
    return f" (did you mean {close!r}?)" if close else ""


def committed(root: Path) -> list[Path]:
    """Folders with a commit.json, the only ones that exist for a reader."""
    try:
        names = sorted(os.listdir(root))
    except OSError as error:
        problem = f"cannot be listed ({error.strerror})"
        raise StoreError(f"{root}: {problem}; check the folder's rights") from error
    folders = [root / name for name in names if not name.startswith(".")]
    return [folder for folder in folders if os.path.lexists(folder / disk.COMMIT)]


def read_codes(folder: Path, info: disk.VideoInfo, profile: str, at: Sequence[int]) -> np.ndarray:
    """Frames of a committed video by their positions, [T, C, h, w] in the profile's dtype."""
    try:
        out = np.empty((len(at), *info.frame_shape), PROFILES[profile].dtype)
    except (MemoryError, ValueError) as error:
        where = f"{folder.parent}: video {info.video!r}"
        raise StoreError(f"{where}: {error}; read fewer frames at a time") from error
    # a file is opened once, however many of its frames are wanted
    shards: dict[int, Members] = {}
    for target, index in zip(out, at, strict=True):
        shards.setdefault(index // info.shard_frames, []).append((index, target))
    for shard, members in shards.items():
        _read_shard(folder, info, shard, members)
    return out


def _read_shard(folder: Path, info: disk.VideoInfo, shard: int, members: Members) -> None:
    """Fills the targets of one file."""
    where = f"{folder.parent.name}: video {info.video!r}"
    name = f"c/{shard}/0/0/0"
    path = folder / name
    for part in (path, *path.parents[:4]):  # O_NOFOLLOW looks at the last part of a path alone
        if part.is_symlink():
            advice = "stores hold plain files only, copy it instead"
            raise disk.damaged(where, f"{part} is a link", advice)
    try:
        with files.opened(path, files.PLAIN) as handle:
            index = _shard_index(handle, info.shard_frames, f"{where}: {name}")
            for frame, target in members:
                offset, length = (int(n) for n in index[frame % info.shard_frames])
                what = f"{where}, frame {info.frames[frame]!r}"
                _read_frame(handle, offset, length, target, what)
                if disk.crc32c(target) != info.crc[frame]:
                    advice = f"delete {folder} and write the video again"
                    raise disk.damaged(what, "crc32c differs from the committed one", advice)
    except CorruptStoreError:
        raise
    except OSError as error:
        problem = f"{folder.name}/{name} cannot be read ({error.strerror})"
        raise disk.damaged(where, problem, "write it again") from error


def _shard_index(handle: int, chunks: int, name: str) -> np.ndarray:
    """[chunks, 2] uint64 offset and length of each inner chunk, from the file's tail.

    Source: Zarr v3, sharding_indexed.
    """
    size, end = chunks * 16 + 4, os.fstat(handle).st_size
    tail = os.pread(handle, size, max(0, end - size))
    if len(tail) != size or int.from_bytes(tail[-4:], "little") != google_crc32c.value(tail[:-4]):
        problem = f"has a damaged shard index ({end} bytes)"
        raise CorruptStoreError(f"{name} {problem}; write the video again")
    return np.frombuffer(tail[:-4], "<u8").reshape(chunks, 2)


def _read_frame(handle: int, offset: int, length: int, out: np.ndarray, name: str) -> None:
    most = out.nbytes + out.nbytes // 64 + 1024  # zstd's bound for incompressible data
    if offset > MAX_OFFSET or length > most:
        raise disk.damaged(name, f"missing or too long ({length} bytes for {out.nbytes})")
    packed = os.pread(handle, length, offset)
    # a chunk of a few bytes that claims gigabytes is refused here, before it is unpacked
    if len(packed) != length or _content_size(packed) != out.nbytes:
        raise disk.damaged(name, f"truncated, or unpacks to another size than {out.nbytes} bytes")
    try:  # straight into `out`, which it cannot outgrow whatever its header says
        zstd.decompress(packed, out.reshape(-1).view(np.uint8))
    except (RuntimeError, ValueError) as error:  # ValueError: frames together larger than `out`
        advice = "delete the video's folder and write it again"
        raise disk.damaged(name, f"damaged ({error})", advice) from error


def _content_size(packed: bytes) -> int:
    """Bytes that a zstd frame says it unpacks to, or -1. Source: RFC 8878, 3.1.1.1."""
    if len(packed) < 14 or packed[:4] != b"\x28\xb5\x2f\xfd":
        return -1
    flags = packed[4]
    single, dictionary = flags >> 5 & 1, (0, 1, 2, 4)[flags & 3]
    width = (1 if single else 0, 2, 4, 8)[flags >> 6]
    start = 5 + (0 if single else 1) + dictionary
    size = int.from_bytes(packed[start : start + width], "little") + (256 if width == 2 else 0)
    return size if width else -1
