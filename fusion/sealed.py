"""JSON on disk that is believed only as it was written: sealed by its sha256.

    parsed(text)            a JSON object
    sealed(document)        the same with the sha256 of all the rest, a key that others ignore
    unsealed(document)      the document, if it is the one that was sealed
    marker(document)        a line of JSON and one with its sha256, and back: `from_marker`

What is wrong is a ValueError (or the disk's OSError): callers know which file it is and what to
do. A seal tells of accidents and of edits, not of somebody who makes another: what a document
claims of pixels is counted again from them as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fusion.parsing import parse_json

SEAL = "sha256"

Document = dict[str, Any]


def parsed(text: bytes | str) -> Document:
    """A JSON object; ValueError for anything else, also for one nested too deeply to read."""
    found = parse_json(text)
    if not isinstance(found, dict):
        raise ValueError(f"holds {type(found).__name__}, not an object")
    return found


def sealed(document: Mapping[str, Any]) -> Document:
    """The document as JSON gives it back, and its seal."""
    plain = json.loads(json.dumps(document))
    return {**plain, SEAL: _digest(_canonical(plain))}


def is_sealed(document: Mapping[str, Any]) -> bool:
    """Whether it carries a seal, right or wrong; what older versions and people write does not."""
    return SEAL in document


def unsealed(document: Mapping[str, Any]) -> Document:
    """What was sealed; ValueError where it was changed since. Without a seal the same."""
    rest = {key: value for key, value in document.items() if key != SEAL}
    if is_sealed(document) and _digest(_canonical(rest)) != document[SEAL]:
        raise ValueError(f"changed since it was written, its {SEAL} is another")
    return rest


def marker(document: Mapping[str, Any]) -> bytes:
    """One line of JSON, one with its sha256."""
    text = _canonical(document)
    return text + b"\n" + _digest(text).encode()


def from_marker(raw: bytes) -> Document:
    """The document of a marker; ValueError where its second line is not that of the first."""
    text, _, seal = raw.partition(b"\n")
    if _digest(text).encode() != seal:
        raise ValueError("the checksum is wrong")
    return parsed(text)


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()
