"""Tables of benchmarks/README.md as values: figures of real networks are measured once, there."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).parents[2] / "benchmarks" / "README.md"
METHODS = "| method | val | held out, clips | interval |"
SPANS = "| sample | score held (95) |"


class Method(NamedTuple):
    """Percent mIoU; val is None where nothing was chosen on it."""

    name: str
    val: float | None
    held: float
    low: float
    high: float


def points(percent: float) -> str:
    """With one decimal, halves away from zero, as people round what has two."""
    return str(Decimal(str(percent)).quantize(Decimal("0.1"), ROUND_HALF_UP))


def rows(head: str) -> list[list[str]]:
    """Cells of the one table whose head begins so."""
    lines = README.read_text(encoding="utf-8").splitlines()
    (first,) = (n for n, line in enumerate(lines) if line.startswith(head))
    found = []
    for line in lines[first + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def methods() -> list[Method]:
    """22 networks on CamVid, folds of clips."""
    found = []
    for name, val, held, interval, *_ in rows(METHODS):
        low, high = map(float, interval.split(" to "))
        found.append(
            Method(name.replace("`", ""), float(val) if val else None, float(held), low, high)
        )
    return found


def coverage() -> dict[int, tuple[float, float]]:
    """Videos -> how often the percentile bootstrap's and the jackknife's 95 % interval held."""
    found = {}
    for sample, held, *_ in rows(SPANS):
        facts = re.fullmatch(r"(\d+) videos in (\d+) units, 4 rare classes", sample)
        if facts and facts[1] == facts[2]:
            percentile, _, _, jackknife = map(float, held.split(" / "))
            found[int(facts[1])] = (percentile, jackknife)
    return found
