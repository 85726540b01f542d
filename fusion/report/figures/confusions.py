"""Classes that are taken for others: what fusion changed most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from fusion.report.facts import ConfusionPair, Facts
from fusion.report.figures.chart import clean, dumbbells
from fusion.report.figures.figure import Figure

MOST = 24


@dataclass(frozen=True)
class Confusions(Figure):
    """From the pixels of the best single model to those of the ensemble, a row a pair."""

    name: ClassVar[str] = "confusions"
    title: ClassVar[str] = "Confusions that changed most"
    note: ClassVar[str] = "Pixels of the first class that are given the second: fewer are better."

    def shown(self, facts: Facts) -> bool:
        return bool(facts.confusions)

    def alt(self, facts: Facts) -> str:
        pairs = sorted(facts.confusions, key=lambda pair: pair.found - pair.single)
        fewer = sum(pair.found < pair.single for pair in pairs)
        more = sum(pair.found > pair.single for pair in pairs)
        said = f"Of the {len(pairs)} pairs that changed most {fewer} are confused less often on "
        said += f"{clean(facts.splits[-1])} than by the best single model and {more} more often. "
        said += f"Most pixels were mended of {_change(pairs[0])}" if fewer else ""
        joint = "; " if fewer and more else ""
        return said + joint + (f"most were broken of {_change(pairs[-1])}" if more else "") + "."

    def spec(self, facts: Facts, width: int) -> dict[str, Any]:
        pairs = sorted(facts.confusions, key=lambda pair: -abs(pair.found - pair.single))[:MOST]
        rows = [
            {"name": _name(pair), "before": pair.single, "after": pair.found, "tip": _change(pair)}
            for pair in sorted(pairs, key=lambda pair: pair.found - pair.single)
        ]
        return dumbbells(rows, width, "pixels", ("best single model", "ensemble"), zero=True)


def _name(pair: ConfusionPair) -> str:
    return f"{clean(pair.truth)} \u2192 {clean(pair.predicted)}"


def _change(pair: ConfusionPair) -> str:
    what = f"{clean(pair.truth)} given {clean(pair.predicted)}"
    return f"{what} ({pair.single:,} to {pair.found:,})"
