"""Class names: the one reader of them."""

from __future__ import annotations

from pathlib import Path

from fusion.arguments import checked
from fusion.errors import InputError
from fusion.labels.png import PathLike
from fusion.parsing import parse_json


@checked
def read_classes(path: PathLike) -> list[str]:
    """Class names in the order of their ids: a JSON list or one name a line, whatever the suffix.

    Raises:
        InputError: no such file, neither text nor a list of names, no name, or a name twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig").strip()
        listed = text.startswith('["') or text[:1] + text[-1:] in ("[]", "{}")
        is_json = listed or Path(path).suffix == ".json"
        names = parse_json(text) if is_json else [*filter(None, map(str.strip, text.splitlines()))]
    except (OSError, ValueError) as error:
        advice = "give one name a line, or a JSON list"
        raise InputError(f"classes: {path} cannot be read ({error}); {advice}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"classes: {path} holds other JSON; give a list of class names")
    if not names or len(set(names)) != len(names):
        got = f"{len(names)} names, {len(set(names))} different"
        raise InputError(f"classes: {path} has {got}; give each class a name of its own")
    return names
