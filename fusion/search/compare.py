"""All methods on the same nested folds, side by side: which search is worth its time.

Each method chooses everything again inside each fold, as it would on its own; the folds, units and
contenders are the same for all, so differences are paired.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fusion.errors import InputError
from fusion.metrics import Scores
from fusion.search.held import GROUP, SINGLE, UNIFORM, WEIGHTS
from fusion.search.method import Method
from fusion.search.result import SearchResult, rank
from fusion.search.run import Run
from fusion.terminal import WIDTH
from fusion.text import or_none, percent, table

PLAIN = (UNIFORM, SINGLE, GROUP)  # need no search


@dataclass(frozen=True)
class Row:
    """One line of the comparison.

    val: the score on the videos that were searched, nan for what was not searched. held_out: of all
    videos, each under what was chosen without it. seconds: of the search and its folds.
    """

    name: str
    val: float
    held_out: Scores
    seconds: float
    result: SearchResult | None


@dataclass(frozen=True)
class Comparison:
    """Methods in the order in which they ran; the simplest first."""

    rows: Sequence[Row]
    units: Mapping[str, str]

    @cached_property
    def recommended(self) -> Row:
        """The first row within one standard error of the best held-out score, paired."""
        best = max(self.rows, key=lambda row: rank(row.held_out.score))
        for row in self.rows:
            gain = best.held_out.gain(row.held_out, row.name, units=self.units)
            if row is best or not gain.beyond_standard_error:
                return row
        return best

    def text(self) -> str:
        """The table, scores in percent."""
        lines = []
        for row in self.rows:
            low, high = row.held_out.interval(units=self.units)
            ends = "-" if math.isnan(low) else f"{percent(low)} to {percent(high)}"
            val = "-" if math.isnan(row.val) else percent(row.val)
            seconds = "-" if row.result is None else f"{row.seconds:.0f}"
            mark = "recommended" if row is self.recommended else ""
            lines.append((row.name, val, percent(row.held_out.score), ends, seconds, mark))
        header = ("method", "val", "held out", "95 % interval", "seconds", "")
        return table(lines, header, WIDTH)

    def to_json(self) -> list[dict[str, Any]]:
        """The rows, scores as fractions."""
        return [
            {
                "method": row.name,
                "val": or_none(row.val),
                "held_out": or_none(row.held_out.score),
                "interval": [or_none(end) for end in row.held_out.interval(units=self.units)],
                "seconds": row.seconds,
                "recommended": row is self.recommended,
                "result": None if row.result is None else row.result.to_json(),
            }
            for row in self.rows
        ]


def compare(run: Run, methods: Sequence[Method], over: str | None = None) -> Comparison:
    """Every method on one run; InputError where its folds hold nothing out.

    Args:
        run: the split; its `reach` gives every method a second row, with multipliers.
        methods: in the order of the rows.
        over: what gets weights; each method's own default if None.
    """
    rows: list[Row] = []
    runs: dict[tuple[str, bool], Run] = {}
    for method, what in pairs(methods, over):
        mine = runs.setdefault((what, method.trains), run.over(what))
        began = time.monotonic()
        found = mine.search(method)
        seconds = time.monotonic() - began
        if found.held_out is None:
            raise InputError("compare: nothing is held out; give --folds of at least 2")
        contenders = found.held_out.contenders
        known = {row.name for row in rows}
        rows += [
            Row(name, math.nan, contenders[name], 0.0, None)
            for name in PLAIN
            if name in contenders and name not in known
        ]
        title = method.name if what == "groups" else f"{method.name} over {what}"
        for name, rung in found.rungs.items():
            held = contenders[name]
            rows.append(Row(f"{name} over {what}", rung.miou, held, seconds, rung))
        if found.rungs:
            continue
        if WEIGHTS in contenders:
            plain = max(rank(t.miou) for t in found.history if t.multipliers is None)
            rows.append(Row(title, plain, contenders[WEIGHTS], seconds, found))
            title += " + multipliers"
        rows.append(Row(title, found.miou, found.held_out.scores, seconds, found))
    # multipliers make a choice less simple, whatever the method, and heads more so
    ordered = sorted(rows, key=complexity)
    return Comparison(ordered, run.unit_of)


def pairs(methods: Sequence[Method], over: str | None) -> list[tuple[Method, str]]:
    """What is compared: every method over what it is for, and heads over groups as well."""
    plain = [method for method in methods if not method.goes_beyond]
    if over is not None:
        return [(method, over) for method in plain]
    groups = [(method, "groups") for method in plain if method.trains and method.over != "groups"]
    return [*((method, method.over) for method in plain), *groups]


def complexity(row: Row) -> int:
    """How many numbers were chosen, roughly: weights, multipliers, parameters of heads."""
    if row.result is not None and row.result.head is not None:
        return row.result.head.parameters
    return int("multipliers" in row.name)
