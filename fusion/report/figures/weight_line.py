"""The objective over the one weight of two groups: the plane where there is no second axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fusion.report.facts import Facts, Plane
from fusion.report.figures.chart import Row, Spec, chart, clean, is_wide, points, quantity, score
from fusion.report.figures.figure import Figure
from fusion.report.figures.style import FOUND, INK, OTHER, SURFACE, UNIFORM


@dataclass(frozen=True)
class WeightLine(Figure):
    """A line with the optimum, and bands of what is plausible."""

    name: ClassVar[str] = "weight_line"
    title: ClassVar[str] = "Score over the weight"
    note: ClassVar[str] = (
        "Shaded: not distinguishable from the optimum on these videos. Where the line is flat the "
        "weight matters little."
    )

    def shown(self, facts: Facts) -> bool:
        plane = facts.plane
        return plane is not None and len(plane.y) == 1 and bool(np.isfinite(plane.scores).any())

    def alt(self, facts: Facts) -> str:
        plane, group = _plane(facts), clean(_plane(facts).axes[0])
        said = f"The best weight of {group} relative to {clean(plane.fixed)} is "
        said += f"{plane.best[0]:.3g}, with {score(plane.best[2])} %"
        if plane.certified is not None:
            said += f" (no weight can pass {score(plane.certified)} %)"
        ends = (score(float(end(plane.scores))) for end in (np.nanmin, np.nanmax))
        said += f"; along the line scores go from {' to '.join(ends)} %."
        if plane.plausible is not None and plane.plausible.any():
            inside = plane.x[plane.plausible[0]]
            said += f" Not distinguishable from the best: weights from {inside.min():.3g} to "
            said += f"{inside.max():.3g}."
        return said

    def spec(self, facts: Facts, width: int) -> Spec:
        plane = _plane(facts)
        rows: list[Row] = [
            {"x": float(x), "y": points(value), "tip": f"weight {x:.3g}: {score(value)} %"}
            for x, value in zip(plane.x, plane.scores[0], strict=True)
        ]
        ends = [float(plane.x[0]), float(plane.x[-1])]
        title = f"weight of {clean(plane.axes[0])}"
        x = quantity("x", title, scale={"domain": ends, "nice": False})
        y = quantity("y", f"{facts.objective}, %", scale={"padding": 16})
        line = {"type": "line", "color": FOUND, "strokeWidth": 2.5, "aria": False}
        dot = {"type": "point", "filled": True, "color": FOUND, "size": 22, "opacity": 1}
        where = {"x": x, "y": y}
        layers: list[Spec] = [
            {"mark": line, "encoding": where},
            {"mark": dot, "encoding": {**where, "description": {"field": "tip"}}},
            *_optimum(plane, x, y),
        ]
        if plane.plausible is not None:
            layers = [_bands(plane, x), *layers]
        return chart(width, 320 if is_wide(width) else 250, rows, layers)


def _plane(facts: Facts) -> Plane:
    assert facts.plane is not None  # shown
    return facts.plane


def _bands(plane: Plane, x: Spec) -> Spec:
    """From the first to the last point of every stretch that is plausible."""
    assert plane.plausible is not None
    padded = np.pad(plane.plausible[0].astype(int), 1)
    change = np.diff(padded)
    starts, ends = np.flatnonzero(change == 1), np.flatnonzero(change == -1) - 1
    rows = [
        {"x": float(plane.x[a]), "end": float(plane.x[b])}
        for a, b in zip(starts, ends, strict=True)
    ]
    mark = {"type": "rect", "color": UNIFORM, "opacity": 0.18, "aria": False}
    return {"data": {"values": rows}, "mark": mark, "encoding": {"x": x, "x2": {"field": "end"}}}


def _optimum(plane: Plane, x: Spec, y: Spec) -> list[Spec]:
    at: Row = {"x": float(plane.best[0]), "y": points(plane.best[2])}
    at |= {"name": f"optimum {score(plane.best[2])}"}
    at |= {"tip": f"optimum: weight {plane.best[0]:.3g}, {score(plane.best[2])} %"}
    left = plane.best[0] > (plane.x[0] + plane.x[-1]) / 2
    text: Spec = {"type": "text", "align": "right" if left else "left", "dx": -9 if left else 9}
    text |= {"dy": -10, "fontWeight": "bold"}
    halo = {**text, "stroke": SURFACE, "strokeWidth": 4, "color": SURFACE, "aria": False}
    dot = {"type": "point", "filled": True, "shape": "diamond", "size": 150, "color": OTHER}
    dot |= {"opacity": 1}
    where: dict[str, Any] = {"x": x, "y": y, "description": {"field": "tip"}}
    named = {"x": x, "y": y, "text": {"field": "name"}}
    marks = ((dot, where), (halo, named), ({**text, "color": INK}, named))
    return [{"data": {"values": [at]}, "mark": m, "encoding": e} for m, e in marks]
