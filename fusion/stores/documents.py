"""The JSON documents of a store: written canonically, read with care, summed up."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import google_crc32c
import numpy as np

from fusion import parsing
from fusion.errors import CorruptStoreError, StoreError

ATTRIBUTES = "segfusion"  # the key of all that is ours in a zarr.json
COMMIT, METADATA = "commit.json", "zarr.json"
MAX_METADATA_BYTES = 16 << 20
RESTORE = "restore it or write it again"

Document = dict[str, Any]


def damaged(where: object, what: str, do: str = "write the video again") -> CorruptStoreError:
    """The error of content that is not what was committed."""
    return CorruptStoreError(f"{where}: {what}; {do}")


def crc32c(frame: np.ndarray) -> int:
    """Castagnoli CRC of a frame's bytes in C order, as stored (little-endian)."""
    return int(google_crc32c.value(frame.tobytes()))


def sha256(document: bytes) -> str:
    return hashlib.sha256(document).hexdigest()


def dump(document: Mapping[str, Any]) -> bytes:
    """Canonical JSON: sorted keys, ASCII, so equal values are equal bytes."""
    return json.dumps(document, sort_keys=True, indent=1, allow_nan=False).encode()


def parse_json(document: bytes, path: object) -> Document:
    """A JSON object; CorruptStoreError for anything else."""
    try:
        value = parsing.parse_json(document)
    except ValueError as error:
        raise damaged(path, f"not JSON ({error})", RESTORE) from error
    if not isinstance(value, dict):
        raise damaged(path, f"holds {type(value).__name__}, not an object", RESTORE)
    return value


def attributes_of(document: Document, path: object) -> Document:
    """This library's part of a zarr.json."""
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
