"""The forms of heads by name, the smallest first: a new one is its file and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusion.ensemble.heads.base import Head
from fusion.ensemble.heads.log import Log
from fusion.ensemble.heads.lowrank import LowRank
from fusion.ensemble.heads.mix import Mix
from fusion.errors import InputError
from fusion.text import did_you_mean

__all__ = ["HEADS", "Head", "head_of"]

HEADS: Mapping[str, type[Head]] = {kind.name: kind for kind in (Log, LowRank, Mix)}


def head_of(config: Mapping[str, Any]) -> Head:
    """The head of a configuration, whatever its form; InputError for a form that is none."""
    form = config["form"]
    if form not in HEADS:
        raise InputError(f"head: got form {form!r}{did_you_mean(form, HEADS)}")
    return HEADS[form].from_config(config)
