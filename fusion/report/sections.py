"""The page's sections in their order: what they say, draw and tabulate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fusion.report import tables
from fusion.report.facts import Facts
from fusion.report.figures import FIGURES, Drawing, Figure
from fusion.report.frames import frames
from fusion.report.markup import Html, tag
from fusion.report.tables import Table

Tables = Callable[[Facts], list[Table]]
Body = Callable[[Facts], Html | None]


def _none(_: Facts) -> list[Table]:
    return []


def _nothing(_: Facts) -> None:
    return None


@dataclass(frozen=True)
class Section:
    """A part of the page; left out where its facts are empty.

    Args:
        name: its address in the page.
        title: its heading.
        figures: names of FIGURES.
        tables, body: of the facts.
    """

    name: str
    title: str
    figures: tuple[str, ...] = ()
    tables: Tables = _none
    body: Body = _nothing

    def html(self, facts: Facts, drawings: Mapping[str, Drawing]) -> Html | None:
        """None where there is nothing to show.

        Args:
            facts: of the report.
            drawings: of figures that are shown; empty where they are left out.
        """
        figures = [FIGURES[name] for name in self.figures if FIGURES[name].shown(facts)]
        shown = [_figure(each, facts, drawings.get(each.name)) for each in figures]
        shown += [each.html() for each in self.tables(facts)]
        body = self.body(facts)
        if not shown and body is None:
            return None
        heading = tag("h2", self.title, id=f"{self.name}-title")
        return tag(
            "section", heading, shown, body, id=self.name, aria_labelledby=f"{self.name}-title"
        )


def _figure(figure: Figure, facts: Facts, drawing: Drawing | None) -> Html:
    """What it says as words, and the figure under them."""
    finding = tag("p", figure.alt(facts), class_="finding")
    if drawing is None:
        return finding
    wide = tag("div", Html(drawing.wide), class_="wide")
    narrow = tag("div", Html(drawing.narrow), class_="narrow")
    note = tag("figcaption", tag("b", figure.title), f". {figure.caption(facts)}")
    return tag(
        "div",
        finding,
        tag("figure", wide, narrow, note, class_="chart", id=f"{figure.name}-figure"),
    )


SECTIONS = (
    Section("ladder", "The ladder", ("ladder",), tables.ladder),
    Section("contenders", "Held out", ("contenders", "gains"), tables.contenders),
    Section("plane", "Plane of weights", ("plane", "weight_line")),
    Section("weights", "Weights and groups", ("weights",), tables.weights),
    Section("multipliers", "Decisions", ("multipliers",), tables.multipliers),
    Section("classes", "Classes", ("class_changes", "class_rarity"), tables.classes),
    Section("models", "Models", ("contributions",), tables.models),
    Section("similarity", "Models that err alike", ("similarity",)),
    Section("videos", "Videos", ("videos",), tables.videos),
    Section("confusions", "Confusions", ("confusions",), tables.confusions),
    Section("calibration", "Calibration", ("calibration",), tables.calibration),
    Section("postprocessing", "Postprocessing", ("front_vc8", "front_vc16"), tables.front),
    Section("frames", "Frames", body=frames),
    Section("provenance", "Provenance", tables=tables.provenance),
)
