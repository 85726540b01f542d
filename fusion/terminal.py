"""What a terminal gets beyond text: colours, and lines that end where it ends.

Colours need a terminal. NO_COLOR (https://no-color.org) and TERM=dumb switch them off, FORCE_COLOR
switches them on for what is no terminal. Three styles are all there is, so no library is needed.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO

WIDTH = 80  # of what is printed, wherever it goes
_CODES = {"strong": "1", "good": "1;32", "doubtful": "1;33"}


@dataclass(frozen=True)
class Style:
    """Marks words: with escape codes, or not at all."""

    colour: bool = False

    def strong(self, text: str) -> str:
        """Of headings, and of what is recommended."""
        return self._marked(text, "strong")

    def good(self, text: str) -> str:
        """Of what can be relied on."""
        return self._marked(text, "good")

    def doubtful(self, text: str) -> str:
        """Of what cannot."""
        return self._marked(text, "doubtful")

    def _marked(self, text: str, how: str) -> str:
        # line by line: a pager that cuts between lines cuts nothing else
        lines = text.split("\n")
        on = f"\x1b[{_CODES[how]}m"
        return "\n".join(f"{on}{line}\x1b[0m" if line and self.colour else line for line in lines)


def style_of(stream: TextIO | Any, environment: Mapping[str, str] | None = None) -> Style:
    """The style that a stream can show.

    Args:
        stream: that will be written to.
        environment: variables; default this process's.
    """
    known = os.environ if environment is None else environment
    if known.get("NO_COLOR"):
        return Style(False)
    if known.get("FORCE_COLOR", "0") not in ("", "0"):
        return Style(True)
    return Style(bool(stream.isatty()) and known.get("TERM") != "dumb")


def wrapped(text: str, width: int = WIDTH, indent: str = "  ") -> str:
    """A sentence on lines up to a width, those below the first indented; names stay whole."""
    first = text[: len(text) - len(text.lstrip(" "))]
    whole: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    lines = textwrap.wrap(
        text.strip(), width, initial_indent=first, subsequent_indent=first + indent, **whole
    )
    return "\n".join(lines)
