"""Multipliers of classes, or thresholds of channels: what is decided for more often, or less."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from fusion.report.facts import Facts
from fusion.report.figures.chart import bars, clean
from fusion.report.figures.figure import Figure
from fusion.report.figures.style import FOUND, SINGLE

MOST = 30  # rows: of more classes those furthest from what changes nothing
THRESHOLD = "threshold"


@dataclass(frozen=True)
class Multipliers(Figure):
    """A bar a class, from what changes nothing: a multiplier of 1, a threshold of 0.5."""

    name: ClassVar[str] = "multipliers"
    title: ClassVar[str] = "Multiplier or threshold of each class"

    def shown(self, facts: Facts) -> bool:
        return any(value != _plain(facts) for value in facts.multipliers.values())

    def alt(self, facts: Facts) -> str:
        ranked = sorted(facts.multipliers.items(), key=lambda item: -item[1])
        raised = sum(value > _plain(facts) for _, value in ranked)
        lowered = sum(value < _plain(facts) for _, value in ranked)
        (most, high), (least, low) = ranked[0], ranked[-1]
        said = f"Of {len(ranked)} classes {raised} have a {facts.decision} above {_plain(facts):g} "
        said += f"and {lowered} below; "
        return said + f"highest {clean(most)} {high:.3g}, lowest {clean(least)} {low:.3g}."

    def caption(self, facts: Facts) -> str:
        often = "less" if facts.decision == THRESHOLD else "more"
        said = f"A class with a {facts.decision} above {_plain(facts):g} is decided for {often} "
        said += "often than its probability alone says."
        if len(facts.multipliers) <= MOST:
            return said
        return (
            f"{said} Shown are the {MOST} classes furthest from it; the table of classes has all."
        )

    def spec(self, facts: Facts, width: int) -> dict[str, Any]:
        start, linear = _plain(facts), facts.decision == THRESHOLD
        values = [(clean(name), value) for name, value in facts.multipliers.items()]
        far = abs if linear else (lambda change: abs(math.log(change + 1)))
        values = sorted(values, key=lambda item: -far(item[1] - start))[:MOST]
        rows = [
            {"name": name, "start": start, "value": value, "tip": f"{name}: {value:.3g}"}
            for name, value in sorted(values, key=lambda item: -item[1])
        ]
        colour = {"condition": {"test": f"datum.value > {start}", "value": FOUND}, "value": SINGLE}
        log = {} if linear else {"type": "log", "base": 2, "zero": False, "nice": False}
        return bars(rows, width, facts.decision, colour, **log)


def _plain(facts: Facts) -> float:
    """What changes nothing."""
    return 0.5 if facts.decision == THRESHOLD else 1
