"""Packs on disk: many small videos in one array, committed together.

    pack-<32 hex digits>/    named by the sha256 of what it holds
      zarr.json              array [frame, number]; attributes["segfusion"]: every video's id, frame
                             ids, size, shape [C, h, w], geometry, in the order of their rows
      c/0/0                  inner chunk = a row = a frame's C h w codes in C order, then fill, as
                             long as the longest of the pack; zstd with checksum
      commit.json            as a video's, of format version 2: crc32c of each frame's own codes

Two documents open thousands of videos, and an image costs no folder. Releases that know no packs
refuse such a store by the version.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from fusion.stores.documents import ATTRIBUTES, METADATA, Document, damaged, sha256
from fusion.stores.format import (
    NOT_OURS,
    RESIZE,
    Packed,
    StoreInfo,
    VideoInfo,
    committed_documents,
    described,
    parse_body,
)
from fusion.stores.locations import Location

PACK_VERSION = 2
PACK = "pack-"  # what a pack's name begins with
_NAME = re.compile(f"{PACK}[0-9a-f]{{32}}")  # no video's: those end in 16 digits


def is_pack(folder: str) -> bool:
    """Whether a folder's name is a pack's."""
    return _NAME.fullmatch(folder) is not None


def pack_name(metadata_sha256: str, crc: Sequence[int]) -> str:
    """Equal packs have one name: a copy is noticed, and the same program makes the same store."""
    return PACK + sha256(metadata_sha256.encode() + np.array(crc, "<u4").tobytes())[:32]


def pack_body(info: VideoInfo) -> Document:
    """What a pack's attributes say of one of its videos."""
    return {**info.body(), "shape": list(info.frame_shape)}


def pack_attributes(bodies: Sequence[Document]) -> Document:
    return {ATTRIBUTES: {"videos": list(bodies), "resize": RESIZE}}


def parse_pack(folder: Location, store: StoreInfo, group: bytes) -> list[VideoInfo]:
    """Reads and cross-checks both documents of a committed pack; allocates none of its pixels."""
    array, commit = committed_documents(folder, group, PACK_VERSION)
    path = folder / METADATA
    try:
        found = described(array, commit, store, path)
        rows, length = found.shape
        videos, first = [], 0
        for body in found.body["videos"]:
            info = _packed(body, found.crc, Packed(folder.name, first, length), rows)
            videos.append(info)
            first += len(info.frames)
        key = pack_name(commit["metadata_sha256"], found.crc)
        agrees = first == rows == found.shard[0]
        agrees = agrees and length == max(math.prod(info.frame_shape) for info in videos)
        agrees = agrees and {info.shape[1] for info in videos} == {len(store.classes)}
        agrees = agrees and len({info.video for info in videos}) == len(videos)
    except NOT_OURS as error:
        raise damaged(path, f"not a pack of a logit store ({error!r})") from error
    if folder.name != key:
        advice = f"rename or remove {folder.name}"
        raise damaged(path, f"holds what belongs into a folder {key}", advice)
    if not agrees:
        problem = f"its videos do not make up shape {list(found.shape)}"
        raise damaged(path, problem, f"remove {folder.name} and write its videos again")
    return videos


def _packed(body: Any, crc: tuple[int, ...], pack: Packed, rows: int) -> VideoInfo:
    frames, size, geometry = parse_body(body)
    channels, height, width = map(int, body["shape"])
    if min(channels, height, width) < 1:
        raise ValueError(f"shape {body['shape']}")
    shape, own = (len(frames), channels, height, width), crc[pack.first : pack.first + len(frames)]
    return VideoInfo(body["video"], frames, size, shape, rows, own, geometry, (), pack)
