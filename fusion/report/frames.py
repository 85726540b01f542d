"""Frames to look at: rows of pictures that can be enlarged, and what their colours mean."""

from __future__ import annotations

from collections.abc import Sequence

from fusion.report.facts import Facts, FrameRow
from fusion.report.figures.chart import clean, signed
from fusion.report.inline import colours_used, encoded
from fusion.report.markup import Html, join, tag

OPEN_LEGEND = 16  # classes from which the legend has to be opened


def frames(facts: Facts) -> Html | None:
    """Where the ensemble helped most and hurt most; None without frames."""
    shown = [*facts.helped, *facts.hurt]
    if not shown:
        return None
    addresses = encoded(shown)
    kinds = (
        ("Helped most", facts.helped, addresses[: len(facts.helped)]),
        ("Hurt most", facts.hurt, addresses[len(facts.helped) :]),
    )
    parts = [
        join(tag("h3", title), [_row(*pair) for pair in zip(rows, pictures, strict=True)])
        for title, rows, pictures in kinds
        if rows
    ]
    return join(_legend(facts, shown), parts)


def _row(frame: FrameRow, pictures: dict[str, str]) -> Html:
    where = f"{clean(frame.video)}, frame {clean(frame.frame)}"
    change = f"{signed(frame.gain)} points of pixel accuracy"
    tone = "gain" if frame.gain > 0 else "loss" if frame.gain < 0 else None
    title = tag("p", tag("b", where), " ", tag("span", change, class_=tone), class_="where")
    shown = [_picture(frame, name, address, where) for name, address in pictures.items()]
    return tag("div", title, tag("div", shown, class_="strip"), class_="frame")


def _picture(frame: FrameRow, name: str, address: str, where: str) -> Html:
    height, width = frame.pictures[name].shape[:2]
    crisp = "image/jpeg" not in address[:24] and name != "image"
    alt = f"{clean(name)} of {where}"
    image = tag(
        "img", src=Html(address), alt=alt, width=width, height=height, loading="lazy",
        class_="crisp" if crisp else None,
    )  # fmt: skip
    button = tag("button", image, type="button", class_="zoom", aria_label=f"Enlarge: {alt}")
    return tag("figure", button, tag("figcaption", clean(name)))


def _legend(facts: Facts, shown: Sequence[FrameRow]) -> Html | None:
    """Names of the colours that occur."""
    if facts.colours is None or not facts.classes:
        return None
    used = colours_used(shown)
    names = [row.name for row in facts.classes]
    if len(facts.colours) > len(names):
        names.append("void")
    entries = []
    for name, colour in zip(names, facts.colours, strict=False):
        red, green, blue = (int(value) for value in colour)
        if (red, green, blue) in used:
            box = tag("span", class_="swatch", style=f"background:rgb({red},{green},{blue})")
            entries.append(tag("li", box, clean(name)))
    if not entries:
        return None
    summary = tag("summary", f"Colours of {len(entries)} classes")
    listed = tag("ul", entries, class_="legend")
    return tag("details", summary, listed, open=len(entries) < OPEN_LEGEND)
