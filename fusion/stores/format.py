"""The logit store on disk: names, limits, and the JSON documents, with every check that needs no pixel.

    swin_640_ohem.zarr/
      zarr.json             group; attributes["segfusion"]: format, version, model, classes, profile, values, provenance
      <video key>/          one array a video, [frame, class, y, x]; the unit of commit, appears by rename
        zarr.json           attributes["segfusion"]: video id, frame ids, source size, resize convention
        c/<shard>/0/0/0     inner chunk = one frame; zstd with checksum
        commit.json         written last: crc32c of every frame, sha256 of both zarr.json, a checksum of itself
      .staging/<uuid>/      work in progress, never read

Zarr alone reads a missing chunk as fill value and an edited zarr.json as other numbers; commit.json is what notices.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import google_crc32c
import numpy as np

from fusion.errors import CorruptStoreError, InputError, StoreError

FORMAT, VERSION = "segfusion.logits", 1
ATTRIBUTES = "segfusion"
STAGING = ".staging"
COMMIT, METADATA = "commit.json", "zarr.json"
MAX_METADATA_BYTES = 16 << 20
MAX_SHARD_BYTES = 256 << 20
MAX_FRAME_ELEMENTS = 1 << 33  # 124 classes at 8K is 4.1e9

Profile = Literal["compact", "exact"]
Values = Literal["logits", "probabilities", "scores"]
PROFILES: dict[str, np.dtype] = {"compact": np.dtype("uint8"), "exact": np.dtype("<f2")}
VALUES = ("logits", "probabilities", "scores")


def video_key(video: str) -> str:
    """Folder name of a video: a readable slug and 64 bits of the id's hash, so no id escapes, collides or is reserved."""
    digest = hashlib.sha256(video.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    slug = re.sub(r"[^a-z0-9._-]+", "-", video.lower())[:48].strip(".-")
    return f"{slug}-{digest}" if slug else f"video-{digest}"


def crc32c(frame: np.ndarray) -> int:
    """Castagnoli CRC of a frame's bytes in C order, as stored (little-endian)."""
    return int(google_crc32c.value(frame.tobytes()))


def sha256(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()


@dataclass(frozen=True)
class StoreInfo:
    """What the group's attributes say.

    classes: C names in channel order. profile: how numbers are kept. values: what the source was; "probabilities" are kept as
    their logarithms (a softmax gives them back, normalised), "scores" are averaged as they are. provenance: free JSON.
    """

    model: str
    classes: tuple[str, ...]
    profile: Profile
    values: Values
    provenance: dict[str, Any]

    def document(self, codec: Mapping[str, Any] | None) -> bytes:
        """The group's zarr.json; InputError where the model's name or the provenance cannot stand in it."""
        body = {"format": FORMAT, "version": VERSION, **asdict(self), "codec": codec}
        try:
            document = dump(
                {"zarr_format": 3, "node_type": "group", "attributes": {ATTRIBUTES: body}}
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"provenance: not JSON ({error}); give a dict of strings, finite numbers, lists and dicts"
            ) from error
        if (
            not isinstance(self.model, str)
            or not isinstance(self.provenance, dict)
            or len(document) > MAX_METADATA_BYTES
        ):
            problem = f"model {self.model!r:.80}, provenance {type(self.provenance).__name__}, {len(document)} bytes in all"
            raise InputError(
                f"{problem}; give a string and a dict, below {MAX_METADATA_BYTES} bytes"
            )
        return document

    @classmethod
    def parse(cls, document: bytes, path: Path) -> StoreInfo:
        body = _attributes(_json(document, path), path)
        if body.get("format") != FORMAT:
            raise StoreError(
                f"{path}: not a logit store (format {body.get('format')!r}, expected {FORMAT!r}); give a store's folder"
            )
        _check_version(body, path)
        try:
            classes = checked_ids(body.get("classes"))
        except ValueError as error:
            raise CorruptStoreError(f"{path}: classes: {error}, or restore the file") from error
        if body.get("profile") not in PROFILES or body.get("values") not in VALUES:
            raise CorruptStoreError(
                f"{path}: profile {body.get('profile')!r}, values {body.get('values')!r} unknown; restore the file"
            )
        if not isinstance(body.get("model"), str) or not isinstance(body.get("provenance"), dict):
            raise CorruptStoreError(
                f"{path}: model or provenance has the wrong type; restore the file or write the store again"
            )
        return cls(body["model"], classes, body["profile"], body["values"], body["provenance"])


@dataclass(frozen=True)
class VideoInfo:
    """One committed video: shape [T, C, h, w] as stored, frame ids, source size (H, W) of the images, and its commit."""

    video: str
    frames: tuple[str, ...]
    size: tuple[int, int]
    shape: tuple[int, int, int, int]
    shard_frames: int
    crc: tuple[int, ...]

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        return self.shape[1:]


def array_attributes(video: str, frames: tuple[str, ...], size: tuple[int, int]) -> dict[str, Any]:
    body = {
        "video": video,
        "frames": list(frames),
        "height": size[0],
        "width": size[1],
        "resize": "bilinear, align_corners=False",
    }
    return {ATTRIBUTES: body}


def commit_document(
    info: VideoInfo, dtype: np.dtype, metadata: bytes, group: bytes, writer: Mapping[str, Any]
) -> bytes:
    body: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "frames": len(info.frames),
        "shape": list(info.shape),
        "dtype": dtype.name,
        "crc32c": list(info.crc),
        "metadata_sha256": sha256(metadata),
        "group_sha256": sha256(group),
        **writer,
    }
    return dump({**body, "checksum": sha256(dump(body))})


def parse_video(folder: Path, store: StoreInfo, group: bytes) -> VideoInfo:
    """Reads and cross-checks the two documents of a committed video; nothing of its pixels is allocated."""
    path, metadata_path = folder / COMMIT, folder / METADATA
    if folder.is_symlink():
        raise CorruptStoreError(
            f"{folder}: a link; stores hold plain folders only, copy the video instead"
        )
    document, metadata = read_document(path), read_document(metadata_path)
    commit = _json(document, path)
    body = {k: v for k, v in commit.items() if k != "checksum"}
    try:
        sound = commit.get("checksum") == sha256(dump(body))
    except (ValueError, RecursionError):  # NaN, or nested deeper than dump goes
        sound = False
    if not sound:
        raise CorruptStoreError(
            f"{path}: checksum does not match its content (edited or damaged); write the video again"
        )
    _check_version(body, path)
    for name, actual in (("metadata_sha256", metadata), ("group_sha256", group)):
        if body.get(name) != sha256(actual):
            changed = metadata_path if actual is metadata else folder.parent / METADATA
            raise CorruptStoreError(
                f"{changed}: not the file that was committed with {folder.name}; restore it or write the video again"
            )
    return _video_info(_json(metadata, metadata_path), body, store, metadata_path)


def _check_version(body: dict[str, Any], path: Path) -> None:
    if body.get("version") != VERSION:
        raise StoreError(
            f"{path}: format version {body.get('version')!r}, this release reads {VERSION}; update segfusion"
        )


def _video_info(
    array: dict[str, Any], commit: dict[str, Any], store: StoreInfo, path: Path
) -> VideoInfo:
    """zarr.json is by now the committed one; this refuses what this library would not have written."""
    try:
        attributes = _attributes(array, path)
        shape = tuple(int(n) for n in array["shape"])
        shard = tuple(int(n) for n in array["chunk_grid"]["configuration"]["chunk_shape"])
        (outer,) = array["codecs"]
        inner = [codec["name"] for codec in outer["configuration"]["codecs"]]
        chunk = tuple(outer["configuration"]["chunk_shape"])
        known = outer["name"] == "sharding_indexed" and inner == ["bytes", "zstd"]
        crc = tuple(int(n) for n in commit["crc32c"])
        frames = checked_ids(attributes["frames"])
        size = (int(attributes["height"]), int(attributes["width"]))
        info = VideoInfo(attributes["video"], frames, size, shape, shard[0], crc)  # type: ignore[arg-type]
        key, dtype = video_key(info.video), array["data_type"]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise CorruptStoreError(
            f"{path}: not an array of a logit store ({error!r}); write the video again"
        ) from error
    if path.parent.name != key:
        raise CorruptStoreError(
            f"{path}: holds video {info.video!r}, whose folder is {key}; rename or remove {path.parent.name}"
        )
    expected = (len(frames), len(store.classes), *shape[2:])
    if not known or dtype != PROFILES[store.profile].name:
        raise CorruptStoreError(
            f"{path}: codecs {outer['name']} {inner} or dtype {dtype} are not this profile's; write the video again"
        )
    if (
        len(shape) != 4
        or shape != expected
        or list(shape) != commit.get("shape")
        or len(crc) != len(frames)
    ):
        raise CorruptStoreError(
            f"{path}: shape {list(shape)}, expected {list(expected)} by frames and classes; write the video again"
        )
    shards = (
        chunk == (1, *shape[1:])
        and shard == (shard[0], *shape[1:])
        and 1 <= shard[0] <= len(frames)
    )
    if min(*shape, *size) < 1 or math.prod(shape[1:]) > MAX_FRAME_ELEMENTS or not shards:
        raise CorruptStoreError(
            f"{path}: absurd shape {list(shape)} or chunks {list(chunk)}; write the video again"
        )
    return info


def read_document(path: Path) -> bytes:
    """A metadata file, whole, after checking that it is a plain file of at most 16 MiB; symlinks are refused."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_METADATA_BYTES:
                raise CorruptStoreError(
                    f"{path}: {status.st_size} bytes or not a plain file; metadata stays below {MAX_METADATA_BYTES}"
                )
            return b"".join(iter(lambda: os.read(handle, status.st_size or 1), b""))
        finally:
            os.close(handle)
    except CorruptStoreError:
        raise
    except FileNotFoundError as error:
        raise StoreError(f"{path}: missing; give a complete store") from error
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read ({error.strerror}); links inside a store are refused"
        ) from error


def dump(document: Mapping[str, Any]) -> bytes:
    """Canonical JSON: sorted keys, ASCII, so equal values are equal bytes."""
    return json.dumps(document, sort_keys=True, indent=1, allow_nan=False).encode()


def _json(document: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise CorruptStoreError(
            f"{path}: not JSON ({error}); restore it or write it again"
        ) from error
    if not isinstance(value, dict):
        raise CorruptStoreError(
            f"{path}: holds {type(value).__name__}, expected a JSON object; restore it or write it again"
        )
    return value


def _attributes(document: dict[str, Any], path: Path) -> dict[str, Any]:
    attributes = document.get("attributes")
    body = attributes.get(ATTRIBUTES) if isinstance(attributes, dict) else None
    if document.get("zarr_format") != 3 or not isinstance(body, dict):
        raise StoreError(
            f"{path}: not written by this library (no {ATTRIBUTES!r} attributes); give a logit store's folder"
        )
    return body


def checked_ids(ids: Any) -> tuple[str, ...]:
    """A list of strings, at least one, each once; ValueError otherwise."""
    listed = () if isinstance(ids, str) or not isinstance(ids, Iterable) else tuple(ids)
    if not listed or not all(isinstance(text, str) for text in listed):
        raise ValueError(f"got {ids!r:.80}; give a list of at least one name, each a string")
    if len(set(listed)) != len(listed):
        twice = sorted(text for text, count in Counter(listed).items() if count > 1)
        raise ValueError(f"{twice[:5]!r:.80} stand in the list twice; give each a name of its own")
    return listed


def checked_classes(classes: Any) -> tuple[str, ...]:
    """Class names, C >= 1, each once, in channel order."""
    try:
        return checked_ids(classes)
    except ValueError as error:
        raise InputError(f"classes: {error}") from None
