"""Named arrays and JSON in one safetensors file, written whole or not at all, under a checksum.

The file's metadata are the JSON and the SHA-256 of it and of every array: name, type, shape and
bytes. safetensors itself checks none of them. Files of releases up to 0.1 have no checksum and
are read as they are; those releases read the files of this one.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fusion import plain
from fusion.errors import StoreError
from fusion.files import refusals, replacing
from fusion.parsing import parse_json

KEY = "segfusion"  # of the JSON among the file's metadata
CHECKSUM = "segfusion.sha256"  # of the checksum there


def write(path: Path, arrays: Mapping[str, np.ndarray], document: Mapping[str, Any]) -> None:
    """Writes arrays and document. StoreError: the disk refuses."""
    ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    text = json.dumps(document)
    content = _ordered(save(ordered, {KEY: text, CHECKSUM: _checksum(ordered, text)}))
    need = sum(array.nbytes for array in ordered.values())
    with (
        refusals(path, need),
        replacing(path, durable=True) as scratch,
        scratch.open("xb") as file,
    ):
        file.write(content)


def _ordered(content: bytes) -> bytes:
    """The same file with its metadata sorted: safetensors writes them in any order."""
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # as the format aligns what follows
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def load(path: str | Path, *, say: bool = False) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and document of a file that `write` wrote; OSError, or ValueError where it is damaged.

    For callers with a sentence of their own; others `read`.

    Args:
        path: the file.
        say: a line on stderr where it is of a release that wrote no checksum, for callers that
            have none of their own.
    """
    plain.check(path)
    try:
        with safe_open(path, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            known = file.metadata() or {}
            text = known[KEY]
            if known.keys() != {KEY}:  # else of a release without
                if known.get(CHECKSUM) != _checksum(arrays, text):
                    raise ValueError("its checksum is wrong")
            elif say:
                line = "has no checksum, as earlier releases wrote it; damage would not be noticed"
                print(f"{path}: {line}", file=sys.stderr)
            return arrays, parse_json(text)
    except (SafetensorError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _checksum(arrays: Mapping[str, np.ndarray], text: str) -> str:
    """SHA-256 of the JSON and of arrays by name: types, shapes, numbers."""
    found = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(json.dumps([name, array.dtype.str, arrays[name].shape]).encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def read(path: Path, advice: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The same; StoreError where it is missing or damaged, advice says what to do then."""
    try:
        return load(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error}); {advice}") from error
    except ValueError as error:
        got = str(error).splitlines()[0]
        raise StoreError(f"{path}: damaged, or not of this library ({got}); {advice}") from error
