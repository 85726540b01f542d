"""Sections of a configuration: frozen dataclasses whose keys carry the rule that their values obey.

    @dataclass(frozen=True)
    class Train(Section):
        steps: int = within(COUNT, 160_000)

A section checks itself when it is made, and `parsed` makes one of a table such as TOML gives. What
a key means stands in its class's docstring as "key: meaning", and `meanings` finds it there.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fusion.errors import InputError
from fusion.text import did_you_mean


class Rule(NamedTuple):
    """text: what to give, in an error. holds: whether a value is that; NaN never is."""

    text: str
    holds: Callable[[Any], bool]


COUNT = Rule("1 or more", lambda value: value >= 1)
NATURAL = Rule("0 or more", lambda value: value >= 0)
FINITE = Rule("a finite number, 0 or more", lambda value: 0 <= value < math.inf)
POSITIVE = Rule("a finite number above 0", lambda value: 0 < value < math.inf)


def one_of(*choices: str) -> Rule:
    """One of several words."""
    return Rule(f"one of {', '.join(choices)}", lambda value: value in choices)


def within(rule: Rule, default: Any, *, later: bool = False) -> Any:
    """A dataclass field with a default, whose value must obey the rule.

    later: it came after files were written whose `said` has no such key; its default is what those
    did without it.
    """
    return dataclasses.field(default=default, metadata={"rule": rule, "later": later})


@dataclasses.dataclass(frozen=True)
class Section:
    """InputError, when one is made: a value breaks its key's rule."""

    def __post_init__(self) -> None:
        for key in dataclasses.fields(self):
            rule, value = key.metadata.get("rule"), getattr(self, key.name)
            if rule and not rule.holds(value):
                section = type(self).__name__.lower()
                raise InputError(f"{section}: {key.name} is {value!r}; give {rule.text}")


def parsed(kind: Any, table: Any, where: str = "") -> Any:
    """A dataclass from a table, key by key; `where` is its name in errors.

    InputError: no table, an unknown key, a value of another type or against its rule.
    """
    if not isinstance(table, Mapping):
        raise InputError(f"config: [{where}] is {table!r}; give a section of keys")
    hints, known = typing.get_type_hints(kind), [key.name for key in dataclasses.fields(kind)]
    if odd := [key for key in table if key not in known]:
        section = f"[{where}]" if where else "no section"
        raise InputError(f"config: {section} has no key {odd[0]!r}{did_you_mean(odd[0], known)}")
    prefix = f"{where}." if where else ""
    return kind(**{key: _value(hints[key], table[key], prefix + key) for key in table})


def _value(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return parsed(kind, value, where)
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        if kinds[-1] is Ellipsis:
            kinds = kinds[:1] * (len(value) if isinstance(value, list) else 1)
        if not isinstance(value, list) or len(value) != len(kinds):
            words = "words" if str in kinds else "numbers"
            raise InputError(f"config: {where} is {value!r}; give a list of {len(kinds)} {words}")
        return tuple(_value(one, item, where) for one, item in zip(kinds, value, strict=True))
    if isinstance(kind, types.GenericAlias):
        if not isinstance(value, Mapping):
            raise InputError(f"config: {where} is {value!r}; give a table of keys")
        return dict(value)
    if kind is float and type(value) is int:  # TOML's 1 where 1.0 is meant
        return float(value)
    if type(value) is not kind:  # isinstance would take true for a number
        raise InputError(f"config: {where} is {value!r}; give a value of type {kind.__name__}")
    return value


def said(section: Any) -> dict[str, Any]:
    """A section as a document; keys that came later only where they are not their defaults."""
    document = {}
    for key in dataclasses.fields(section):
        value = getattr(section, key.name)
        made = key.default_factory
        default = key.default if made is dataclasses.MISSING else made()
        if key.metadata.get("later") and value == default:
            continue
        document[key.name] = said(value) if dataclasses.is_dataclass(value) else value
    return document


def meanings(kind: type) -> dict[str, str]:
    """Key -> what it means, of a section's docstring and those of what it extends; "" where none.

    "threshold, min_kept: of mining. adjust: ..." says something of three keys, up to an empty line.
    """
    names = [key.name for key in dataclasses.fields(kind)]
    one = f"(?:{'|'.join(sorted(names, key=len, reverse=True))})"
    found: dict[str, str] = {}
    for home in reversed([each for each in kind.__mro__ if issubclass(each, Section)]):
        for paragraph in _paragraphs(home):
            _, *pieces = re.split(rf"(?:^|(?<=[.;)] ))({one}(?:, {one})*): ", paragraph)
            for keys, meaning in zip(pieces[::2], pieces[1::2], strict=True):
                found |= dict.fromkeys(keys.split(", "), meaning.strip().rstrip("."))
    return {name: found.get(name, "") for name in names}


def summary(kind: type) -> str:
    """The first sentence of a section's docstring, where that is none about a key."""
    first = next(iter(_paragraphs(kind)), "")
    about_a_key = first.partition(":")[0].split(", ")[0] in meanings(kind)
    return "" if about_a_key else first


def _paragraphs(kind: type) -> list[str]:
    text = inspect.cleandoc(vars(kind).get("__doc__") or "")
    return [" ".join(each.split()) for each in re.split(r"\n\s*\n", text)]
