"""Specs to files and to the page's own pictures, by vl-convert, which asks no network.

Chosen by measurement, of four charts of the report (30 classes, 22 x 22 and 41 x 41 cells, 124
points): one package of 32 MB without dependencies, 0.06 s a figure, and no script in the page:
hover texts lie in the drawings. With Vega's own script a page is 0.9 MB larger, with Plotly's
4.8 MB; matplotlib draws as fast and as small, needs nine packages and knows no hover texts.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from fusion.errors import InputError
from fusion.report.facts import Facts
from fusion.report.figures.figure import Figure
from fusion.report.figures.style import CONFIG, NARROW, TOKENS, WIDE

SCALE = 2  # pixels of a .png to one of its .svg
VEGA_LITE = "6.1"
_COLOURS = {light: f"var(--{name})" for name, (light, _) in TOKENS.items()}
_SPACES = (
    ' xmlns="http://www.w3.org/2000/svg"',
    ' xmlns:xlink="http://www.w3.org/1999/xlink"',
)
_LEFT_OUT = ("aria-hidden", "role", "aria-roledescription", "pointer-events")


@dataclass(frozen=True)
class Drawing:
    """A figure's files, and what the page shows on screens and on phones."""

    svg: str
    png: bytes
    wide: str
    narrow: str


def draw(figure: Figure, facts: Facts) -> Drawing:
    """A figure in all its forms.

    Args:
        figure: one that is `shown`.
        facts: what it shows.

    Raises:
        InputError: vl-convert is not installed.
    """
    converter, alt = _converter(), figure.alt(facts)
    svg, narrow = (_svg(converter, figure.spec(facts, width), width) for width in (WIDE, NARROW))
    return Drawing(
        svg=_titled(svg, alt),
        png=converter.svg_to_png(svg, scale=SCALE),
        wide=_titled(_for_page(svg, f"{figure.name}-wide"), alt),
        narrow=_titled(_for_page(narrow, f"{figure.name}-narrow"), alt),
    )


def _converter() -> Any:
    try:
        import vl_convert
    except ImportError as error:
        do = "pip install 'segfusion[plot]', or leave the figures out"
        raise InputError(f"figures need vl-convert-python, which is not installed; {do}") from error
    return vl_convert


def _svg(converter: Any, spec: dict[str, Any], width: int) -> str:
    ticks = {"tickCount": 8 if width >= WIDE else 5}
    config = {**CONFIG, "axisXQuantitative": ticks, "axisYQuantitative": ticks}
    drawn = converter.vegalite_to_svg(spec, vl_version=VEGA_LITE, config=config)
    # cells without seams
    return _renumbered(drawn).replace(
        '<g class="mark-rect ', '<g shape-rendering="crispEdges" class="mark-rect '
    )


def _renumbered(svg: str) -> str:
    """The same under ids that do not say how many charts were drawn before."""
    known = dict.fromkeys(re.findall(r'\bid="([^"]+)"', svg))
    own = {name: f"d{number}" for number, name in enumerate(known)}
    return re.sub(r'(\bid="|url\(#)([^")]+)', lambda m: m[1] + own.get(m[2], m[2]), svg)


def _titled(svg: str, alt: str) -> str:
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt)}" ', 1)


def _for_page(svg: str, name: str) -> str:
    """The same in the page's colours, under ids of its own, its values as hover texts.

    A picture has one description, its alt text: roles inside it would not be read.
    """
    for space in _SPACES:  # what HTML knows by itself
        svg = svg.replace(space, "", 1)
    root = ElementTree.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.get("class") in ("foreground", "background") and _is_empty(child):
                parent.remove(child)
    for element, is_mark in _walk(root):
        spoken = element.attrib.pop("aria-label", None)
        if is_mark and spoken:
            element.set("data-tip", spoken)
        for attribute in (*_LEFT_OUT, "font-family"):
            element.attrib.pop(attribute, None)
        for attribute, value in element.items():
            if attribute == "id":
                element.set(attribute, f"{name}-{value}")
            elif value.startswith("url(#"):
                element.set(attribute, value.replace("url(#", f"url(#{name}-", 1))
            elif value.lower() in _COLOURS:
                element.set(attribute, _COLOURS[value.lower()])
    return ElementTree.tostring(root, encoding="unicode")


def _walk(
    element: ElementTree.Element, is_mark: bool = False
) -> Iterator[tuple[ElementTree.Element, bool]]:
    """Every element, and whether it is of the data (not of an axis or legend)."""
    is_mark = is_mark or "role-mark" in element.get("class", "").split()
    yield element, is_mark
    for child in element:
        yield from _walk(child, is_mark)


def _is_empty(path: ElementTree.Element) -> bool:
    return path.get("d") in ("", "M0,0h0v0h0Z")
