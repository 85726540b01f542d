"""The logit store on disk: names, limits, and its JSON documents with every check but the pixels'.

    swin_640_ohem.zarr/
      zarr.json             group; attributes["segfusion"]: format, version, model, classes,
                            profile, values, codec, provenance
      <video key>/          an array a video, [frame, class, y, x]; the unit of commit, appears by
                            rename
        zarr.json           attributes["segfusion"]: video id, frame ids, source size, resize
        c/<shard>/0/0/0     inner chunk = one frame; zstd with checksum
        commit.json         written last: crc32c of every frame, sha256 of both zarr.json, a
                            checksum of itself
      .staging/<random>/    work in progress, never read

Zarr alone reads a missing chunk as fill value and an edited zarr.json as other numbers;
commit.json is what notices.
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
from fusion.stores.codec import MAX_FRAME_ELEMENTS, PROFILES

FORMAT, VERSION = "segfusion.logits", 1
ATTRIBUTES = "segfusion"
COMMIT, METADATA = "commit.json", "zarr.json"
MAX_METADATA_BYTES = 16 << 20

Profile = Literal["compact", "exact"]
Values = Literal["logits", "probabilities", "scores"]
VALUES = ("logits", "probabilities", "scores")


def video_key(video: str) -> str:
    """Folder name of a video: a slug and 64 bits of the id's hash; none escapes or collides."""
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

    Args:
        model: its name.
        classes: C names in channel order.
        profile: how numbers are kept.
        values: what the source was; "probabilities" are kept as their logarithms (a softmax gives
            them back, normalised), "scores" are averaged as they are.
        provenance: free JSON.
    """

    model: str
    classes: tuple[str, ...]
    profile: Profile
    values: Values
    provenance: dict[str, Any]

    @property
    def kernel_values(self) -> Literal["logits", "probabilities"]:
        """What `fusion.kernels` calls the stored numbers: its "probabilities" get no softmax."""
        return "probabilities" if self.values == "scores" else "logits"

    def document(self) -> bytes:
        """The group's zarr.json; InputError where name or provenance cannot stand in it."""
        codec = PROFILES[self.profile].config
        body = {"format": FORMAT, "version": VERSION, **asdict(self), "codec": codec}
        group = {"zarr_format": 3, "node_type": "group", "attributes": {ATTRIBUTES: body}}
        try:
            document = dump(group)
        except (TypeError, ValueError, RecursionError) as error:
            advice = "give a dict of strings, finite numbers, lists and dicts"
            raise InputError(f"provenance: not JSON ({error}); {advice}") from error
        types = isinstance(self.model, str) and isinstance(self.provenance, dict)
        if not types or len(document) > MAX_METADATA_BYTES:
            got = f"model {self.model!r:.80}, provenance {type(self.provenance).__name__}"
            advice = f"give a string and a dict, below {MAX_METADATA_BYTES} bytes"
            raise InputError(f"{got}, {len(document)} bytes in all; {advice}")
        return document

    @classmethod
    def parse(cls, document: bytes, path: Path) -> StoreInfo:
        """What a group's zarr.json says; StoreError for another or a damaged one."""
        body = _attributes(_json(document, path), path)
        kind = body.get("format")
        if kind != FORMAT:
            problem = f"not a logit store (format {kind!r}, expected {FORMAT!r})"
            raise StoreError(f"{path}: {problem}; give a store's folder")
        _check_version(body, path)
        try:
            classes = checked_ids(body.get("classes"))
        except ValueError as error:
            raise CorruptStoreError(f"{path}: classes: {error}, or restore the file") from error
        model, profile, values, provenance = (
            body.get(name) for name in ("model", "profile", "values", "provenance")
        )
        if profile not in tuple(PROFILES) or values not in VALUES:  # may be anything, lists too
            unknown = f"profile {profile!r}, values {values!r} unknown"
            raise CorruptStoreError(f"{path}: {unknown}; restore the file")
        if not isinstance(model, str) or not isinstance(provenance, dict):
            problem = "model or provenance has the wrong type"
            raise CorruptStoreError(f"{path}: {problem}; restore it or write the store again")
        return cls(model, classes, profile, values, provenance)


@dataclass(frozen=True)
class VideoInfo:
    """One committed video.

    Args:
        video: its id.
        frames: T ids in stored order.
        size: (H, W) of the source images, the resolution of the labels.
        shape: [T, C, h, w] as stored.
        shard_frames: frames in a file.
        crc: crc32c of each frame.
    """

    video: str
    frames: tuple[str, ...]
    size: tuple[int, int]
    shape: tuple[int, int, int, int]
    shard_frames: int
    crc: tuple[int, ...]

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        return self.shape[1:]

    def attributes(self) -> dict[str, Any]:
        """Of the video's array, in its zarr.json."""
        height, width = self.size
        resize = "bilinear, align_corners=False"
        body = {"height": height, "width": width, "resize": resize}
        return {ATTRIBUTES: {"video": self.video, "frames": list(self.frames), **body}}

    def commit(self, metadata: bytes, group: bytes, facts: Mapping[str, Any]) -> bytes:
        """The video's commit.json.

        Args:
            metadata: the zarr.json of its array.
            group: the zarr.json of the store.
            facts: dtype, and who wrote it when.
        """
        body: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "frames": len(self.frames),
            "shape": list(self.shape),
            "crc32c": list(self.crc),
            "metadata_sha256": sha256(metadata),
            "group_sha256": sha256(group),
            **facts,
        }
        return dump({**body, "checksum": sha256(dump(body))})


def parse_video(folder: Path, store: StoreInfo, group: bytes) -> VideoInfo:
    """Reads and cross-checks both documents of a committed video; allocates none of its pixels."""
    path, metadata_path = folder / COMMIT, folder / METADATA
    if folder.is_symlink():
        advice = "stores hold plain folders only, copy the video instead"
        raise CorruptStoreError(f"{folder}: a link; {advice}")
    document, metadata = read_document(path), read_document(metadata_path)
    # commit.json is believed once its own checksum fits, zarr.json once commit.json vouches for it
    body = _json(document, path)
    checksum = body.pop("checksum", None)
    try:
        sound = checksum == sha256(dump(body))
    except (ValueError, RecursionError):  # NaN, or nested deeper than dump goes
        sound = False
    if not sound:
        problem = "checksum does not match its content (edited or damaged)"
        raise CorruptStoreError(f"{path}: {problem}; write the video again")
    _check_version(body, path)
    for name, actual in (("metadata_sha256", metadata), ("group_sha256", group)):
        if body.get(name) != sha256(actual):
            changed = metadata_path if actual is metadata else folder.parent / METADATA
            problem = f"not the file that was committed with {folder.name}"
            raise CorruptStoreError(f"{changed}: {problem}; restore it or write the video again")
    return _video_info(_json(metadata, metadata_path), body, store, metadata_path)


def _check_version(body: dict[str, Any], path: Path) -> None:
    version = body.get("version")
    if version != VERSION:
        got = f"format version {version!r}, this release reads {VERSION}"
        raise StoreError(f"{path}: {got}; update segfusion")


def _video_info(
    array: dict[str, Any], commit: dict[str, Any], store: StoreInfo, path: Path
) -> VideoInfo:
    """zarr.json is by now the committed one; refuses what this library would not have written."""
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
        problem = f"not an array of a logit store ({error!r})"
        raise CorruptStoreError(f"{path}: {problem}; write the video again") from error
    if path.parent.name != key:  # a copied or renamed folder would stand for the video twice
        problem = f"holds video {info.video!r}, whose folder is {key}"
        raise CorruptStoreError(f"{path}: {problem}; rename or remove {path.parent.name}")
    expected = (len(frames), len(store.classes), *shape[2:])
    agrees = len(shape) == 4 and shape == expected and list(shape) == commit.get("shape")
    frame = shape[1:]
    cut = chunk == (1, *frame) and shard == (shard[0], *frame) and 1 <= shard[0] <= len(frames)
    allocatable = min(*shape, *size) >= 1 and math.prod(frame) <= MAX_FRAME_ELEMENTS
    problem = ""
    if not known or dtype != PROFILES[store.profile].dtype.name:
        problem = f"codecs {outer['name']} {inner} or dtype {dtype} are not this profile's"
    elif not agrees or len(crc) != len(frames):
        problem = f"shape {list(shape)}, expected {list(expected)} by frames and classes"
    elif not allocatable or not cut:
        problem = f"absurd shape {list(shape)} or chunks {list(chunk)}"
    if problem:
        raise CorruptStoreError(f"{path}: {problem}; write the video again")
    return info


def read_document(path: Path) -> bytes:
    """A metadata file, whole: a plain file of at most 16 MiB; symlinks are refused."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(handle)
            size = status.st_size
            if not stat.S_ISREG(status.st_mode) or size > MAX_METADATA_BYTES:
                limit = f"metadata stays below {MAX_METADATA_BYTES}"
                raise CorruptStoreError(f"{path}: {size} bytes or not a plain file; {limit}")
            # to the end, though the size is known: it may grow, and checksums tell
            return b"".join(iter(lambda: os.read(handle, size or 1), b""))
        finally:
            os.close(handle)
    except CorruptStoreError:
        raise
    except FileNotFoundError as error:
        raise StoreError(f"{path}: missing; give a complete store") from error
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise StoreError(f"{path}: {problem}; links inside a store are refused") from error


def dump(document: Mapping[str, Any]) -> bytes:
    """Canonical JSON: sorted keys, ASCII, so equal values are equal bytes."""
    return json.dumps(document, sort_keys=True, indent=1, allow_nan=False).encode()


def _json(document: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(document)
    except (ValueError, RecursionError) as error:
        advice = "restore it or write it again"
        raise CorruptStoreError(f"{path}: not JSON ({error}); {advice}") from error
    if not isinstance(value, dict):
        found = f"holds {type(value).__name__}, not an object"
        raise CorruptStoreError(f"{path}: {found}; restore it or write it again")
    return value


def _attributes(document: dict[str, Any], path: Path) -> dict[str, Any]:
    attributes = document.get("attributes")
    body = attributes.get(ATTRIBUTES) if isinstance(attributes, dict) else None
    if document.get("zarr_format") != 3 or not isinstance(body, dict):
        problem = f"not written by this library (no {ATTRIBUTES!r} attributes)"
        raise StoreError(f"{path}: {problem}; give a logit store's folder")
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
