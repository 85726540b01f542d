"""The keys of a configuration as people read them, from the sections' own docstrings."""

from __future__ import annotations

import dataclasses
import json
import math
import textwrap
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from fusion.models.section import meanings, summary
from fusion.models.training.config import Config

WIDTH = 96
PLAIN = ("text", "true or false")  # rules that a default says as well
# what somebody begins with: key -> value
FIRST: dict[str, Any] = {
    "out": "runs/first",
    "data.vspw": "VSPW_480p",
    "data.folds": 5,
    "network.name": "plain",
    "network.preset": "tiny",
    "train.steps": 20_000,
    "train.batch": 8,
    "train.learning_rate": 1e-3,
    "val.every": 1000,
}


def reference() -> str:
    """Every key, its default and what it means, as TOML."""
    return "\n".join(_lines({}, hidden=""))


def example() -> str:
    """A configuration to begin with; the keys that it does not set are comments."""
    return "\n".join(_lines(FIRST, hidden="# ")) + "\n"


def _lines(chosen: Mapping[str, Any], hidden: str) -> Iterator[str]:
    hints = typing.get_type_hints(Config)
    plain = [key.name for key in dataclasses.fields(Config) if key.name not in _sections()]
    about = meanings(Config)
    for name in plain:
        yield from _key(_field(Config, name), about[name], name, chosen, hidden)
    for section in _sections():
        kind = hints[section]
        yield from ("", f"[{section}]")
        yield from _comment(summary(kind))
        about = meanings(kind)
        for key in dataclasses.fields(kind):
            if key.name != "options":
                where = f"{section}.{key.name}"
                yield from _key(key, about[key.name], where, chosen, hidden)
        if section == "network":
            yield from _comment("further keys are the network's own: preset, pretrained, ...")
            if "network.preset" in chosen:
                yield f"preset = {_toml(chosen['network.preset'])}"


def _sections() -> list[str]:
    hints = typing.get_type_hints(Config)
    return [name for name, kind in hints.items() if dataclasses.is_dataclass(kind)]


def _field(kind: type, name: str) -> Any:
    return next(key for key in dataclasses.fields(kind) if key.name == name)


def _key(
    key: Any, meaning: str, where: str, chosen: Mapping[str, Any], hidden: str
) -> Iterator[str]:
    rule = key.metadata.get("rule")
    # the rule's own words only where the meaning does not say as much
    needs = f" ({rule.text})" if rule and rule.text not in PLAIN else ""
    yield from _comment(f"{meaning}{needs}".strip())
    default = "" if key.default is dataclasses.MISSING else key.default
    if key.default_factory is not dataclasses.MISSING:
        default = key.default_factory()
    if where in chosen:
        yield f"{key.name} = {_toml(chosen[where])}"
    else:
        yield f"{hidden}{key.name} = {_toml(default)}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")


def _toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, bool | str):
        return json.dumps(value)
    return "inf" if value == math.inf else repr(value)
