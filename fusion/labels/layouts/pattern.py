"""Files by a pattern such as {unit}/{frame}_mask.png or **/{unit}_{frame}_gtFine_labelIds.png.

{unit} and {frame} stand for a part of one name, the unit for as much as it can; without {frame} a
file is a unit of one frame. * and ? are any of a name, **/ any folders. A unit may occur again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusion.errors import InputError
from fusion.labels.formats import FORMATS
from fusion.labels.layouts.base import Indexed, directory, nothing
from fusion.text import listed

_TOKENS = re.compile(r"\*\*/|\*|\?|\{[^{}]*\}|[^*?{]+|.")
_PLAIN = {"**/": "(?:[^/]+/)*", "*": "[^/]*", "?": "[^/]"}


class Pattern(Indexed):
    """What `pattern` matches below the root."""

    name = "glob"
    holds = "what --label-pattern matches"
    takes = ("pattern",)

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        super().__init__(directory(root), split, **options)
        pattern = self.options.get("pattern")
        if not pattern:
            raise InputError("layout glob: give pattern='{unit}/{frame}_mask.png', or the like")
        matches = compiled(pattern).fullmatch
        found = []
        for path in files_below(root, literal(pattern)):
            if match := matches(path):
                parts = match.groupdict()
                found.append((parts["unit"], parts.get("frame") or parts["unit"], path))
        if not found:
            raise nothing(root, f"file like {pattern}", "correct the pattern, which starts there")
        self.index(found)


def compiled(pattern: str) -> re.Pattern[str]:
    """A pattern as a regular expression of paths. InputError: no {unit}, or masks of no format."""
    suffix = os.path.splitext(pattern)[1]
    unknown = set(re.findall(r"\{([^{}]*)\}", pattern)) - {"unit", "frame"}
    if "{unit}" not in pattern or unknown or suffix not in FORMATS or pattern.startswith("/"):
        rule = (
            f"give {{unit}}, maybe {{frame}}, a path below the root, and one of {listed(FORMATS)}"
        )
        raise InputError(f"pattern: got {pattern!r}; {rule}")
    seen: set[str] = set()

    def token(text: str) -> str:
        if text in _PLAIN:
            return _PLAIN[text]
        name = text.strip("{}")
        if not text.startswith("{") or name not in ("unit", "frame"):
            return re.escape(text)
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>[^/]+)"

    return re.compile("".join(token(text) for text in _TOKENS.findall(pattern)))


def literal(pattern: str) -> str:
    """The folders that a pattern begins with, as they are; InputError where they leave the root."""
    folders = re.split(r"[*?{]", pattern)[0].rpartition("/")[0]
    if ".." in pattern.split("/"):
        raise InputError(f"pattern: got {pattern!r}, which leaves the root; give paths below it")
    return folders


def files_below(root: Path, folder: str = "") -> Iterator[str]:
    """Paths below the root of all files in a folder of it, hidden ones left out; no link is
    followed to a folder.
    """
    for parent, folders, names in os.walk(root / folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(parent, root).replace(os.sep, "/")
        for name in names:
            if not name.startswith("."):
                yield name if below == "." else f"{below}/{name}"
