"""What every class gained, and whether it is rare classes that did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from fusion.report.facts import ClassRow, Facts
from fusion.report.figures.chart import (
    Row,
    Spec,
    apart,
    chart,
    clean,
    dumbbells,
    is_wide,
    known,
    measure,
    points,
    quantity,
    score,
    signed,
    whose,
)
from fusion.report.figures.figure import Figure
from fusion.report.figures.style import FOUND, MUTED, SINGLE, SURFACE

MOST = 32  # rows: of more classes those that gained and lost most
HEIGHT = 320
NAMED = 4  # classes at either end whose names stand in the scatter


def scored(facts: Facts) -> list[ClassRow]:
    """Classes whose change is known, the largest gain first."""
    rows = [row for row in facts.classes if known(row.single) and known(row.found)]
    return sorted(rows, key=lambda row: row.single - row.found)


@dataclass(frozen=True)
class ClassChanges(Figure):
    """From the best single model to the ensemble, a row a class."""

    name: ClassVar[str] = "class_changes"
    title: ClassVar[str] = "Classes, best single model to ensemble"
    note: ClassVar[str] = "The largest gain first."

    def shown(self, facts: Facts) -> bool:
        return bool(scored(facts))

    def alt(self, facts: Facts) -> str:
        rows, what = scored(facts), measure(facts.objective)
        gained = sum(row.found > row.single for row in rows)
        lost = sum(row.found < row.single for row in rows)
        said = f"Against the best single model {gained} of {len(rows)} classes gain {what} on "
        said += f"{clean(facts.splits[-1])} and {lost} lose; {_change('largest gain', rows[0])}"
        return said + (f"; {_change('smallest', rows[-1])}." if len(rows) > 1 else ".")

    def caption(self, facts: Facts) -> str:
        if len(scored(facts)) <= MOST:
            return f"{self.note} {whose(facts)}"
        half = MOST // 2
        shown = f"Shown are the {half} best and the {half} worst; the table has all."
        return f"{self.note} {shown} {whose(facts)}"

    def spec(self, facts: Facts, width: int) -> dict[str, Any]:
        rows = scored(facts)
        if len(rows) > MOST:
            rows = [*rows[: MOST // 2], *rows[-MOST // 2 :]]
        shown = [
            {"before": points(r.single), "after": points(r.found), "name": clean(r.name)}
            | {"tip": _tip(r)}
            for r in rows
        ]
        return dumbbells(
            shown, width, f"{measure(facts.objective)}, %", ("best single model", "ensemble")
        )


@dataclass(frozen=True)
class ClassRarity(Figure):
    """Change of every class over its labelled pixels."""

    name: ClassVar[str] = "class_rarity"
    title: ClassVar[str] = "Change of every class by its size"
    note: ClassVar[str] = (
        "Every point is a class; to the left are rare ones. Above the dashed line the ensemble is "
        "better than the best single model."
    )

    def shown(self, facts: Facts) -> bool:
        return len([row for row in scored(facts) if row.pixels > 0]) > 2

    def alt(self, facts: Facts) -> str:
        rows = sorted((r for r in scored(facts) if r.pixels > 0), key=lambda row: row.pixels)
        half = len(rows) // 2
        rare, common = (
            _mean([r.found - r.single for r in part]) for part in (rows[:half], rows[half:])
        )
        return (
            f"The {half} rarest classes change by {signed(rare)} points on average, the "
            f"{len(rows) - half} commonest by {signed(common)}; sizes go from {rows[0].pixels:,} "
            f"({clean(rows[0].name)}) to {rows[-1].pixels:,} pixels ({clean(rows[-1].name)})."
        )

    def spec(self, facts: Facts, width: int) -> dict[str, Any]:
        found = [row for row in scored(facts) if row.pixels > 0]
        rows = [
            {"pixels": row.pixels, "change": points(row.found - row.single), "tip": _tip(row)}
            for row in found
        ]
        log = {"type": "log", "zero": False, "nice": False, "padding": 16}
        axis = {"grid": False, "format": "~s", "tickCount": 6 if is_wide(width) else 4}
        x = quantity("pixels", "labelled pixels", axis=axis, scale=log)
        y = quantity(
            "change", f"change of {measure(facts.objective)}, points", scale={"padding": 14}
        )
        sign = {"condition": {"test": "datum.change >= 0", "value": FOUND}, "value": SINGLE}
        dot = {"type": "point", "filled": True, "opacity": 0.85, "size": 55}
        zero = {"type": "rule", "color": MUTED, "strokeDash": [4, 3]}
        where = {"x": x, "y": y, "description": {"field": "tip"}}
        shape = {"condition": {"test": "datum.change >= 0", "value": "circle"}, "value": "diamond"}
        layers: list[dict[str, Any]] = [
            {"data": {"values": [{}]}, "mark": zero, "encoding": {"y": {"datum": 0}}},
            {"mark": dot, "encoding": {**where, "color": sign, "shape": shape}},
        ]
        layers += _named(found, x, y, width)
        return chart(width, HEIGHT, rows, layers)


def _named(found: Sequence[ClassRow], x: Spec, y: Spec, width: int) -> list[Spec]:
    """Names of the most extreme classes, on the side where there is room."""
    ends = [*found[:NAMED], *(row for row in found[-NAMED:] if row not in found[:NAMED])]
    named: list[Row] = [
        {"pixels": r.pixels, "change": points(r.found - r.single), "name": clean(r.name)}
        for r in ends
    ]
    middle = sorted(row.pixels for row in found)[len(found) // 2]
    shown = apart(named, "pixels", "change", (width - 60, HEIGHT), log=True)
    layers: list[Spec] = []
    for left in (False, True):
        rows = [row for row in shown if (row["pixels"] > middle) == left]
        text = {"type": "text", "align": "right" if left else "left", "dx": -8 if left else 8}
        text |= {"fontSize": 11, "limit": 140}
        halo = {**text, "stroke": SURFACE, "strokeWidth": 4, "color": SURFACE, "aria": False}
        where = {"x": x, "y": y, "text": {"field": "name"}}
        layers += [
            {"data": {"values": rows}, "mark": mark, "encoding": where} for mark in (halo, text)
        ]
    return layers


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _change(what: str, row: ClassRow) -> str:
    change = signed(row.found - row.single)
    return f"{what} {clean(row.name)} {change} ({score(row.single)} to {score(row.found)} %)"


def _tip(row: ClassRow) -> str:
    change = signed(row.found - row.single)
    scores = f"{score(row.single)} to {score(row.found)} % ({change})"
    return f"{clean(row.name)}: {scores}, {row.pixels:,} pixels"
