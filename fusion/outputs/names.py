"""Ids as names of files."""

from __future__ import annotations

from fusion.errors import InputError


def safe_name(name: str) -> str:
    """An id as a file name, if it can be one; ids that would leave the folder are refused."""
    if not name or name[0] == "." or set(name) & set("/\\\0") or len(name.encode()) > 240:
        advice = "choose other ids, or write the labels yourself from predict()"
        raise InputError(f"id {name!r} cannot be a file name; {advice}")
    return name
