"""The objective over two weights: where it is high, and what cannot be told from the best."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fusion.report.facts import Facts, Plane
from fusion.report.figures.chart import Row, Spec, clean, is_wide, points, quantity, score, signed
from fusion.report.figures.figure import Figure
from fusion.report.figures.style import HEAT

MOST_CELLS = 64  # a side; of finer grids every n-th line is drawn
FLOOR = 5  # percentile of scores below which all cells look alike: corners are not the question
DARK, LIGHT = "#101214", "#fefefe"  # on colours that are the same in both themes


@dataclass(frozen=True)
class WeightPlane(Figure):
    """A heat map with the optimum, the paper's weights, and an outline of what is plausible."""

    name: ClassVar[str] = "plane"
    title: ClassVar[str] = "Score over two weights"
    note: ClassVar[str] = (
        "Every cell is a weighting of the grid. Inside the white line: not distinguishable from "
        "the optimum on these videos."
    )

    def shown(self, facts: Facts) -> bool:
        plane = facts.plane
        return plane is not None and len(plane.y) > 1 and bool(np.isfinite(plane.scores).any())

    def alt(self, facts: Facts) -> str:
        plane = _plane(facts)
        x, y, best = plane.best
        axes = [clean(name) for name in plane.axes]
        said = f"The best weights relative to {clean(plane.fixed)} are {axes[0]} {x:.3g} and "
        said += f"{axes[1]} {y:.3g}, with {score(best)} %"
        if plane.certified is not None:
            said += f" (no weights can pass {score(plane.certified)} %)"
        said += f"; on the grid scores go from {score(float(np.nanmin(plane.scores)))} to "
        said += f"{score(float(np.nanmax(plane.scores)))} %."
        if plane.plausible is not None and plane.plausible.any():
            rows, columns = np.nonzero(plane.plausible)
            share = f"{100 * plane.plausible.mean():.0f} %"
            said += f" {share} of the grid is not distinguishable from the best: {axes[0]} "
            said += f"{plane.x[columns].min():.3g} to {plane.x[columns].max():.3g}, {axes[1]} "
            said += f"{plane.y[rows].min():.3g} to {plane.y[rows].max():.3g}."
        if plane.paper is not None:
            said += f" The paper's weights are {plane.paper[0]:.3g} and {plane.paper[1]:.3g}."
        return said

    def spec(self, facts: Facts, width: int) -> Spec:
        plane = _thinned(_plane(facts))
        x, y = _edges(plane.x), _edges(plane.y)
        size = min(width - 150, 470) if is_wide(width) else width
        high = float(np.nanmax(plane.scores))
        low = float(np.nanpercentile(plane.scores, FLOOR))
        legend: Spec = {"title": f"{facts.objective}, %", "gradientThickness": 12, "tickCount": 4}
        legend |= (
            {"orient": "right", "gradientLength": 200}
            if is_wide(width)
            else {"orient": "top", "gradientLength": size - 60, "direction": "horizontal"}
        )
        scale = {"scheme": HEAT, "domain": [points(low), points(high)], "clamp": True}
        colour = {"field": "score", "type": "quantitative", "scale": scale, "legend": legend}
        cells = {
            "x": _weight("x0", plane.axes[0], x), "x2": {"field": "x1"},
            "y": _weight("y0", plane.axes[1], y), "y2": {"field": "y1"},
            **{"color": colour, "description": {"field": "tip"}},
        }  # fmt: skip
        valid = [{"filter": "isValid(datum.score)"}]
        layers: list[Spec] = [{"transform": valid, "mark": "rect", "encoding": cells}]
        if plane.plausible is not None:
            layers += _outline(plane.plausible, x, y)
        if plane.paper is not None:
            layers += _point(plane.paper, "the paper", "diamond", x, below=True)
        x_best, y_best, best = plane.best
        layers += _point((x_best, y_best), f"optimum {score(best)}", "cross", x)
        fit = {"type": "pad"} if is_wide(width) else {"type": "fit-x", "contains": "padding"}
        rows = {"values": _cells(plane, x, y)}
        shape = {"width": size, "height": size if is_wide(width) else size - 40, "autosize": fit}
        return {**shape, "data": rows, "layer": layers}


def _plane(facts: Facts) -> Plane:
    assert facts.plane is not None  # shown
    return facts.plane


def _thinned(plane: Plane) -> Plane:
    along, up = (-(-len(axis) // MOST_CELLS) for axis in (plane.x, plane.y))
    kept = None if plane.plausible is None else plane.plausible[::up, ::along]
    scores, x, y = plane.scores[::up, ::along], plane.x[::along], plane.y[::up]
    return replace(plane, x=x, y=y, scores=scores, plausible=kept)


def _edges(centres: Any) -> Any:
    """Of cells around the grid's points."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    ends = 2 * centres[0] - middle[0], 2 * centres[-1] - middle[-1]
    return np.concatenate([[ends[0]], middle, [ends[1]]])


def _weight(field: str, group: str, edges: Any) -> Spec:
    domain = [float(edges[0]), float(edges[-1])]
    axis = {"grid": False, "titlePadding": 6}
    return quantity(
        field, f"weight of {clean(group)}", axis=axis, scale={"domain": domain, "nice": False}
    )


def _cells(plane: Plane, x: Any, y: Any) -> list[Row]:
    names, rows = [clean(name) for name in plane.axes], []
    for up, line in enumerate(plane.scores):
        for along, value in enumerate(line):
            row: Row = {"x0": float(x[along]), "x1": float(x[along + 1]), "score": points(value)}
            row |= {"y0": float(y[up]), "y1": float(y[up + 1])}
            row["tip"] = f"{names[0]} {plane.x[along]:.3g}, {names[1]} {plane.y[up]:.3g}: "
            row["tip"] += f"{score(value)} % ({signed(value - plane.best[2])})"
            rows.append(row)
    return rows


def _outline(inside: Any, x: Any, y: Any) -> list[Spec]:
    """Edges between cells inside and outside, and where the grid cuts the region."""
    wide = np.pad(inside, 1)
    rows: list[Row] = []
    for up, along in np.argwhere(wide[1:-1, 1:] != wide[1:-1, :-1]):
        rows.append({"a": x[along], "b": x[along], "c": y[up], "d": y[up + 1]})
    for up, along in np.argwhere(wide[1:, 1:-1] != wide[:-1, 1:-1]):
        rows.append({"a": x[along], "b": x[along + 1], "c": y[up], "d": y[up]})
    rows = [{key: float(value) for key, value in row.items()} for row in rows]
    fields = zip(("x", "x2", "y", "y2"), "abcd", strict=True)
    where: Spec = {c: {"field": f} for c, f in fields}
    for channel in ("x", "y"):
        where[channel] |= {"type": "quantitative"}
    base = {"type": "rule", "strokeCap": "square", "aria": False}
    styles = ({"color": DARK, "strokeWidth": 4}, {"color": LIGHT, "strokeWidth": 2})
    data = {"values": rows}
    return [{"data": data, "mark": {**base, **s}, "encoding": where} for s in styles]


def _point(
    at: tuple[float, float], text: str, shape: str, edges: Any, *, below: bool = False
) -> list[Spec]:
    """A mark with its words; on the side where there is room."""
    where = {"x": {"datum": at[0]}, "y": {"datum": at[1]}}
    dot = {
        "type": "point",
        "shape": shape,
        "size": 150,
        "filled": True,
        "opacity": 1,
        "color": LIGHT,
    }
    dot |= {"stroke": DARK, "strokeWidth": 1.5}
    right = at[0] < (edges[0] + edges[-1]) / 2
    label: Spec = {"type": "text", "text": text, "align": "left" if right else "right"}
    label |= {"dx": 12 if right else -12, "dy": 14 if below else -12, "fontWeight": "bold"}
    halo = {"stroke": DARK, "strokeWidth": 3.5, "strokeJoin": "round", "color": DARK}
    marks = (dot, {**label, **halo}, {**label, "color": LIGHT})
    return [{"data": {"values": [{}]}, "mark": mark, "encoding": where} for mark in marks]
