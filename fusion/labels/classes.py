"""Class names as they lie on disk."""

from __future__ import annotations

import json
from pathlib import Path

from fusion.errors import InputError


def read_classes(path: Path) -> list[str]:
    """Class names: a JSON list (told by its suffix or its content), or one name a line.

    Raises:
        InputError: the file cannot be read, or holds other JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json" or text.lstrip().startswith("["):
            names = json.loads(text)
        else:
            names = [line.strip() for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        advice = "give one name a line, or a JSON list"
        raise InputError(f"{path}: class names cannot be read ({error}); {advice}") from error
    if not isinstance(names, list):
        raise InputError(f"{path}: holds {type(names).__name__}; give a JSON list of class names")
    return names
