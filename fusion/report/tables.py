"""Tables that sort and filter on the page: numbers in, cells with what they sort by out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fusion.report.facts import Estimate, Facts
from fusion.report.figures.chart import clean, known, measure, with_interval
from fusion.report.markup import Html, tag, text

FILTERED = 12  # rows from which a table has a filter, and a box of its own height
LONG = 40  # letters of a cell that needs a wide column
SORTED = 3  # rows from which sorting is offered
UNKNOWN = "\u2013"


@dataclass(frozen=True)
class Cell:
    """What stands in a table.

    Args:
        text: what is shown.
        value: what a number sorts by; nan goes last. None: words, sorted as such.
        bar: share of the cell that a bar behind the number takes, 0 to 1.
        tone: "gain" or "loss" of signed numbers.
        swatch: a colour, [R, G, B], before the words.
    """

    text: str
    value: float | None = None
    bar: float | None = None
    tone: str | None = None
    swatch: tuple[int, int, int] | None = None

    def html(self, *, heads: bool = False) -> Html:
        """heads: whether it is what its row is about."""
        shown = text(self.text)
        if self.swatch is not None:
            colour = f"background:rgb{self.swatch}"
            shown = Html(tag("span", class_="swatch", style=colour) + shown)
        classes: str | None = "long" if len(self.text) > LONG else None
        if self.value is not None:
            classes = f"number {self.tone}" if self.tone else "number"
        style = None if self.bar is None else f"--bar:{100 * self.bar:.1f}%"
        sort = None if self.value is None or math.isnan(self.value) else f"{self.value:.10g}"
        if heads:
            return tag("th", shown, scope="row", class_=classes, data_v=sort)
        return tag("td", shown, class_=classes, data_v=sort, style=style)


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first column names them."""

    name: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def html(self) -> Html:
        """With buttons that sort, and a filter where it is long."""
        long = len(self.rows) >= FILTERED
        numbers = [cell.value is not None for cell in self.rows[0]]
        heads = [
            self._head(title, "number" if number else None)
            for title, number in zip(self.header, numbers, strict=True)
        ]
        lines = [
            tag("tr", row[0].html(heads=True), [cell.html() for cell in row[1:]])
            for row in self.rows
        ]
        caption = tag("caption", self.caption, class_="unseen")
        table = tag("table", caption, tag("thead", tag("tr", heads)), tag("tbody", lines))
        box = tag(
            "div", table, class_="box tall" if long else "box", tabindex="0", role="region",
            aria_label=self.caption,
        )  # fmt: skip
        return tag("div", self._filter() if long else None, box, class_="table", id=self.name)

    def _head(self, title: str, kind: str | None) -> Html:
        if len(self.rows) < SORTED:
            return tag("th", text(title), scope="col", class_=kind)
        arrow = tag("span", class_="arrow", aria_hidden="true")
        button = tag("button", text(title), arrow, type="button")
        return tag("th", button, scope="col", class_=kind, aria_sort="none")

    def _filter(self) -> Html:
        name = f"{self.name}-filter"
        label = tag("label", f"Filter {len(self.rows)} rows", for_=name)
        shown = tag("output", for_=name, class_="count")
        field = tag("input", type="search", id=name, autocomplete="off", spellcheck="false")
        return tag("div", label, field, shown, class_="filter needs-script", hidden=True)


def _name(name: str, swatch: tuple[int, int, int] | None = None) -> Cell:
    return Cell(clean(name), swatch=swatch)


def _score(value: float | None, *, bar: bool = False) -> Cell:
    if value is None or not known(value):
        return Cell(UNKNOWN, math.nan)
    return Cell(f"{100 * value:.2f}", value, min(1.0, max(0.0, value)) if bar else None)


def _change(value: float | None) -> Cell:
    if value is None or not known(value):
        return Cell(UNKNOWN, math.nan)
    shown = f"{100 * value:+.2f}".replace("-", "\u2212")
    return Cell(shown, value, tone="gain" if value > 0 else "loss" if value < 0 else None)


def _count(value: int) -> Cell:
    return Cell(f"{value:,}", value)


def _number(value: float | None) -> Cell:
    return (
        Cell(UNKNOWN, math.nan)
        if value is None or not known(value)
        else Cell(f"{value:.4g}", value)
    )


def _estimate(each: Estimate | None, *, sign: bool = False) -> Cell:
    if each is None or not known(each.value):
        return Cell(UNKNOWN, math.nan)
    return Cell(with_interval(each, sign=sign), each.value)


def _table(
    name: str, caption: str, header: Sequence[str], rows: Iterable[tuple[Cell, ...]]
) -> list[Table]:
    lines = tuple(rows)
    return [Table(name, caption, tuple(header), lines)] if lines else []


def ladder(facts: Facts) -> list[Table]:
    rows = (
        (_name(rung.name), *(_estimate(rung.scores.get(split)) for split in facts.splits))
        for rung in facts.ladder
    )
    header = ("fused", *(f"{clean(split)}, {facts.objective} %" for split in facts.splits))
    return _table("ladder-table", "Scores of the ladder", header, rows)


def contenders(facts: Facts) -> list[Table]:
    rows = (
        (
            Cell(f"{clean(c.name)} (recommended)" if c.recommended else clean(c.name)),
            *(_estimate(c.score), _estimate(c.gain, sign=True)),
        )
        for c in facts.contenders
    )
    header = ("contender", f"held out, {facts.objective} %", "gain over uniform, points")
    return _table("contenders-table", "Held-out scores and gains", header, rows)


def weights(facts: Facts) -> list[Table]:
    rows = (
        (_name(group), _number(weight), *_members(facts.groups.get(group, ())))
        for group, weight in facts.weights.items()
    )
    header = ("group", "weight", "models", "which")
    return _table("weights-table", "Weights and members of the groups", header, rows)


def _members(models: Sequence[str]) -> tuple[Cell, Cell]:
    return _count(len(models)), Cell(", ".join(clean(name) for name in models))


def multipliers(facts: Facts) -> list[Table]:
    if facts.classes and any(row.multiplier is not None for row in facts.classes):
        return []  # they are in the table of classes
    rows = ((_name(name), _number(value)) for name, value in facts.multipliers.items())
    return _table(
        "multipliers-table",
        "What is decided for more often, or less",
        ("class", facts.decision),
        rows,
    )


def classes(facts: Facts) -> list[Table]:
    held = any(known(row.held_out) for row in facts.classes)
    decided = any(row.multiplier is not None for row in facts.classes)
    rows = []
    for row, swatch in zip(facts.classes, _swatches(facts), strict=True):
        cells = [_name(row.name, swatch), _score(row.single), _score(row.uniform)]
        cells += [_score(row.found, bar=True), _change(row.found - row.single)]
        cells += [_score(row.held_out)] if held else []
        cells += [_count(row.pixels), *([_number(row.multiplier)] if decided else [])]
        rows.append(tuple(cells))
    rows.sort(key=lambda row: math.inf if math.isnan(row[4].value or 0) else -(row[4].value or 0))
    what = measure(facts.objective)
    header = ["class", "best single", "uniform", f"ensemble, {what} %", "change"]
    header += [f"held out, {clean(facts.splits[0])}"] if held else []
    header += ["pixels", *([facts.decision] if decided else [])]
    caption = f"{what} of every class, the largest change first"
    return _table("classes-table", caption, header, rows)


def _swatches(facts: Facts) -> list[tuple[int, int, int] | None]:
    """Colours of the classes, where they have some."""
    if facts.colours is None or len(facts.colours) < len(facts.classes):
        return [None] * len(facts.classes)
    colours = facts.colours[: len(facts.classes)].tolist()
    return [(red, green, blue) for red, green, blue in colours]


def models(facts: Facts) -> list[Table]:
    adds = any(row.adds is not None for row in facts.models)
    rows = (
        (_name(row.name), _name(row.group), _number(row.weight))
        + tuple(_score(row.scores.get(split), bar=True) for split in facts.splits)
        + ((_change(row.adds),) if adds else ())
        for row in facts.models
    )
    alone = [f"alone on {clean(split)}, %" for split in facts.splits]
    header = ("model", "group", "weight", *alone, *(["adds, points"] if adds else []))
    return _table("models-table", "Models, their weights and scores", header, rows)


def _both(single: float, found: float) -> tuple[Cell, Cell, Cell]:
    return _score(single), _score(found, bar=True), _change(found - single)


def videos(facts: Facts) -> list[Table]:
    rows = (
        (_name(row.name), _name(row.split), _count(row.frames), *_both(row.single, row.found))
        for row in facts.videos
    )
    header = ("video", "split", "frames", "best single, %", "ensemble, %", "change")
    return _table("videos-table", f"{facts.objective} of every video", header, rows)


def confusions(facts: Facts) -> list[Table]:
    rows = (
        (_name(pair.truth), _name(pair.predicted), *_pixels(pair.single, pair.found))
        for pair in facts.confusions
    )
    header = ("truth", "given", "best single, pixels", "ensemble, pixels", "change")
    return _table("confusions-table", "Confusions that changed most", header, rows)


def _pixels(single: int, found: int) -> tuple[Cell, Cell, Cell]:
    change = found - single
    tone = "gain" if change < 0 else "loss" if change > 0 else None
    shown = f"{change:+,}".replace("-", "\u2212")
    return _count(single), _count(found), Cell(shown, change, tone=tone)


def calibration(facts: Facts) -> list[Table]:
    rows = ((_name(curve.name), _score(curve.ece)) for curve in facts.calibration)
    header = ("of", "calibration error, %")
    return _table("calibration-table", "Calibration errors", header, rows)


def front(facts: Facts) -> list[Table]:
    def kind(chosen: bool, on_front: bool) -> Cell:
        return Cell("chosen" if chosen else "on the front" if on_front else "beaten")

    rows = (
        (_name(p.name), _score(p.score), _score(p.vc8), _score(p.vc16), kind(p.chosen, p.on_front))
        for p in facts.front
    )
    header = ("candidate", f"held out, {facts.objective} %", "VC8, %", "VC16, %", "is")
    return _table("front-table", "Postprocessing candidates", header, rows)


def provenance(facts: Facts) -> list[Table]:
    rows = ((_name(name), Cell(str(value))) for name, value in facts.provenance)
    return _table("provenance-table", "Where these numbers come from", ("what", "value"), rows)
