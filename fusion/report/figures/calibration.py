"""Whether probabilities mean what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fusion.report.facts import Curve, Facts
from fusion.report.figures.chart import (
    Row,
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
)
from fusion.report.figures.figure import Figure


@dataclass(frozen=True)
class CalibrationCurves(Figure):
    """Accuracy over confidence, a line a split."""

    name: ClassVar[str] = "calibration"
    title: ClassVar[str] = "Accuracy at each confidence"
    note: ClassVar[str] = (
        "On the dashed line probabilities mean what they say; below it the ensemble is too sure. "
        "Larger points stand for more pixels."
    )

    def shown(self, facts: Facts) -> bool:
        return any(_bins(curve).any() for curve in facts.calibration)

    def alt(self, facts: Facts) -> str:
        said = []
        for curve in facts.calibration:
            bins = _bins(curve)
            if bins.any():
                over = _overconfidence(curve, bins)
                lean = "too sure" if over > 0 else "not sure enough"
                lean = (
                    "neither too sure nor too unsure"
                    if abs(over) < 0.0005
                    else f"{lean} by {score(abs(over))} points on average"
                )
                error = (
                    f"expected calibration error {score(curve.ece)} %, " if known(curve.ece) else ""
                )
                said.append(f"{clean(curve.name)}: {error}{lean}")
        return f"{'; '.join(said)}."

    def spec(self, facts: Facts, width: int) -> Spec:
        rows = [row for curve in facts.calibration for row in _rows(curve)]
        names = list(dict.fromkeys(row["series"] for row in rows))
        looks = series_of(names, width)
        whole = {"scale": {"domain": [0, 100], "nice": False}}
        where = {
            "x": quantity("confidence", "mean confidence, %", **whole),
            "y": quantity("accuracy", "accuracy, %", **whole),
            "color": looks["color"],
        }
        area = {"type": "sqrt", "range": [30, 350], "zero": True}
        size = {"field": "share", "type": "quantitative", "legend": None, "scale": area}
        dot = {"type": "point", "filled": True, "opacity": 0.9}
        marks = {**where, "shape": looks["shape"], "size": size, "description": {"field": "tip"}}
        layers: list[Spec] = [
            diagonal(0, 100),
            {"mark": {"type": "line", "strokeWidth": 2, "aria": False}, "encoding": where},
            {"mark": dot, "encoding": marks},
        ]
        return chart(width, 420 if is_wide(width) else 280, rows, layers)


def _bins(curve: Curve) -> Any:
    """Which bins have pixels."""
    filled = np.isfinite(curve.confidence) & np.isfinite(curve.accuracy)
    return filled & (np.nan_to_num(curve.share) > 0)


def _overconfidence(curve: Curve, bins: Any) -> float:
    share = curve.share[bins] / curve.share[bins].sum()
    return float((share * (curve.confidence - curve.accuracy)[bins]).sum())


def _rows(curve: Curve) -> list[Row]:
    name, rows = clean(curve.name), []
    for n in np.flatnonzero(_bins(curve)):
        confidence, accuracy, share = curve.confidence[n], curve.accuracy[n], curve.share[n]
        tip = f"{name}: {score(confidence)} % sure, {score(accuracy)} % right, "
        tip += f"{score(share)} % of pixels"
        row = {"confidence": points(confidence), "accuracy": points(accuracy)}
        rows.append({**row, "share": points(share), "series": name, "tip": tip})
    return rows
