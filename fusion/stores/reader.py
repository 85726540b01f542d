"""Reading a logit store: creates no file, and returns no number that was not committed.

Frames are fetched straight from the shards (index, zstd frame, crc32c): every byte that is used
has been checked, a frame costs one seek, and a chunk that claims another size than the picture's
is refused before anything is allocated.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import zstd

from fusion.arguments import checked
from fusion.errors import CorruptStoreError, StoreError
from fusion.stores import format as disk
from fusion.stores.catalog import catalog
from fusion.stores.codec import PROFILES, coding, zstd_size
from fusion.stores.documents import crc32c, damaged
from fusion.stores.format import VideoInfo
from fusion.stores.locations import Address, Location, MissingError, location_of, read_document
from fusion.stores.shards import Shard, Shards, unread
from fusion.stores.store import Store

WRITE_AGAIN = "write the video again with overwrite=True"
TRIES = 3  # of a read, before damage is believed
MAX_OFFSET = 2**63 - 1  # of a file; 2**64 - 1 stands for an inner chunk that was never written


@checked
class LogitStore(Store):
    """One model's predictions for one split, on a disk or an object store.

    Args:
        path: the store's folder, or its URL (s3://, gs://, az://, https://, memory://).

    Attributes:
        location: where it lies.
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
        StoreConflictError: two writers committed a video at once, with different content.
    """

    reads_ahead = True

    def __init__(self, path: Address) -> None:
        self.location = location_of(path)
        info, group = read_group(self.location)
        names = info.model, info.classes, info.profile, info.values
        videos = catalog(self.location, info, group)
        super().__init__(str(self.location), *names, videos.values())
        files = [file for video in self.videos for file in videos[video].files()]
        self.location.expects(list(dict.fromkeys(files)))
        self.info, self.item_bytes = info, PROFILES[info.profile].dtype.itemsize
        self._group, self._shards = group, Shards()

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels to other processes as its path; it is opened again there."""
        return type(self), (self.location,)

    @property
    def folder(self) -> Path:
        return self.location.folder

    @property
    def path(self) -> Path:
        """The store's folder; InputError where it lies on a server."""
        return self.location.folder

    @property
    def file_name(self) -> str:
        return self.location.name

    def seen_from(self, folder: Path) -> str:
        return self.location.seen_from(folder)

    @property
    def identity(self) -> str:
        return self.location.identity

    def is_called(self, key: str) -> bool:
        """By path, file name or model name."""
        if key == self.location.name or super().is_called(key):
            return True
        return location_of(key).identity == self.identity

    def needed(self, video: str) -> int:
        return self.location.needed(self.describe(video).files())

    def codes(self, video: str, frames: Sequence[str] | None = None) -> np.ndarray:
        """Frames as they are kept: [T, C, h, w] uint8 gap codes or float16.

        Args:
            video: its id.
            frames: ids, in the order asked for; default all, in stored order.
        """
        return self._codes(self.describe(video), self._positions(video, frames))

    def codes_into(self, video: str, frames: Sequence[str], out: np.ndarray) -> None:
        """As `Store.codes_into`: unpacked where it is wanted."""
        self._codes(self.describe(video), self._positions(video, frames), self._fits(out, video))

    def _codes(
        self, info: VideoInfo, wanted: Sequence[int], out: np.ndarray | None = None
    ) -> np.ndarray:
        for _ in range(TRIES):  # replaced and put back meanwhile, a file may be of the other one
            try:
                return read_codes(self.location, info, self.profile, wanted, self._shards, out)
            except CorruptStoreError as error:
                self._shards = Shards()  # whoever repairs the file need not open the store again
                self._check_replaced(info)
                damage = error
        raise damage

    def _check_replaced(self, info: VideoInfo) -> None:
        """StoreError where other bytes are no damage: somebody has written the video anew."""
        if info.pack is not None:
            return
        now = info
        with contextlib.suppress(StoreError):
            now = disk.parse_video(self.location / info.folder, self.info, self._group)
        if now != info:
            problem = f"video {info.video!r} was written again since this store was opened"
            raise StoreError(f"{self.location}: {problem}; open the store again")

    def read(self, video: str, frames: Sequence[str] | None = None) -> np.ndarray:
        """Frames as float32 [T, C, h, w]; "compact": logits up to a constant a pixel, or of a
        channel."""
        return coding(self.profile, self.values).decode(self.codes(video, frames))


def read_group(address: Address) -> tuple[disk.StoreInfo, bytes]:
    """What the store's zarr.json says, and its bytes; StoreError, with a hint, where none is."""
    root = location_of(address)
    hint = root.missing()
    if hint is not None:
        advice = "give the folder that LogitWriter made"
        raise StoreError(f"{root}: no such logit store{hint}; {advice}")
    document = read_document(root / disk.METADATA)
    return disk.StoreInfo.parse(document, root / disk.METADATA), document


def read_codes(
    root: Location,
    info: VideoInfo,
    profile: str,
    at: Sequence[int],
    shards: Shards,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Frames of a committed video by their positions, [T, C, h, w] in the profile's dtype.

    Put into `out` where it is given: of that shape and dtype, each frame without gaps.
    """
    where = root.name if info.pack is None else f"{root.name}/{info.folder}"
    where, folder = f"{where}: video {info.video!r}", info.folder
    try:
        if out is None:
            out = np.empty((len(at), *info.frame_shape), PROFILES[profile].dtype)
        own = math.prod(info.frame_shape)
        # shorter than its pack's rows: a row is unpacked whole, and its fill left behind
        length = own if info.pack is None else info.pack.length
        row = np.empty(length, out.dtype) if length > own else None
    except (MemoryError, ValueError) as error:
        raise StoreError(f"{where}: {error}; read fewer frames at a time") from error
    for target, index in zip(out, at, strict=True):
        name, position = info.place(index)
        shard = shards.open(root, folder, name, info.shard_frames, where)
        what = f"{where}, frame {info.frames[index]!r}"
        _read_frame(shard, position, target if row is None else row, what)
        if row is not None:
            target.reshape(-1)[:] = row[:own]
        if crc32c(target) != info.crc[index]:
            raise damaged(what, "crc32c differs from the committed one", WRITE_AGAIN)
    return out


def _read_frame(shard: Shard, position: int, out: np.ndarray, name: str) -> None:
    offset, length = (int(n) for n in shard.index[position])
    most = out.nbytes + out.nbytes // 64 + 1024  # zstd's bound for incompressible data
    if offset > MAX_OFFSET or length > most:
        raise damaged(name, f"missing or too long ({length} bytes for {out.nbytes})", WRITE_AGAIN)
    try:
        packed = shard.read(offset, length)
    except MissingError as error:  # from a server, since its index was read
        raise damaged(name, "its file is missing", WRITE_AGAIN) from error
    except StoreError:
        raise
    except OSError as error:
        raise unread(name, shard.path, error) from error
    # a chunk of a few bytes that claims gigabytes is refused here, before it is unpacked
    if len(packed) != length or zstd_size(packed) != out.nbytes:
        problem = f"truncated, or unpacks to another size than {out.nbytes} bytes"
        raise damaged(name, problem, WRITE_AGAIN)
    try:  # straight into `out`, which it cannot outgrow whatever its header says
        zstd.decompress(packed, out.reshape(-1).view(np.uint8))
    except (RuntimeError, ValueError) as error:  # ValueError: frames together larger than `out`
        raise damaged(name, f"damaged ({error})", WRITE_AGAIN) from error
