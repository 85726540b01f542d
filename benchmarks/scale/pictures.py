"""Growth as pictures: points and their lines, by the package of the report's figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.scale.growth import Fit
from fusion.errors import InputError
from fusion.files import write_bytes


def draw(fits: Sequence[Fit], folder: Path) -> None:
    """<folder>/<axis>.svg of each; InputError where vl-convert is not installed."""
    try:
        import vl_convert
    except ImportError as error:
        do = "pip install 'segfusion[plot]', or leave --pictures out"
        raise InputError(f"pictures need vl-convert-python, which is not here; {do}") from error
    for fit in fits:
        svg = vl_convert.vegalite_to_svg(spec(fit), vl_version="6.1")
        write_bytes(folder / f"{fit.axis}.svg", svg.encode())


def spec(fit: Fit) -> dict[str, object]:
    """Seconds over n, both axes from 0, so that what is linear looks it."""
    (a, b), last = fit.line, fit.amounts[-1]
    columns = zip(fit.amounts, fit.seconds, fit.low, fit.high, strict=True)
    points = [dict(zip(("n", "s", "low", "high"), row, strict=True)) for row in columns]
    x = {"field": "n", "type": "quantitative", "title": fit.axis}
    y = {"field": "s", "type": "quantitative", "title": "seconds"}
    ends = [{"n": n, "s": a + b * n} for n in (0, last)]
    spread = {"x": x, "y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}}
    return {
        "data": {"values": points},
        "layer": [
            {"data": {"values": ends}, "mark": "line", "encoding": {"x": x, "y": y}},
            {"mark": "rule", "encoding": spread},
            {"mark": {"type": "point", "filled": True}, "encoding": {"x": x, "y": y}},
        ],
    }
