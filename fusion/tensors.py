"""Named arrays and JSON in one safetensors file, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from fusion.errors import StoreError
from fusion.files import refusals, replacing
from fusion.parsing import parse_json

KEY = "segfusion"  # of the JSON among the file's metadata


def write(path: Path, arrays: Mapping[str, np.ndarray], document: Mapping[str, Any]) -> None:
    """Writes arrays and document. StoreError: the disk refuses."""
    plain = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    need = sum(array.nbytes for array in plain.values())
    with refusals(path, need), replacing(path, durable=True) as scratch:
        try:
            save_file(plain, scratch, {KEY: json.dumps(document)})
        except SafetensorError as error:  # its name for a full disk too
            raise OSError(str(error)) from error


def load(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and document of a file that `write` wrote; OSError, or ValueError where it is damaged.

    For callers with a sentence of their own; others `read`.
    """
    try:
        with safe_open(path, "np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            return arrays, parse_json((file.metadata() or {})[KEY])
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(str(error)) from error


def read(path: Path, advice: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The same; StoreError where it is missing or damaged, advice says what to do then."""
    try:
        return load(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror or error}); {advice}") from error
    except ValueError as error:
        got = str(error).splitlines()[0]
        raise StoreError(f"{path}: damaged, or not of this library ({got}); {advice}") from error
