"""What several figures say alike: numbers as words, axes, rows of names, points with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

from fusion.report.facts import Estimate, Facts
from fusion.report.figures.style import (
    FOUND,
    MUTED,
    SERIES,
    SHAPES,
    SINGLE,
    UNIFORM,
    WIDE,
)
from fusion.text import LONGEST

# what has a colour of its own wherever it is shown
MEANT = {"best single": SINGLE, "uniform weights": UNIFORM, "what was found": FOUND}
Row = dict[str, Any]
Spec = dict[str, Any]
BESIDE = 110  # pixels that names may take beside rows on phones
NAME_WIDTH = 300  # of names beside rows, in pixels
LETTER = 6.4  # pixels that a letter takes, about
BAND = {"type": "band", "padding": 0}


def clean(name: object) -> str:
    """A name without letters that move what stands around them, and not without end."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in str(name))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def known(value: float | None) -> bool:
    """Whether a number is there."""
    return value is not None and math.isfinite(value)


def points(value: float | None) -> float | None:
    """A fraction in percent points, for a spec; JSON has no nan."""
    return round(100 * value, 4) if value is not None and math.isfinite(value) else None


def score(value: float) -> str:
    """A fraction as words show it: 61.2."""
    return f"{100 * value:.1f}" if math.isfinite(value) else "unknown"


def signed(value: float) -> str:
    """A difference of fractions as words show it: +1.1, -0.3, 0.0."""
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "\u2212")


def with_interval(estimate: Estimate, *, sign: bool = False) -> str:
    """61.2 [58.9, 64.0], or the number alone."""
    said = signed if sign else score
    if not (known(estimate.low) and known(estimate.high)):
        return said(estimate.value)
    return f"{said(estimate.value)} [{said(estimate.low)}, {said(estimate.high)}]"


def is_wide(width: int) -> bool:
    return width >= WIDE


def measure(objective: str) -> str:
    """What a class scores under an objective: IoU or Dice."""
    return "Dice" if "dice" in objective.lower() else "IoU"


def whose(facts: Facts) -> str:
    """Of which videos classes, pixels and frames are, for captions."""
    split = clean(facts.splits[-1])
    if len(facts.splits) > 1:
        return f"On {split}, which nothing was chosen on."
    held = any(known(row.held_out) for row in facts.classes)
    where = "held-out scores stand in the table" if held else "new videos gain less"
    return f"On {split}, which the ensemble was chosen on: {where}."


def quantity(field: str, title: str | None, **more: Any) -> Spec:
    """A channel of numbers whose scale need not begin at zero."""
    axis = {"title": title, **more.pop("axis", {})}
    scale = {"zero": False, "nice": True, **more.pop("scale", {})}
    return {"field": field, "type": "quantitative", "axis": axis, "scale": scale, **more}


def chart(
    width: int, height: int, rows: Sequence[Row], layers: Sequence[Spec], **more: Any
) -> Spec:
    """Layers over the same rows that fill a width, names and axes included."""
    fit = {"type": "fit-x", "contains": "padding"}
    size = {"width": width, "height": height, "autosize": fit}
    return {**size, "data": {"values": list(rows)}, "layer": list(layers), **more}


def is_beside(names: Iterable[str], width: int) -> bool:
    """Whether names stand beside their rows, not above them: where enough is left of the width."""
    return is_wide(width) or max(map(len, names), default=0) * LETTER <= BESIDE


def names_axis(names: Sequence[str], width: int, place: float) -> Spec:
    """Rows by their names, in this order; `place` in the row, from 0 to 1, is what is drawn at."""
    axis: Spec = {"title": None, "domain": False, "ticks": False}
    if is_beside(names, width):
        axis |= {"labelPadding": 8, "labelLimit": NAME_WIDTH, "labelOverlap": False}
    else:
        axis |= {"labels": False}
    sort = list(dict.fromkeys(names))
    rows = {"field": "name", "type": "nominal", "sort": sort, "scale": BAND}
    return {**rows, "axis": axis, "bandPosition": place}


def names_above(names: Sequence[str], width: int) -> list[Spec]:
    """Long names as words over their rows, on phones: beside them nothing would be left of it."""
    if is_beside(names, width):
        return []
    unique = list(dict.fromkeys(names))
    mark = {"type": "text", "align": "left", "baseline": "top", "dy": 3, "limit": width - 16}
    where = {"field": "name", "type": "nominal", "sort": unique, "bandPosition": 0}
    where |= {"scale": BAND}
    encoding = {"x": {"value": 0}, "y": where, "text": {"field": "name"}}
    rows = {"values": [{"name": name} for name in unique]}
    return [{"data": rows, "mark": mark, "encoding": encoding}]


def row_height(names: Sequence[str], width: int, series: int = 1) -> int:
    """Pixels of a row, with its name above it where names do not stand beside."""
    return (10 if is_beside(names, width) else 26) + 14 * series


def within_row(names: Sequence[str], width: int, number: int, series: int = 1) -> float:
    """Where in its row, from 0 to 1, the n-th of several series lies; below a name above it."""
    above = 5 if is_beside(names, width) else 23
    return (above + 14 * (number + 0.5)) / row_height(names, width, series)


def series_of(names: Sequence[str], width: int, **more: Any) -> Spec:
    """Colour and shape by series, with one legend."""
    spare = [colour for colour in SERIES if colour not in {MEANT.get(name) for name in names}]
    free = cycle(spare or SERIES)
    colours = [MEANT.get(name) or next(free) for name in names]
    shapes = [SHAPES[n % len(SHAPES)] for n in range(len(names))]
    legend = None
    if len(names) > 1:
        legend = {"title": None, "labelLimit": min(280, width - 40)}
        legend |= {"columns": 0 if is_wide(width) or len(names) < 4 else 2}
    domain = {"domain": list(names)}
    field = {"field": "series", "type": "nominal", "sort": None, "legend": legend}
    colour = {**field, "scale": {**domain, "range": colours}}
    return {"color": colour, "shape": {**field, "scale": {**domain, "range": shapes}}, **more}


def estimates(
    series: Mapping[str, Mapping[str, Estimate]],
    names: Sequence[str],
    width: int,
    title: str,
    *,
    sign: bool = False,
    one_line: bool = False,
) -> Spec:
    """Rows of points with their 95 % intervals.

    Args:
        series: by name, what each row has.
        names: of the rows, from the top.
        width: of the drawing.
        title: of the axis.
        sign: whether they are differences; then zero is marked.
        one_line: whether a row has a point of one series only, which then takes its middle.
    """
    rows, rules = [], [*series]
    for number, (label, found) in enumerate(series.items()):
        for name, each in found.items():
            row: Row = {"name": name, "series": label, "value": points(each.value)}
            row |= {"low": points(each.low), "high": points(each.high), "place": number}
            row["tip"] = f"{name}, {label}: {with_interval(each, sign=sign)}"
            rows.append(row)
    colour = series_of(rules, width)
    layers: list[Spec] = names_above(names, width)
    if sign:
        zero = {"type": "rule", "color": MUTED, "strokeDash": [4, 3]}
        layers.append({"data": {"values": [{}]}, "mark": zero, "encoding": {"x": {"datum": 0}}})
    tip, lines = {"description": {"field": "tip"}}, 1 if one_line else len(rules)
    for number in range(len(rules)):
        place = within_row(names, width, 0 if one_line else number, lines)
        y = names_axis(names, width, place)
        only = [{"filter": {"field": "place", "equal": number}}]
        across = {"x": quantity("low", title), "x2": {"field": "high"}, "y": y, **tip}
        line = {"type": "rule", "strokeWidth": 2.5}
        valid = [*only, {"filter": "isValid(datum.low) && isValid(datum.high)"}]
        layers.append(
            {"transform": valid, "mark": line, "encoding": {**across, "color": colour["color"]}}
        )
        dot = {"type": "point", "size": 85, "filled": True, "opacity": 1}
        at = {"x": quantity("value", title), "y": y, **colour, **tip}
        layers.append({"transform": only, "mark": dot, "encoding": at})
    return chart(width, len(names) * row_height(names, width, lines), rows, layers)


def apart(
    rows: Sequence[Row], x: str, y: str, size: tuple[int, int], *, log: bool = False
) -> list[Row]:
    """The first rows whose names would not lie on each other.

    Args:
        rows: with a `name`, the most important first.
        x, y: their fields.
        size: of the drawing, in pixels.
        log: whether x is drawn so.
    """

    def scaled(field: str, pixels: int, log: bool) -> list[float]:
        values = [math.log(row[field]) if log else row[field] for row in rows]
        span = max(values) - min(values) or 1.0
        return [(value - min(values)) / span * pixels for value in values]

    places = list(zip(scaled(x, size[0], log), scaled(y, size[1], False), strict=True))
    kept: list[int] = []
    for n, (across, up) in enumerate(places):
        far = LETTER * len(rows[n]["name"]) + 24
        if all(abs(up - places[k][1]) > 15 or abs(across - places[k][0]) > far for k in kept):
            kept.append(n)
    return [rows[n] for n in kept]


def diagonal(low: float, high: float) -> Spec:
    """Where two scores are the same."""
    values = [{"a": low, "b": low}, {"a": high, "b": high}]
    mark = {"type": "line", "color": MUTED, "strokeDash": [4, 3], "strokeWidth": 1.5}
    where = {
        channel: {"field": field, "type": "quantitative"}
        for channel, field in zip("xy", "ab", strict=True)
    }
    return {"data": {"values": values}, "mark": mark, "encoding": where}


def bars(rows: Sequence[Row], width: int, title: str, colour: Spec, **scale: Any) -> Spec:
    """A bar a row, from its `start` to its `value`, with its `tip`."""
    names = [row["name"] for row in rows]
    # thick lines: bars cannot be moved within their row, below its name
    encoding = {
        "x": quantity("start", title, scale={"zero": True, **scale}),
        "x2": {"field": "value"},
        "y": names_axis(names, width, within_row(names, width, 0)),
        "color": colour,
        "description": {"field": "tip"},
    }
    layers = [
        *names_above(names, width),
        {"mark": {"type": "rule", "strokeWidth": 12}, "encoding": encoding},
    ]
    return chart(width, len(rows) * row_height(names, width), rows, layers)


def dumbbells(
    rows: Sequence[Row], width: int, title: str, labels: tuple[str, str], **scale: Any
) -> Spec:
    """From `before` to `after` of each row, with its `tip`.

    labels: of before and after.
    """
    names = [row["name"] for row in rows]
    y = names_axis(names, width, within_row(names, width, 0))
    tip, layers = {"description": {"field": "tip"}}, names_above(names, width)
    axis = {"scale": scale or {"padding": 12}}
    shaded = {"value": UNIFORM}
    line = {
        "x": quantity("before", title, **axis),
        "x2": {"field": "after"},
        "y": y,
        "color": shaded,
    }
    layers.append(
        {"mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.6}, "encoding": {**line, **tip}}
    )
    long = [
        {**row, "series": label, "value": row[field]}
        for label, field in zip(labels, ("before", "after"), strict=True)
        for row in rows
    ]
    looks = series_of(labels, width)
    looks["color"]["scale"]["range"] = [SINGLE, FOUND]
    looks["shape"]["scale"]["range"] = ["diamond", "circle"]
    dot = {"type": "point", "filled": True, "opacity": 1, "size": 75}
    at = {"x": quantity("value", title, **axis), "y": y, **looks, **tip}
    layers.append({"data": {"values": long}, "mark": dot, "encoding": at})
    return chart(width, len(rows) * row_height(names, width), rows, layers)
