"""What a terminal gets beyond text: colours, and lines that end where it ends. And no more.

Colours need a terminal. NO_COLOR (https://no-color.org) and TERM=dumb switch them off, FORCE_COLOR
switches them on for what is no terminal. Three styles are all there is, so no library is needed.

`guarded` is the last net below all that a command prints: names from data may hold what moves a
cursor, hides lines or renames a window. Of letters that are not seen only line ends, tabs and this
module's own colours reach a stream; what it cannot encode is escaped too.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from fusion.text import visible

WIDTH = 80  # of what is printed, wherever it goes
_CODES = {"strong": "1", "good": "1;32", "doubtful": "1;33"}
_OURS = re.compile("(\x1b\\[(?:0|1|1;32|1;33)m|\x1b\\[A)")  # and up a line, as bars below bars go


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


class Guarded:
    """A stream that shows letters only; in all else the stream that it was made of.

    Attributes:
        midline: whether its last line has not ended.
    """

    def __init__(self, stream: Any) -> None:
        self._stream, self.midline = stream, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """The text, with what is not seen as repr writes it; returns how much was given."""
        midline = text[-1:] not in ("\n", "\r") if text else self.midline
        self.midline = True  # should Ctrl-C come now, nobody knows how much was written
        self._stream.write(text if text.isascii() and text.isprintable() else self._plain(text))
        self.midline = midline
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def _plain(self, text: str) -> str:
        pieces = _OURS.split(text) if self._colours() else [text]
        shown = (p if k % 2 else visible(p, "\n\r\t") for k, p in enumerate(pieces))
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        return "".join(shown).encode(encoding, "backslashreplace").decode(encoding)

    def _colours(self) -> bool:
        return style_of(self._stream).colour or bool(self._stream.isatty())


def midline() -> bool:
    """Whether what stderr is given next would go on in a line that a print has not ended."""
    shown = [sys.stderr]
    with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
        if sys.stdout.isatty():
            sys.stdout.flush()
            shown.append(sys.stdout)
    return any(getattr(each, "midline", False) for each in shown)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """stdout and stderr as `Guarded`, while a command runs; also a decorator."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (s if s is None else Guarded(s) for s in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
