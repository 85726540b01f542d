"""Class names: the one reader of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fusion.arguments import checked
from fusion.errors import InputError
from fusion.labels.png import PathLike
from fusion.parsing import once, parse_json

OTHERS, VOID = "others", 255  # VSPW's void: the name of its 0, and what masks have as well


@checked
def read_classes(path: PathLike) -> list[str]:
    """Class names in the order of their ids, whatever the suffix.

    A JSON list, one name a line, or what VSPW has at its root, label_num_dic_final.json: an object
    of names and numbers, where class c has number c + 1 and the void "others" 0.

    Raises:
        InputError: no such file, nothing of these, no name, a name or a number twice, or a gap.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig").strip()
        listed = text.startswith('["') or text[:1] + text[-1:] in ("[]", "{}")
        is_json = listed or Path(path).suffix == ".json"
        lines = filter(None, map(str.strip, text.splitlines()))
        names = parse_json(text, pairs=once) if is_json else [*lines]
    except (OSError, ValueError) as error:
        advice = "give one name a line, or a JSON list"
        raise InputError(f"classes: {path} cannot be read ({error}); {advice}") from error
    if isinstance(names, dict):
        names = _by_number(names, path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"classes: {path} holds other JSON; give a list of class names")
    if not names or len(set(names)) != len(names):
        got = f"{len(names)} names, {len(set(names))} different"
        raise InputError(f"classes: {path} has {got}; give each class a name of its own")
    return names


def _by_number(numbers: Mapping[str, Any], path: PathLike) -> list[str]:
    """The names of the numbers from 1 on, in their order."""
    names: dict[int, str] = {}
    for name, said in numbers.items():
        digits = isinstance(said, str) and said.isascii() and said.isdecimal() and len(said) < 6
        number = int(said) if digits else said
        if type(number) is not int:
            got = f"{name!r} is {said!r:.60}, no number"
            raise InputError(
                f"classes: {path} holds other JSON ({got}); give a list of class names"
            )
        if number in names:
            got = f"number {number} twice, of {names[number]!r} and of {name!r}"
            raise InputError(f"classes: {path} has {got}; give each class a number of its own")
        names[number] = name
    names.pop(VOID, None)
    if (first := names.pop(0, OTHERS)) != OTHERS:
        got = f"{first!r} has number 0, which is void in such a file ({OTHERS!r})"
        raise InputError(f"classes: {path}: {got}; number classes from 1, or give a list of them")
    lacking = next((n for n in range(1, len(names) + 1) if n not in names), None)
    if lacking is not None:
        got = f"{len(names)} classes and none of number {lacking}"
        raise InputError(f"classes: {path} has {got}; number them from 1 without a gap")
    return [names[n] for n in sorted(names)]
