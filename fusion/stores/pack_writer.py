"""Many small videos, collected and committed together as packs.

A pack appears by one rename once it is full, and when the block ends, also by an exception: videos
that were complete before are sound. A video whose own block raises is left out.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fusion import files
from fusion.arguments import checked
from fusion.errors import InputError, StoreConflictError
from fusion.stores import format as disk
from fusion.stores.codec import PROFILES
from fusion.stores.documents import sha256
from fusion.stores.pack_format import (
    PACK_VERSION,
    pack_attributes,
    pack_body,
    pack_name,
    parse_pack,
)
from fusion.stores.video_writer import (
    Request,
    Target,
    VideoWriter,
    draft_metadata,
    facts,
    make_array,
    write_rows,
)

MAX_PACK_BYTES = 64 << 20  # of codes
MAX_PACK_FRAMES = 4096
MAX_PACK_METADATA = 8 << 20  # as estimated


@dataclass(frozen=True)
class Complete:
    """A video that waits for its pack.

    Args:
        info: crc included.
        rows: codes of each frame.
        request: what its writer was asked for.
    """

    info: disk.VideoInfo
    rows: list[np.ndarray]
    request: Request


class Batch:
    """The videos of the pack to be."""

    def __init__(self) -> None:
        self.videos: dict[str, Complete] = {}
        self.frames = self.codes = self.longest = self.metadata = 0  # the last three in bytes

    def fits(self, info: disk.VideoInfo, row: int) -> bool:
        """Whether there is room for a video whose frames take so many bytes."""
        frames = self.frames + len(info.frames)
        codes = self.codes + row * len(info.frames)
        table = frames * max(self.longest, row)  # all rows have the length of the longest
        return (
            frames <= MAX_PACK_FRAMES
            and codes <= MAX_PACK_BYTES
            and table <= 2 * MAX_PACK_BYTES
            and self.metadata + _metadata(info) <= MAX_PACK_METADATA
        )

    def add(self, video: Complete) -> None:
        row = video.rows[0].nbytes
        self.videos[video.info.video] = video
        self.frames += len(video.rows)
        self.codes += row * len(video.rows)
        self.longest = max(self.longest, row)
        self.metadata += _metadata(video.info)

    @property
    def full(self) -> bool:
        return self.frames >= MAX_PACK_FRAMES or self.codes >= MAX_PACK_BYTES


def _metadata(info: disk.VideoInfo) -> int:
    """Bytes of zarr.json that a video takes, at most: every value has a line, and is indented."""
    text = json.dumps(pack_body(info))
    return len(text) + 20 * sum(map(text.count, ",[{]}"))


@checked
class PackWriter:
    """Writes many small videos of a store; made by `LogitWriter.pack`, used in a with block."""

    def __init__(self, target: Target) -> None:
        self._target, self._open = target, False
        self._lock = threading.RLock()
        self._batch = Batch()

    def __enter__(self) -> PackWriter:
        self._open = True
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        with self._lock:
            self._flush()

    def video(
        self,
        video: str,
        *,
        frames: Sequence[str],
        size: tuple[int, int] | None = None,
        geometry: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> VideoWriter:
        """As `LogitWriter.video`; leaving its block completes the video, its pack commits it.

        One that is larger than a pack, or replaces a committed one, gets a folder of its own.
        """
        if not self._open:
            where = f"{self._target.path.name}: video {video!r}"
            raise InputError(f"{where}: the pack is not open; use it inside `with writer.pack()`")
        request = Request.of(video, frames, size, geometry, overwrite)
        if overwrite and self._target.has(video):
            return VideoWriter(self._target, request)
        return PackedVideo(self, self._target, request)

    def waits(self, request: Request) -> bool:
        """Whether the video waits for its pack; StoreConflictError where it is another one."""
        with self._lock:
            there = self._batch.videos.get(request.video)
        if there is None or request.overwrite:
            return False
        request.compare(self._target.path, there.info)
        return True

    def add(self, video: Complete) -> None:
        """Takes a complete video; commits a pack once it is full."""
        with self._lock:
            there = self._batch.videos.get(video.info.video)
            if there is not None and not video.request.overwrite:  # written twice at once
                return video.request.compare(self._target.path, there.info, video.info.crc)
            self.drop(video.info.video)
            if not self._batch.fits(video.info, video.rows[0].nbytes):
                self._flush()
            self._batch.add(video)
            if self._batch.full:
                self._flush()
        return None

    def drop(self, video: str) -> None:
        """Forgets a waiting video, which is replaced."""
        with self._lock:
            if video in self._batch.videos:
                others = [each for each in self._batch.videos.values() if each.info.video != video]
                self._batch = Batch()
                for each in others:
                    self._batch.add(each)

    def _flush(self) -> None:
        """Commits what waits, but for what others have committed meanwhile."""
        videos, self._batch = list(self._batch.videos.values()), Batch()
        conflicts: list[StoreConflictError] = []
        fresh = self._fresh(videos, conflicts)
        while fresh and not _write(self._target, fresh):
            fresh = self._fresh(fresh, conflicts)
        if conflicts:
            raise conflicts[0]

    def _fresh(
        self, videos: Sequence[Complete], conflicts: list[StoreConflictError]
    ) -> list[Complete]:
        """Those that are not committed; equal ones need not be, others are conflicts."""
        fresh = []
        for video in videos:
            theirs = self._target.committed(video.info.video)
            if theirs is None:
                fresh.append(video)
                continue
            try:
                video.request.compare(self._target.path, theirs, video.info.crc)
            except StoreConflictError as error:
                conflicts.append(error)
        return fresh


class PackedVideo(VideoWriter):
    """A video that is handed to its pack when its block ends."""

    def __init__(self, pack: PackWriter, target: Target, request: Request) -> None:
        self._pack, self._small = pack, True
        waits = pack.waits(request)
        super().__init__(target, request)
        self.committed = self.committed or waits

    def _begin(self, codes: np.ndarray) -> disk.VideoInfo:
        info = super()._begin(codes)
        self._small = Batch().fits(info, codes.nbytes)
        return info

    def _keep(self, info: disk.VideoInfo) -> None:
        if not self._small:
            super()._keep(info)

    def _commit(self) -> None:
        assert self._info is not None
        if self._small:
            info = replace(self._info, crc=tuple(self._crc))
            self._pack.add(Complete(info, self._pending, self._request))
        else:
            self._pack.drop(self.video)
            super()._commit()


def _write(target: Target, videos: Sequence[Complete]) -> bool:
    """Commits videos as one pack; False where another writer has committed one of them meanwhile.

    One process at a time, where the file system locks: of two packs of a video one would be wrong.
    """
    root, first, last = target.path, videos[0].info.video, videos[-1].info.video
    profile = PROFILES[target.info.profile]
    rows = [row.reshape(-1) for video in videos for row in video.rows]
    crc = [crc for video in videos for crc in video.info.crc]
    shape = len(rows), max(row.size for row in rows)
    problem = f"pack of {len(videos)} videos, {first!r} to {last!r}, not written"
    with files.refusals(root, sum(row.nbytes for row in rows), problem=problem):
        table = np.full(shape, profile.fill, profile.dtype)
        for target_row, row in zip(table, rows, strict=True):
            target_row[: row.size] = row
        with root.staged() as scratch:
            draft = scratch / "pack"
            array = make_array(
                draft,
                table,
                shape=shape,
                shard_frames=len(rows),
                fill=profile.fill,
                names=("frame", "number"),
                attributes=pack_attributes([pack_body(video.info) for video in videos]),
            )
            write_rows(array, draft, 0, table)
            metadata = draft_metadata(draft, f"{root}: {problem}")
            document = disk.commit_document(
                PACK_VERSION, shape, crc, metadata, target.group, facts(array)
            )
            (draft / disk.COMMIT).write_bytes(document)
            place = root / pack_name(sha256(metadata), crc)
            with root.locked():
                target.packs.forget()
                if any(target.has(video.info.video) for video in videos):
                    return False
                if not place.publish(
                    draft, durable=target.durable
                ):  # no reader finds what is there: half of it
                    parse_pack(place, target.info, target.group)
            target.packs.forget()
    return True
