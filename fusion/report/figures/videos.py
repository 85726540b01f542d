"""Scores of every video: single against fused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fusion.report.facts import Facts, VideoRow
from fusion.report.figures.chart import (
    Spec,
    chart,
    clean,
    diagonal,
    is_wide,
    known,
    points,
    quantity,
    score,
    series_of,
    signed,
)
from fusion.report.figures.figure import Figure


@dataclass(frozen=True)
class Videos(Figure):
    """A point a video."""

    name: ClassVar[str] = "videos"
    title: ClassVar[str] = "Videos, best single model against ensemble"
    note: ClassVar[str] = "Every point is a video; above the dashed line the ensemble is better."

    def shown(self, facts: Facts) -> bool:
        return len(_scored(facts)) > 1

    def alt(self, facts: Facts) -> str:
        rows = _scored(facts)
        better = sum(row.found > row.single for row in rows)
        ranked = sorted(rows, key=lambda row: row.found - row.single)
        mean = sum(row.found - row.single for row in rows) / len(rows)
        return (
            f"The ensemble is better than the best single model on {better} of {len(rows)} videos, "
            f"by {signed(mean)} points on average; most on {_change(ranked[-1])}, least on "
            f"{_change(ranked[0])}."
        )

    def spec(self, facts: Facts, width: int) -> Spec:
        rows = _scored(facts)
        shown = [
            {
                "single": points(r.single),
                "found": points(r.found),
                "series": r.split,
                "tip": _tip(r),
            }
            for r in rows
        ]
        ends = [points(value) or 0 for r in rows for value in (r.single, r.found)]
        low, high = max(0, min(ends) - 2), min(100, max(ends) + 2)
        same = {"scale": {"domain": [low, high], "nice": False}}
        splits = [s for s in facts.splits if any(r.split == s for r in rows)]
        looks = series_of(splits, width)
        what = facts.objective
        encoding = {
            "x": quantity("single", f"best single model, {what}, %", **same),
            "y": quantity("found", f"ensemble, {what}, %", **same),
            **looks,
            "description": {"field": "tip"},
        }
        dot = {"type": "point", "filled": True, "opacity": 0.8, "size": 65}
        layers = [diagonal(low, high), {"mark": dot, "encoding": encoding}]
        return chart(width, 460 if is_wide(width) else 290, shown, layers)


def _scored(facts: Facts) -> list[VideoRow]:
    return [row for row in facts.videos if known(row.single) and known(row.found)]


def _change(row: VideoRow) -> str:
    return f"{clean(row.name)} ({signed(row.found - row.single)})"


def _tip(row: VideoRow) -> str:
    change = f"{score(row.single)} to {score(row.found)} % ({signed(row.found - row.single)})"
    return f"{clean(row.name)} ({clean(row.split)}, {row.frames} frames): {change}"
