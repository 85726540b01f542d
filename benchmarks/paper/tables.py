"""Rows of the tables: mIoU in percent of val and test, and gains of one row over another.

[low, high] is the 95 % interval over videos, of gains that of the paired difference. Val is where
weights, groups and soups were chosen: there they are marked "chosen", and the held-out row says
what is left on videos that did not choose.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.paper.fused import SOUP, STUDENT
from benchmarks.paper.produce import SPLITS
from fusion.metrics import Scores
from fusion.metrics.intervals import Interval
from fusion.search.held import FOUND
from fusion.search.report import Report

Paper = tuple[float | None, float | None]
UNSAID: Paper = (None, None)
HEADER = "| | val | paper's val | test | paper's test |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Line:
    """A row to print.

    over: stores whose rows it is compared with. paper: val and test in percent. longer: its gain is
    of more training alone, which others are judged by.
    """

    store: str
    label: str
    paper: Paper = UNSAID
    over: tuple[str, ...] = ()
    longer: bool = False


# numbers as printed in the paper
TABLES: dict[str, list[Line]] = {
    "Table 1, crop and OHEM": [
        Line("swin_01", "Swin, small crop", (56.13, 48.63)),
        Line("swin_02", "Swin, large crop", (56.48, 49.31), ("swin_01",)),
        Line("swin_03", "Swin, large crop, OHEM", (56.94, 49.73), ("swin_02",)),
        Line("maskformer_01", "MaskFormer", (56.52, 53.99)),
    ],
    "Table 2, weight averaging": [
        Line("swin_03", "Swin, before the averaging phase", (None, 51.75)),
        Line("swin_03_last", "Swin, last weights of the phase", UNSAID, ("swin_03",), True),
        Line("swin_03_averaged", "Swin with SWA", (None, 52.58), ("swin_03_last", "swin_03")),
        Line("swin_constant_last", "Swin, constant rate, last weights"),
        Line("swin_constant_averaged", "  the same, SWA", UNSAID, ("swin_constant_last",)),
        Line("swin_constant_ema", "  the same, EMA", UNSAID, ("swin_constant_last",)),
        Line("maskformer_01", "MaskFormer, before the averaging phase", (None, 53.36)),
        Line("maskformer_01_last", "MaskFormer, last weights of the phase"),
        Line(
            "maskformer_01_averaged",
            "MaskFormer with SWA",
            (None, 54.00),
            ("maskformer_01_last", "maskformer_01"),
        ),
    ],
    "Table 4, logit adjustment": [
        Line("swin_03", "Swin", (56.94, 49.73)),
        Line("swin_cosine", "Swin, cosine head, no prior (tau = 0)", UNSAID, ("swin_03",)),
        Line("swin_adjusted", "Swin with LA", (57.62, 49.97), ("swin_cosine", "swin_03")),
        Line("swin_prior", "Swin, own head with the prior", UNSAID, ("swin_03",)),
        Line(
            "swin_03_post_hoc", "Swin, half of the prior out after training", UNSAID, ("swin_03",)
        ),
        Line("maskformer_01", "MaskFormer", (56.52, 53.99)),
        Line("maskformer_cosine", "MaskFormer, cosine head (tau = 0)", UNSAID, ("maskformer_01",)),
        Line(
            "maskformer_adjusted",
            "MaskFormer with LA",
            (57.63, 52.79),
            ("maskformer_cosine", "maskformer_01"),
        ),
    ],
    "Table 5, self distillation": [
        Line("swin_02", "Swin", (55.40, 50.99)),
        Line("swin_longer", "Swin trained on as long, no SD", UNSAID, ("swin_02",), True),
        Line("swin_student", "Swin with SD", (56.26, 50.52), ("swin_longer", "swin_02")),
        Line("swin_student_soft", "Swin with SD, T = 4, half labels", UNSAID, ("swin_longer",)),
    ],
}
# Table 3 by the number of groups; 0 is the best single model
LADDER: list[Paper] = [(57.26, 53.99), (58.01, 55.10), (58.50, 55.16), (61.10, 55.48)]


@dataclass(frozen=True)
class Row:
    """A line of a table and its gains. scores: by split. gains: label -> the row it is over."""

    label: str
    scores: Mapping[str, Scores]
    paper: Paper = UNSAID
    gains: Mapping[str, Row] = field(default_factory=dict)

    def lines(self) -> list[list[str]]:
        cells = [self.label]
        for split, paper in zip(SPLITS, self.paper, strict=True):
            known = self.scores.get(split)
            shown = "-" if known is None else _percent(known.miou, known.interval())
            cells += [shown, "-" if paper is None else f"{paper:.2f}"]
        return [cells, *(self._gain(name, other) for name, other in self.gains.items())]

    def _gain(self, name: str, other: Row) -> list[str]:
        cells = [f"  gain over {name}"]
        for split, now, then in zip(SPLITS, self.paper, other.paper, strict=True):
            shown = "-"
            if split in self.scores and split in other.scores:
                gain = self.scores[split].gain(other.scores[split], name)
                shown = _percent(gain.value, gain.interval, sign="+")
            cells += [shown, "-" if now is None or then is None else f"{now - then:+.2f}"]
        return cells


def _percent(value: float, interval: Interval, sign: str = "") -> str:
    return f"{100 * value:{sign}.2f} [{100 * interval[0]:{sign}.2f}, {100 * interval[1]:{sign}.2f}]"


Table = list[Row]
Singles = Mapping[str, Mapping[str, Scores]]  # split -> store -> scores


def all_tables(singles: Singles, found: Report) -> dict[str, Table]:
    """Every table, in the paper's order."""
    tables = compared_tables(singles)
    tables["Table 3, hierarchical ensemble"] = ladder_table(found)
    tables["What else the same members, and the same steps, can be"] = beyond(singles, found)
    return dict(sorted(tables.items()))


def compared_tables(singles: Singles) -> dict[str, Table]:
    """Tables 1, 2, 4 and 5."""
    tables: dict[str, Table] = {}
    for title, lines in TABLES.items():
        rows: dict[str, Row] = {}
        for line in lines:
            over = {rows[name].label.strip(): rows[name] for name in line.over}
            scores = {split: singles[split][line.store] for split in SPLITS}
            rows[line.store] = Row(line.label, scores, line.paper, over)
        tables[title] = list(rows.values())
    return tables


def ladder_table(found: Report) -> Table:
    """Table 3: group after group, what folds held out, the paper's weights and equal ones."""
    rungs, papers = dict(found.rungs), iter(LADDER)
    rows, before = Table(), dict[str, Row]()
    for label, scores in rungs.items():
        reference = "weights" in label
        paper = UNSAID if reference else next(papers, UNSAID)
        row = Row(f"{label} (chosen)" if not reference else label, scores, paper, before)
        rows.append(replace(row, gains={}) if reference else row)
        if not reference:
            before = {"the row before": row}
    held = found.found.held_out
    assert held is not None
    contenders = held.contenders.items()
    known = {name: Row(f"{name}, held out", {"val": scores}) for name, scores in contenders}
    mine = known.pop(FOUND)
    rows += known.values()
    rows.append(Row("what was found, held out", mine.scores, UNSAID, known))
    return rows


def beyond(singles: Singles, found: Report) -> Table:
    """The ensemble beside one network of equal compute, a soup and a student."""
    rungs = found.rungs
    best = Row(*next(iter(rungs.items())))
    whole = Row("the hierarchical ensemble (chosen)", found.scores, UNSAID, {"best single": best})
    uniform = Row("uniform weights", rungs["uniform weights"], UNSAID, {"best single": best})
    others = {
        "the greedy soup of a family (chosen)": SOUP,
        "one Swin, as many steps as eleven": "swin_11x",
        "one Swin, taught by the hierarchical ensemble": STUDENT,
    }
    rows = [best, uniform, whole]
    for label, store in others.items():
        scores = {split: singles[split][store] for split in SPLITS}
        gains = {"best single": best, "the hierarchical ensemble": whole}
        rows.append(Row(label, scores, UNSAID, gains))
    return rows


def printed(tables: Mapping[str, Table], facts: Mapping[str, Any]) -> str:
    """The tables as Markdown."""
    given = ", ".join(f"{key} {value}" for key, value in facts.items())
    lines = [f"`python -m benchmarks.paper --size {facts['size']}`: {given}"]
    for title, rows in tables.items():
        lines += ["", f"### {title}", "", HEADER]
        cells = itertools.chain.from_iterable(row.lines() for row in rows)
        lines += ["| " + " | ".join(each) + " |" for each in cells]
    return "\n".join(lines)


def numbers(tables: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, dict[str, float]]]:
    """Table -> row, or its gain -> split -> mIoU in percent, for comparisons over seeds."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for title, rows in tables.items():
        known = found.setdefault(title, {})
        for row in rows:
            known[row.label] = {s: 100 * each.miou for s, each in row.scores.items()}
            for name, other in row.gains.items():
                both = row.scores.keys() & other.scores.keys()
                known[f"{row.label}: gain over {name}"] = {
                    s: 100 * (row.scores[s].miou - other.scores[s].miou)
                    for s in SPLITS
                    if s in both
                }
    return found
