"""What each model adds to the ensemble."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from fusion.report.facts import Facts, ModelRow
from fusion.report.figures.chart import bars, clean, known, points, score, signed
from fusion.report.figures.figure import Figure
from fusion.report.figures.style import SERIES

MOST = 50


@dataclass(frozen=True)
class Contributions(Figure):
    """A bar a model: what the ensemble loses without it."""

    name: ClassVar[str] = "contributions"
    title: ClassVar[str] = "What each model adds"
    note: ClassVar[str] = (
        "Score of the ensemble minus its score without the model, weights unchanged. Below zero: "
        "the ensemble is better without it."
    )

    def shown(self, facts: Facts) -> bool:
        return len(_ranked(facts)) > 1

    def alt(self, facts: Facts) -> str:
        rows = _ranked(facts)
        harmful = sum(_adds(row) < 0 for row in rows)
        first, last = rows[0], rows[-1]
        said = f"{clean(first.name)} adds most, {signed(_adds(first))} points; "
        said += f"{clean(last.name)} least, {signed(_adds(last))}. "
        if not harmful:
            return f"{said}None of the {len(rows)} models makes the ensemble worse."
        return said + f"Without {harmful} of {len(rows)} models the ensemble would score higher."

    def spec(self, facts: Facts, width: int) -> dict[str, Any]:
        rows = [
            {"name": clean(row.name), "start": 0, "value": points(_adds(row))}
            | {"group": clean(row.group), "tip": _tip(row)}
            for row in _ranked(facts)[:MOST]
        ]
        there = {row["group"] for row in rows}
        groups = [
            name for name in dict.fromkeys(clean(m.group) for m in facts.models) if name in there
        ]
        colour: dict[str, Any] = {"value": SERIES[0]}
        if 1 < len(groups) <= len(SERIES):
            scale = {"domain": groups, "range": SERIES[: len(groups)]}
            colour = {"field": "group", "type": "nominal", "scale": scale}
            colour["legend"] = {"title": None, "symbolType": "stroke", "symbolStrokeWidth": 10}
        return bars(rows, width, f"added {facts.objective}, points", colour)


def _adds(row: ModelRow) -> float:
    return row.adds if row.adds is not None else float("nan")


def _ranked(facts: Facts) -> list[ModelRow]:
    rows = [row for row in facts.models if known(row.adds)]
    return sorted(rows, key=lambda row: -_adds(row))


def _tip(row: ModelRow) -> str:
    alone = ", ".join(f"{split} {score(value)} %" for split, value in row.scores.items())
    return f"{clean(row.name)} ({clean(row.group)}): adds {signed(_adds(row))}; alone {alone}"
