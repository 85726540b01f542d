"""JSON and TOML that anybody may have written: values that nothing stumbles over, or ValueError.

Python's own readers leave by RecursionError where lists are nested too deep, and so does whoever
prints what was not quite as deep; 10^4299 is a number to them that then fits nowhere. Here all of
it is a ValueError, which callers put behind the name of the file. Infinity and NaN pass: checking
numbers is the callers' own.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable
from typing import Any

DEEPEST = 64  # lists and objects inside each other
LARGEST = 2**64 - 1  # of whole numbers, which is what arrays hold
_LARGE = re.compile("[0-9]{20}|0[xob][0-9a-fA-F_]{16}|[0-9]_[0-9_]{18}")  # a number may be
Hook = Callable[[list[tuple[str, Any]]], Any]


def parse_json(text: str | bytes, *, pairs: Hook | None = None, deepest: int = DEEPEST) -> Any:
    """The value of a JSON document. ValueError: none, or one that no honest program writes.

    Args:
        text: the document; bytes are UTF-8.
        pairs: makes something of an object's names and values, as `object_pairs_hook` of json.
        deepest: levels; fewer for what is to be put inside other documents.
    """
    text = _text(text)
    try:
        value = json.loads(text, object_pairs_hook=pairs)
    except RecursionError:
        raise _too_deep(deepest) from None
    return _checked(value, text, deepest)


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, for `pairs`. ValueError: it has a name twice, of which Python would keep one."""
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has {twice!r} twice")
    return dict(pairs)


def parse_toml(text: str | bytes) -> dict[str, Any]:
    """The tables of a TOML document; ValueError as of `parse_json`."""
    text = _text(text)
    try:
        value = tomllib.loads(text)
    except RecursionError:
        raise _too_deep(DEEPEST) from None
    document: dict[str, Any] = _checked(value, text, DEEPEST, dotted=True)
    return document


def _text(text: str | bytes) -> str:
    return text if isinstance(text, str) else bytes(text).decode("utf-8-sig")


def _too_deep(deepest: int) -> ValueError:
    return ValueError(f"nested deeper than {deepest} levels")


def _checked(value: Any, text: str, deepest: int, *, dotted: bool = False) -> Any:
    """The value; looked through only where its text gives reason to."""
    large = _LARGE.search(text) is not None
    opened = text.count("[") + text.count("{") + (text.count(".") + 1 if dotted else 0)
    if opened <= deepest and not large:
        return value
    level = [value]
    for _ in range(deepest + 1):
        if large:
            _check_numbers(level)
        level = [each for each in level if isinstance(each, (dict, list))]
        if not level:
            return value
        level = [each for some in level for each in (some.values() if type(some) is dict else some)]
    raise _too_deep(deepest)


def _check_numbers(values: list[Any]) -> None:
    for value in values:
        if type(value) is int and not -LARGEST <= value <= LARGEST:
            raise ValueError(f"a whole number of {value.bit_length()} bits, beyond {LARGEST}")
