"""Multipliers of the classes: what is decided for more often than its probability says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from fusion.report.facts import Facts
from fusion.report.figures.chart import bars, clean
from fusion.report.figures.figure import Figure
from fusion.report.figures.style import FOUND, SINGLE

MOST = 30  # rows: of more classes those furthest from 1


@dataclass(frozen=True)
class Multipliers(Figure):
    """A bar a class from 1, on a logarithmic axis."""

    name: ClassVar[str] = "multipliers"
    title: ClassVar[str] = "Multipliers per class"
    note: ClassVar[str] = (
        "A class with a multiplier above 1 is decided for more often than its probability alone "
        "says."
    )

    def shown(self, facts: Facts) -> bool:
        return any(value != 1 for value in facts.multipliers.values())

    def alt(self, facts: Facts) -> str:
        ranked = sorted(facts.multipliers.items(), key=lambda item: -item[1])
        raised = sum(value > 1 for _, value in ranked)
        lowered = sum(value < 1 for _, value in ranked)
        (most, high), (least, low) = ranked[0], ranked[-1]
        said = f"Of {len(ranked)} classes {raised} have a multiplier above 1 and {lowered} below; "
        return said + f"highest {clean(most)} {high:.3g}, lowest {clean(least)} {low:.3g}."

    def caption(self, facts: Facts) -> str:
        if len(facts.multipliers) <= MOST:
            return self.note
        rest = f"Shown are the {MOST} classes furthest from 1; the table of classes has all."
        return f"{self.note} {rest}"

    def spec(self, facts: Facts, width: int) -> dict[str, Any]:
        values = [(clean(name), value) for name, value in facts.multipliers.items()]
        values = sorted(values, key=lambda item: -abs(math.log(item[1])))[:MOST]
        rows = [
            {"name": name, "start": 1, "value": value, "tip": f"{name}: {value:.3g}"}
            for name, value in sorted(values, key=lambda item: -item[1])
        ]
        colour = {"condition": {"test": "datum.value > 1", "value": FOUND}, "value": SINGLE}
        return bars(rows, width, "multiplier", colour, type="log", base=2, zero=False, nice=False)
