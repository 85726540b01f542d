"""What came of tuning postprocessing: the candidates, what was chosen, and what that is worth.

Scores are fractions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fusion.metrics.intervals import Gain
from fusion.postprocess import Pipeline
from fusion.search.postprocessing.outcome import CONSISTENCY, SCORE
from fusion.text import or_none, percent, table

NONE = "none"
SHOWN = 12  # rows of the front, from one end to the other; and half as many best ones


@dataclass(frozen=True)
class Row:
    """A candidate on all parts, each under what was found without it.

    gain: of the score over none; None of none itself. vc8, vc16: nan where no video is as long.
    front: whether no other is at least as high in all three and higher in one. chosen: whether
    it is what is recommended.
    """

    name: str
    pipeline: Pipeline
    score: float
    gain: Gain | None
    vc8: float
    vc16: float
    front: bool
    chosen: bool

    def to_json(self) -> dict[str, Any]:
        numbers = {name: or_none(getattr(self, name)) for name in ("score", *CONSISTENCY)}
        gain = None if self.gain is None else gain_json(self.gain)
        marks = {"front": self.front, "chosen": self.chosen}
        return {"name": self.name, **numbers, "gain": gain, **marks}


class FoldChoice(NamedTuple):
    """A fold: its parts, what was chosen without them, and the score of that, and of none."""

    parts: tuple[str, ...]
    chosen: Pipeline
    score: float
    none: float

    def to_json(self) -> dict[str, Any]:
        scores = {"score": or_none(self.score), "none": or_none(self.none)}
        return {"videos": list(self.parts), "chosen": str(self.chosen), **scores}


@dataclass(frozen=True)
class Held:
    """All parts, each under the postprocessing that was chosen without it.

    folds: in turn. score, none: of the choices, and of none. gains: by aim, of the choices over
    none, with the error that choosing adds. lossless: whether the score stays, as a choice by
    consistency has to leave it.
    """

    folds: Sequence[FoldChoice]
    score: float
    none: float
    gains: Mapping[str, Gain]
    lossless: bool

    def to_json(self) -> dict[str, Any]:
        scores = {"score": or_none(self.score), "none": or_none(self.none)}
        gains = {aim: gain_json(gain) for aim, gain in self.gains.items()}
        folds = [fold.to_json() for fold in self.folds]
        return {**scores, "gains": gains, "lossless": self.lossless, "folds": folds}


@dataclass(frozen=True)
class Tuned:
    """The outcome of tuning.

    aim: what was to rise, "score", "vc8" or "vc16". what: name of the objective. of: the contender
    that it is done to. best: what was chosen on all parts. chosen: that, where it holds out, else
    nothing; with what it takes from labels. rows: the candidates. held: None where nothing was held
    out. remarks: what else there is to know.
    """

    aim: str
    what: str
    of: str
    best: Pipeline
    chosen: Pipeline
    rows: Sequence[Row]
    held: Held | None
    remarks: Sequence[str]

    @property
    def sentence(self) -> str:
        """The verdict."""
        kept = f"{self.name} recommended"
        if self.held is None:
            return f"nothing was held out: {kept}"
        gain = self.held.gains[self.aim]
        low, high = (f"{100 * end:+.2f}" for end in gain.interval)
        what = self.what if self.aim == SCORE else self.aim.upper()
        said = f"held-out gain in {what} {100 * gain.value:+.2f}"
        said += "" if math.isnan(gain.interval[0]) else f" [{low}, {high}]"
        if self.aim != SCORE:
            said += f", in {self.what} {100 * self.held.gains[SCORE].value:+.2f},"
        said += f" over {NONE} on {len(self.held.folds)} folds"
        if self.best and not self.chosen:
            return f"{said}: {self.best} does not hold out, {kept}"
        return f"{said}: {kept}"

    @property
    def name(self) -> str:
        """Of the row that is chosen."""
        return next(row.name for row in self.rows if row.chosen)

    def lines(self, width: int | None = None) -> list[str]:
        """Everything, for people; scores in percent. width: of the table."""
        ranked = sorted(self.rows, key=lambda row: -np.nan_to_num(row.score, nan=-1.0))
        front = [row for row in ranked if row.front]
        some = np.linspace(0, len(front) - 1, min(len(front), SHOWN)).astype(int)
        shown = {id(front[place]) for place in some} | {id(row) for row in ranked[: SHOWN // 2]}
        shown |= {id(row) for row in self.rows if row.chosen or row.gain is None}
        lines = [
            (
                row.name + "*" * row.front,
                percent(row.score),
                "-" if row.gain is None else _said(row.gain),
                *(_shown(getattr(row, name)) for name in CONSISTENCY),
                "recommended" if row.chosen else "",
            )
            for row in ranked
            if id(row) in shown
        ]
        header = ("postprocessing", f"{self.what} %", "gain over none", "VC8 %", "VC16 %", "")
        more = len(self.rows) - len(lines)
        left = f"; {more} more in search.json" if more else ""
        said = [f"postprocessing of {self.of}, every part under what was found without it:", ""]
        said += [
            table(lines, header, width),
            f"(*: nothing is at least as good in all, better in one{left})",
        ]
        return [*said, *self.remarks, f"postprocessing: {self.sentence}"]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`."""
        return {
            "aim": self.aim,
            "of": self.of,
            "chosen": self.chosen.get_config(),
            "best": self.best.get_config(),
            "candidates": [row.to_json() for row in self.rows],
            "held_out": None if self.held is None else self.held.to_json(),
            "sentence": self.sentence,
            "remarks": list(self.remarks),
        }


def gain_json(gain: Gain) -> dict[str, Any]:
    """Plain values for `json.dump`."""
    ends = [or_none(end) for end in gain.interval]
    known = {"value": or_none(gain.value), "interval": ends, "error": or_none(gain.error)}
    return {**known, "distinguishable": gain.distinguishable}


def _said(gain: Gain) -> str:
    said = f"{100 * gain.value:+.2f}"
    if math.isnan(gain.interval[0]):
        return said
    low, high = (f"{100 * end:+.2f}" for end in gain.interval)
    return f"{said} [{low}, {high}]"


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else percent(value)
