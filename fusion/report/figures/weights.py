"""Weights of the groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from fusion.report.facts import Facts
from fusion.report.figures.chart import bars, clean
from fusion.report.figures.figure import Figure
from fusion.report.figures.style import FOUND

MOST = 40


@dataclass(frozen=True)
class Weights(Figure):
    """A bar a group, the heaviest first where there are many."""

    name: ClassVar[str] = "weights"
    title: ClassVar[str] = "Weights of the groups"
    note: ClassVar[str] = "A group's weight is shared equally by its models. Zero: left out."

    def shown(self, facts: Facts) -> bool:
        return len(facts.weights) > 1

    def alt(self, facts: Facts) -> str:
        ranked = sorted(facts.weights.items(), key=lambda item: -item[1])
        shown = ", ".join(f"{clean(name)} {weight:.3g}" for name, weight in ranked[:6])
        more = f" and {len(ranked) - 6} lighter ones" if len(ranked) > 6 else ""
        idle = sum(weight == 0 for weight in facts.weights.values())
        left = f" {idle} of {len(ranked)} groups have no weight." if idle else ""
        return f"Weights: {shown}{more}.{left}"

    def spec(self, facts: Facts, width: int) -> dict[str, Any]:
        pairs = list(facts.weights.items())
        if len(pairs) > 6:
            pairs = sorted(pairs, key=lambda pair: -pair[1])[:MOST]
        names = [clean(name) for name, _ in pairs]
        rows = [
            {"name": name, "start": 0, "value": float(weight), "tip": f"{name}: {weight:.4g}"}
            for name, (_, weight) in zip(names, pairs, strict=True)
        ]
        return bars(rows, width, "weight", {"value": FOUND})
