"""Which models err alike: a clustered heat map under its dendrogram."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fusion.report.facts import Facts, Similarity
from fusion.report.figures.chart import LETTER, Row, Spec, clean, is_wide
from fusion.report.figures.figure import Figure
from fusion.report.figures.style import HEAT, MUTED

TREE = 70  # pixels that the dendrogram is high


@dataclass(frozen=True)
class ModelSimilarity(Figure):
    """Shares of errors that two models have in common."""

    name: ClassVar[str] = "similarity"
    title: ClassVar[str] = "Which models err alike"
    note: ClassVar[str] = (
        "Of the pixels that either model has wrong: the share on which both give the same wrong "
        "class. Models that err alike are neighbours, and joined low in the tree; those that err "
        "differently have more to gain from each other."
    )

    def shown(self, facts: Facts) -> bool:
        return facts.similarity is not None and len(facts.similarity.models) > 1

    def alt(self, facts: Facts) -> str:
        alike = _of(facts)
        rows, columns = np.triu_indices(len(alike.models), 1)
        pairs = alike.shares[rows, columns]
        most, least = int(np.nanargmax(pairs)), int(np.nanargmin(pairs))

        def pair(at: int) -> str:
            names = (alike.models[side[at]] for side in (rows, columns))
            return f"{' and '.join(clean(name) for name in names)} ({100 * pairs[at]:.0f} %)"

        return (
            f"Two models share {100 * np.nanmean(pairs):.0f} % of their errors on average; most "
            f"alike are {pair(most)}, least alike {pair(least)}."
        )

    def spec(self, facts: Facts, width: int) -> Spec:
        alike, wide = _of(facts), is_wide(width)
        names = [clean(name) for name in alike.models]
        longest = min(170 if wide else 96, max(map(len, names)) * LETTER + 12)
        size = int(min(width - longest - 16, 30 * len(names) + 90, 560))
        legend = {
            "title": "shared errors, %",
            "gradientLength": min(size - 20, 240),
            "tickCount": 4,
        }
        legend |= {"gradientThickness": 12}
        off = alike.shares[~np.eye(len(names), dtype=bool)] * 100
        scale = {"scheme": HEAT, "domain": [float(np.nanmin(off)), float(np.nanmax(off))]}
        colour = {"field": "share", "type": "quantitative", "legend": legend}
        side: Spec = {"type": "ordinal", "scale": {"padding": 0, "domain": names}}
        left = {"title": None, "labelLimit": longest, "ticks": False, "domain": False}
        left |= {"labelFontSize": 12 if wide else 10, "labelOverlap": False}
        below = {**left, "labelAngle": -60, "labelAlign": "right"} if wide else None
        encoding = {
            "y": {"field": "one", **side, "axis": left},
            "x": {"field": "two", **side, "axis": below},
            "color": {**colour, "scale": {**scale, "clamp": True}},
            "description": {"field": "tip"},
        }
        cells = {"data": {"values": _cells(names, alike)}, "mark": "rect", "encoding": encoding}
        heat = {"width": size, "height": size, **cells}
        if alike.linkage is None or len(alike.linkage) != len(names) - 1:
            return heat
        return {"vconcat": [_tree(alike, size), heat], "spacing": 2, "bounds": "flush"}


def _of(facts: Facts) -> Similarity:
    assert facts.similarity is not None  # shown
    return facts.similarity


def _cells(names: list[str], alike: Similarity) -> list[Row]:
    """All but the diagonal, on which there is nothing to learn."""
    rows = []
    for i, one in enumerate(names):
        for j, two in enumerate(names):
            share = float(alike.shares[i, j])
            value = None if i == j or not np.isfinite(share) else round(100 * share, 2)
            tip = f"{one} and {two}: {100 * share:.0f} % of their errors"
            rows.append({"one": one, "two": two, "share": value, "tip": one if i == j else tip})
    return rows


def _tree(alike: Similarity, size: int) -> Spec:
    """The dendrogram: a bracket over every pair of clusters, as high as they are apart."""
    leaves = len(alike.models)
    assert alike.linkage is not None
    places, heights, rows = [n + 0.5 for n in range(leaves)], [0.0] * leaves, []
    for number, (one, two, height, _) in enumerate(np.asarray(alike.linkage, float)):
        ends = [(places[int(k)], heights[int(k)]) for k in (one, two)]
        corners = [ends[0], (ends[0][0], height), (ends[1][0], height), ends[1]]
        for step, (x, y) in enumerate(corners):
            rows.append({"x": float(x), "y": float(y), "bracket": number, "step": step})
        places.append((ends[0][0] + ends[1][0]) / 2)
        heights.append(float(height))
    plain = {"type": "quantitative", "axis": None}
    low = min(height for height in heights[leaves:]) * 0.9
    for row in rows:  # what no pair is below would be empty
        row["y"] = max(row["y"], low)
    encoding = {
        "x": {
            "field": "x",
            **plain,
            "scale": {"domain": [0, leaves], "nice": False, "zero": False},
        },
        "y": {"field": "y", **plain, "scale": {"zero": False, "nice": False}},
        "detail": {"field": "bracket"},
        "order": {"field": "step"},
    }
    line = {"type": "line", "color": MUTED, "strokeWidth": 1.4, "aria": False}
    return {
        "width": size,
        "height": TREE,
        "data": {"values": rows},
        "mark": line,
        "encoding": encoding,
    }
