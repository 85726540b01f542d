"""HTML, every word of it escaped unless it is HTML already."""

from __future__ import annotations

import html
from collections.abc import Iterable

from fusion.report.figures.chart import clean

VOID = ("img", "input", "meta", "br")


class Html(str):
    """Text that is HTML."""

    __slots__ = ()


Child = str | None | Iterable["str | None"]


def text(value: object) -> Html:
    """Words as HTML: escaped, and without letters that move what stands around them."""
    shown = "".join(c if c.isprintable() else "\ufffd" for c in str(value))
    return Html(html.escape(shown))


def tag(name: str, *children: Child, **attributes: str | int | bool | None) -> Html:
    """An element. Attributes: `_` stands for `-`, one at the end for nothing; True for the bare
    name; None and False leave it out."""
    said = []
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if value is True:
            said.append(f" {key}")
        elif value is not None and value is not False:
            said.append(f' {key}="{value if isinstance(value, Html) else text(value)}"')
    opened = f"<{name}{''.join(said)}>"
    return Html(opened if name in VOID else f"{opened}{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """One after the other; None is nothing."""
    parts: list[str] = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, str):
            parts.append(child if isinstance(child, Html) else text(child))
        else:
            parts.append(join(*child))
    return Html("".join(parts))


def short(name: object) -> Html:
    """A name that others chose: cut where it has no end."""
    return text(clean(name))
