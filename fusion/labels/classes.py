"""Names of classes."""

from __future__ import annotations

import json
import os
from pathlib import Path

from fusion.errors import InputError, StoreError


def read_classes(path: str | os.PathLike[str]) -> list[str]:
    """Class names in label order: a JSON list (``.json``), or one name a line.

    StoreError: the file cannot be read. InputError: no list of names, none, or one twice.
    """
    path = Path(path)
    advice = "give one name a line, or a JSON list"
    try:
        text = path.read_text(encoding="utf-8")
        lines = (line.strip() for line in text.splitlines())
        names = json.loads(text) if path.suffix == ".json" else [line for line in lines if line]
    except (OSError, ValueError) as error:
        raise StoreError(f"classes: {path} cannot be read ({error}); {advice}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"classes: {path} holds no list of names; {advice}")
    if not names or len(set(names)) != len(names):
        got = f"{len(names)} names, {len(set(names))} different"
        raise InputError(f"classes: {path} has {got}; give each class a name of its own")
    return names
