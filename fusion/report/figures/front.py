"""Postprocessing: score against video consistency, and what nothing beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fusion.report.facts import Facts, FrontPoint
from fusion.report.figures.chart import (
    Row,
    Spec,
    chart,
    clean,
    is_wide,
    known,
    points,
    quantity,
    score,
)
from fusion.report.figures.figure import Figure
from fusion.report.figures.style import FOUND, SINGLE, SURFACE, UNIFORM

KINDS = ("chosen", "on the front", "beaten")


@dataclass(frozen=True)
class Front8(Figure):
    """Score against VC8."""

    name: ClassVar[str] = "front_vc8"
    title: ClassVar[str] = "Score against consistency over 8 frames"
    note: ClassVar[str] = (
        "Up and to the right is better. On the line: nothing else is better in both. Held out."
    )
    frames: ClassVar[int] = 8

    def shown(self, facts: Facts) -> bool:
        return len(self._points(facts)) > 1

    def alt(self, facts: Facts) -> str:
        found, what = self._points(facts), f"VC{self.frames}"
        front = [each for each in found if each.on_front]
        steadiest = max(found, key=self._consistency)
        best = max(found, key=lambda each: each.score)

        def at(each: FrontPoint) -> str:
            scores = f"{score(each.score)} %, {what} {score(self._consistency(each))} %"
            return f"{clean(each.name)} ({scores})"

        said = f"Of {len(found)} candidates {len(front)} are on the front of score and {what}. "
        said += f"Best score: {at(best)}; most consistent: {at(steadiest)}"
        return said + "".join(f"; chosen: {at(each)}" for each in found if each.chosen) + "."

    def spec(self, facts: Facts, width: int) -> Spec:
        found = sorted(self._points(facts), key=self._consistency)
        rows = [self._row(each) for each in found]
        x = quantity("x", f"VC{self.frames}, %", scale={"padding": 30})
        y = quantity("y", f"held-out {facts.objective}, %", scale={"padding": 20})
        kinds = [kind for kind in KINDS if any(row["series"] == kind for row in rows)]
        colours = {"chosen": FOUND, "on the front": SINGLE, "beaten": UNIFORM}
        shapes = {"chosen": "circle", "on the front": "diamond", "beaten": "square"}
        field = {"field": "series", "type": "nominal", "legend": {"title": None}}
        looks = {
            channel: {**field, "scale": {"domain": kinds, "range": [of[kind] for kind in kinds]}}
            for channel, of in (("color", colours), ("shape", shapes))
        }
        line = {"type": "line", "color": UNIFORM, "strokeWidth": 1.5, "aria": False}
        dot = {"type": "point", "filled": True, "opacity": 1, "size": 95}
        front = [{"filter": "datum.series != 'beaten'"}]
        layers: list[Spec] = [
            {"transform": front, "mark": line, "encoding": {"x": x, "y": y}},
            {"mark": dot, "encoding": {"x": x, "y": y, **looks, "description": {"field": "tip"}}},
            *_names(rows, x, y, front),
        ]
        return chart(width, 320 if is_wide(width) else 280, rows, layers)

    def _consistency(self, each: FrontPoint) -> float:
        return each.vc8 if self.frames == 8 else each.vc16

    def _points(self, facts: Facts) -> list[FrontPoint]:
        return [p for p in facts.front if known(p.score) and known(self._consistency(p))]

    def _row(self, each: FrontPoint) -> Row:
        kind = "chosen" if each.chosen else "on the front" if each.on_front else "beaten"
        consistency = self._consistency(each)
        tip = f"{clean(each.name)}: {score(each.score)} %, VC{self.frames} {score(consistency)} %"
        row: Row = {"name": clean(each.name), "series": kind, "tip": tip}
        return {**row, "x": points(consistency), "y": points(each.score)}


@dataclass(frozen=True)
class Front16(Front8):
    """Score against VC16."""

    name: ClassVar[str] = "front_vc16"
    title: ClassVar[str] = "Score against consistency over 16 frames"
    frames: ClassVar[int] = 16


def _names(rows: Sequence[Row], x: Spec, y: Spec, front: list[Spec]) -> list[Spec]:
    """Names of those on the front, where its line does not pass: above it, at its end below it."""
    low, high = rows[0]["x"], rows[-1]["x"]
    end = low + 0.75 * (high - low)
    layers = []
    for last, test in ((False, f"datum.x < {end}"), (True, f"datum.x >= {end}")):
        text = {"type": "text", "align": "right" if last else "left", "dx": -7 if last else 7}
        text |= {"limit": 150, "dy": 14 if last else -11}
        halo = {**text, "stroke": SURFACE, "strokeWidth": 4, "color": SURFACE, "aria": False}
        where = {"x": x, "y": y, "text": {"field": "name"}}
        kept = [*front, {"filter": test}]
        layers += [{"transform": kept, "mark": mark, "encoding": where} for mark in (halo, text)]
    return layers
