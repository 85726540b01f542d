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

from fusion import files
from fusion.errors import CorruptStoreError, InputError, StoreError
from fusion.stores.codec import CHANNELS, MAX_FRAME_ELEMENTS, PROFILES, coding

FORMAT, VERSION = "segfusion.logits", 1
ATTRIBUTES = "segfusion"
COMMIT, METADATA = "commit.json", "zarr.json"
MAX_METADATA_BYTES = 16 << 20
RESTORE = "restore it or write it again"

Document = dict[str, Any]
Profile = Literal["compact", "exact"]
Values = Literal["logits", "probabilities", "scores", "sigmoid", "sigmoid-probabilities"]
VALUES = ("logits", "probabilities", "scores", *CHANNELS)


def damaged(where: object, what: str, do: str = "write the video again") -> CorruptStoreError:
    """The error of content that is not what was committed."""
    return CorruptStoreError(f"{where}: {what}; {do}")


def video_key(video: str) -> str:
    """Folder name of a video: a slug and 64 bits of the id's hash; none escapes or collides."""
    digest = sha256(video.encode("utf-8", "surrogatepass"))[:16]
    slug = re.sub(r"[^a-z0-9._-]+", "-", video.lower())[:48].strip(".-")
    return f"{slug or 'video'}-{digest}"


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
            them back, normalised), "scores" are averaged as they are; "sigmoid" are logits of
            independent channels, "sigmoid-probabilities" their probabilities, kept as logits.
        provenance: free JSON.
    """

    model: str
    classes: tuple[str, ...]
    profile: Profile
    values: Values
    provenance: Document

    @property
    def channels(self) -> bool:
        """Whether classes are independent channels, each decided by itself."""
        return self.values in CHANNELS

    def document(self) -> bytes:
        """The group's zarr.json; InputError where name or provenance cannot stand in it."""
        codec = coding(self.profile, self.values).config
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
        if body.get("format") != FORMAT:
            problem = f"not a logit store (format {body.get('format')!r}, expected {FORMAT!r})"
            raise StoreError(f"{path}: {problem}; give a store's folder")
        _check_version(body, path)
        try:
            classes = checked_ids(body.get("classes"))
        except ValueError as error:
            raise CorruptStoreError(f"{path}: classes: {error}, or restore the file") from error
        facts = (body.get(name) for name in ("model", "profile", "values", "provenance"))
        model, profile, values, provenance = facts
        if profile not in tuple(PROFILES) or values not in VALUES:  # may be anything, lists too
            raise damaged(path, f"profile {profile!r}, values {values!r} unknown", RESTORE)
        if not isinstance(model, str) or not isinstance(provenance, dict):
            raise damaged(path, "model or provenance has the wrong type", RESTORE)
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

    def attributes(self) -> Document:
        """Of the video's array, in its zarr.json."""
        height, width = self.size
        body = {"video": self.video, "frames": list(self.frames), "height": height, "width": width}
        return {ATTRIBUTES: {**body, "resize": "bilinear, align_corners=False"}}

    def commit(self, metadata: bytes, group: bytes, facts: Mapping[str, Any]) -> bytes:
        """The video's commit.json.

        Args:
            metadata: the zarr.json of its array.
            group: the zarr.json of the store.
            facts: dtype, and who wrote it when.
        """
        held = {"frames": len(self.frames), "shape": list(self.shape), "crc32c": list(self.crc)}
        sums = {"metadata_sha256": sha256(metadata), "group_sha256": sha256(group)}
        body = {"format": FORMAT, "version": VERSION, **held, **sums, **facts}
        return dump({**body, "checksum": sha256(dump(body))})


def parse_video(folder: Path, store: StoreInfo, group: bytes) -> VideoInfo:
    """Reads and cross-checks both documents of a committed video; allocates none of its pixels."""
    path, metadata_path = folder / COMMIT, folder / METADATA
    if folder.is_symlink():
        raise damaged(folder, "a link", "stores hold plain folders only, copy the video instead")
    document, metadata = read_document(path), read_document(metadata_path)
    # commit.json is believed once its own checksum fits, zarr.json once commit.json vouches for it
    body = _json(document, path)
    checksum = body.pop("checksum", None)
    try:
        sound = checksum == sha256(dump(body))
    except (ValueError, RecursionError):  # NaN, or nested deeper than dump goes
        sound = False
    if not sound:
        raise damaged(path, "checksum does not match its content (edited or damaged)")
    _check_version(body, path)
    group_path = folder.parent / METADATA
    for place, actual in ((metadata_path, metadata), (group_path, group)):
        name = "group_sha256" if place is group_path else "metadata_sha256"
        if body.get(name) != sha256(actual):
            problem = f"not the file that was committed with {folder.name}"
            raise damaged(place, problem, "restore it or write the video again")
    return _video_info(_json(metadata, metadata_path), body, store, metadata_path)


def _check_version(body: Document, path: Path) -> None:
    if body.get("version") != VERSION:
        got = f"format version {body.get('version')!r}, this release reads {VERSION}"
        raise StoreError(f"{path}: {got}; update segfusion")


def _video_info(array: Document, commit: Document, store: StoreInfo, path: Path) -> VideoInfo:
    """zarr.json is by now the committed one; refuses what this library would not have written."""
    try:
        attributes = _attributes(array, path)
        shape: Any = tuple(map(int, array["shape"]))
        shard = tuple(map(int, array["chunk_grid"]["configuration"]["chunk_shape"]))
        (outer,) = array["codecs"]
        inner = [codec["name"] for codec in outer["configuration"]["codecs"]]
        chunk = tuple(outer["configuration"]["chunk_shape"])
        known = outer["name"] == "sharding_indexed" and inner == ["bytes", "zstd"]
        crc = tuple(map(int, commit["crc32c"]))
        frames = checked_ids(attributes["frames"])
        size = (int(attributes["height"]), int(attributes["width"]))
        info = VideoInfo(attributes["video"], frames, size, shape, shard[0], crc)
        key, dtype = video_key(info.video), array["data_type"]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise damaged(path, f"not an array of a logit store ({error!r})") from error
    if path.parent.name != key:  # a copied or renamed folder would stand for the video twice
        problem = f"holds video {info.video!r}, whose folder is {key}"
        raise damaged(path, problem, f"rename or remove {path.parent.name}")
    expected = (len(frames), len(store.classes), *shape[2:])
    agrees = len(shape) == 4 and shape == expected and list(shape) == commit.get("shape")
    frame = shape[1:]
    cut = chunk == (1, *frame) and shard == (shard[0], *frame) and 1 <= shard[0] <= len(frames)
    allocatable = min(*shape, *size) >= 1 and math.prod(frame) <= MAX_FRAME_ELEMENTS
    if not known or dtype != PROFILES[store.profile].dtype.name:
        problem = f"codecs {outer['name']} {inner} or dtype {dtype} are not this profile's"
    elif not agrees or len(crc) != len(frames):
        problem = f"shape {list(shape)}, expected {list(expected)} by frames and classes"
    elif not allocatable or not cut:
        problem = f"absurd shape {list(shape)} or chunks {list(chunk)}"
    else:
        return info
    raise damaged(path, problem)


def read_document(path: Path) -> bytes:
    """A metadata file, whole: a plain file of at most 16 MiB; symlinks are refused."""
    try:
        with files.opened(path, files.PLAIN) as handle:
            status = os.fstat(handle)
            size = status.st_size
            if not stat.S_ISREG(status.st_mode) or size > MAX_METADATA_BYTES:
                limit = f"metadata stays below {MAX_METADATA_BYTES}"
                raise damaged(path, f"{size} bytes or not a plain file", limit)
            # to the end, though the size is known: it may grow, and checksums tell
            return b"".join(iter(lambda: os.read(handle, size or 1), b""))
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


def _json(document: bytes, path: Path) -> Document:
    try:
        value = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"not JSON ({error})", RESTORE) from error
    if not isinstance(value, dict):
        raise damaged(path, f"holds {type(value).__name__}, not an object", RESTORE)
    return value


def _attributes(document: Document, path: Path) -> Document:
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
