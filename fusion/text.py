"""Words and numbers as people and machines read them: hints, orders, sizes, tables, NaN.

Names of models, classes and videos are other people's: whatever they hold, a terminal, a page and a
spreadsheet get letters (`visible`, `html_table`, `csv_text`).
"""

from __future__ import annotations

import csv
import difflib
import html
import io
import itertools
import math
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from fusion.errors import InputError

NARROWEST = 20  # letters of a table's first column
LONGEST = 200  # letters of a cell in a notebook
FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")  # what spreadsheets may take for one
UNITS = {"": 1} | {
    f"{prefix}{middle}B": base**power
    for middle, base in (("", 1000), ("I", 1024))
    for power, prefix in enumerate("KMGT", start=1)
}

# what tools put behind a name; nnU-Net numbers the channels of images
SUFFIX = re.compile(
    r"[_-](gtfine_labelids|gtfine_labeltrainids|gtfine_color|leftimg8bit|mask|masks|seg|segmentation"
    r"|gt|label|labels|labelids|labeltrainids|pred|prediction|image|img|0000)$"
)
ENDING = re.compile(r"\.(nii\.gz|nii|png|npy|npz|jpe?g|tiff?|zarr)$")


def visible(text: object, keep: str = "") -> str:
    """Letters that are seen, others as repr writes them: ESC, line ends, what turns text around.

    Args:
        text: a name, or a sentence with names in it.
        keep: letters that stay though they are not seen.
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV in which a name is never a formula to a spreadsheet.

    Text that begins as one does gets an apostrophe before it; numbers are left as they are.
    Source: OWASP, "CSV Injection".
    """
    text = io.StringIO()
    csv.writer(text).writerows([_cell(cell) for cell in row] for row in rows)
    return text.getvalue()


def _cell(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    shown = visible(cell, keep="\n\t\r")
    return f"'{shown}" if shown.lstrip(" ")[:1] in FORMULA else shown


def closest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The name that `name` was probably meant to be: in other capitals, or else the nearest."""
    name, known = str(name), list(known)
    same = [each for each in known if str(each).lower() == name.lower()]
    return next(iter(same or difflib.get_close_matches(name, known, n=1, cutoff=cutoff)), None)


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """'; did you mean ...?', else the first of what there is, to put behind an error."""
    known = list(known)
    close = closest(name, known, cutoff=cutoff)
    if close is not None:
        return f"; did you mean {close!r}?"
    return f"; choose one of {listed(known)}" if known else "; there are none"


def listed(values: Iterable[Any], most: int = 10) -> str:
    """The first of many, with commas."""
    shown = [visible(value) for value in values]
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")


def bare(name: str) -> str:
    """A name in small letters, without extension and the suffixes of masks and images."""
    before, name = "", name.lower()
    while before != name:
        before, name = name, SUFFIX.sub("", ENDING.sub("", name))
    return name


def natural_order(name: str) -> tuple[tuple[str | tuple[int, str], ...], str]:
    """Sort key that puts frame_2 before frame_10."""
    parts = re.split(r"([0-9]+)", name)
    return tuple(_number(part) if i % 2 else part for i, part in enumerate(parts)), name


def _number(digits: str) -> tuple[int, str]:
    """What orders as the number does, however many digits there are."""
    plain = digits.lstrip("0")
    return len(plain), plain


def parse_bytes(text: str | int) -> int:
    """ "4GB", "512MiB" or a plain number to bytes; InputError otherwise."""
    if isinstance(text, int):
        return text
    number = text.strip().rstrip("KMGTIBkmgtib ")
    unit = text.strip()[len(number) :].strip().upper()
    try:
        value = float(number) * UNITS[unit]
    except (ValueError, KeyError):
        raise InputError(f"memory: got {text!r}; give a size such as 4GB or 512MiB") from None
    if not 0 < value < math.inf:
        raise InputError(f"memory: got {text!r}; give a size above zero, such as 4GB")
    return int(value)


def parse_assignments(pairs: Iterable[str], what: str) -> dict[str, str]:
    """name=value arguments of the command line."""
    found = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if not name or not value:
            raise InputError(f"{what}: got {pair!r}; give NAME=VALUE")
        found[name] = value
    return found


def say_bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def say_seconds(seconds: float) -> str:
    """A stretch of time, roughly."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def percent(fraction: float) -> str:
    """A score as tables show it."""
    return f"{100 * fraction:.2f}"


def or_none(value: float) -> float | None:
    """NaN as null, which is what JSON has for it."""
    return None if math.isnan(value) else float(value)


def table(rows: Sequence[Sequence[str]], header: Sequence[str], width: int | None = None) -> str:
    """Columns of text, the first flush left, the others flush right.

    Args:
        rows: of cells.
        header: of the columns.
        width: of the whole; names of the first column go on below where they do not fit.
    """
    cells = [[visible(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if width is not None:
        widths[0] = min(widths[0], max(NARROWEST, width - sum(widths[1:]) - 2 * len(widths[1:])))
    pieces = [_folded(row, widths[0]) for row in cells]
    fits = [len(row[0]) for piece in pieces for row in piece if len(row[0]) <= widths[0]]
    widths[0] = max(fits, default=widths[0])
    head, *body = (
        ["  ".join([r[0].ljust(widths[0]), *map(str.rjust, r[1:], widths[1:])]).rstrip() for r in p]
        for p in pieces
    )
    return "\n".join([*head, "  ".join("-" * w for w in widths), *itertools.chain(*body)])


def _folded(row: Sequence[str], room: int) -> list[Sequence[str]]:
    """A row whose first cell goes on in rows below it where it is wider than its room."""
    name, *numbers = row
    if len(name) <= room:
        return [row]
    whole: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False}
    first, *more = textwrap.wrap(name, room, subsequent_indent="  ", **whole)
    nothing = [""] * len(numbers)
    if len(first) > room:  # a line of its own, so that columns stay where they are
        return [[first, *nothing], *([line, *nothing] for line in more), ["", *numbers]]
    return [[first, *numbers], *([line, *nothing] for line in more)]


def html_table(rows: Iterable[Sequence[Any]], header: Sequence[str], caption: str = "") -> str:
    """A table for notebooks, every word of it escaped and cut at LONGEST letters."""

    def text(cell: Any) -> str:
        # no letters that move what stands around them
        shown = "".join(c if c.isprintable() else "\ufffd" for c in str(cell))
        return html.escape(shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}...")

    def line(cells: Iterable[Any], tag: str) -> str:
        return "".join(f"<{tag}>{text(cell)}</{tag}>" for cell in cells)

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    head = f"<thead><tr>{line(header, 'th')}</tr></thead>"
    return f"<table>{line([caption], 'caption')}{head}<tbody>{body}</tbody></table>"
