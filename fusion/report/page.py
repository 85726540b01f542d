"""The report as files: one page that needs nothing beside it, and its figures."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from fusion.files import write_bytes
from fusion.report.facts import Estimate, Facts
from fusion.report.figures import FIGURES, Drawing, draw
from fusion.report.figures.chart import clean, known, score, with_interval
from fusion.report.figures.style import TOKENS
from fusion.report.markup import Html, join, tag
from fusion.report.sections import SECTIONS

FEW = 4  # remarks that stand open
MARKER = "<!-- segfusion report -->"


def write_page(facts: Facts, out: Path, *, figures: bool = True) -> list[Path]:
    """Writes out/report.html, and out/figures/<name>.svg and .png of every figure that is shown.

    Args:
        facts: what is shown; what is empty is left out, together with its section.
        out: a folder, made where there is none; files of these names are replaced.
        figures: False for words and tables alone, which need no package to draw.

    Returns:
        The files, the page first.

    Raises:
        InputError: vl-convert is not installed.
        StoreError: the disk refuses.
    """
    shown = {name: each for name, each in FIGURES.items() if figures and each.shown(facts)}
    drawings = {name: draw(each, facts) for name, each in shown.items()}
    files = {out / "report.html": page(facts, drawings).encode()}
    for name, drawing in drawings.items():
        files[out / "figures" / f"{name}.svg"] = drawing.svg.encode()
        files[out / "figures" / f"{name}.png"] = drawing.png
    for path, content in files.items():
        write_bytes(path, content)
    return list(files)


def page(facts: Facts, drawings: Mapping[str, Drawing]) -> str:
    """The page as HTML.

    Args:
        facts: what is shown.
        drawings: by name of the figure; what is not among them stays words.
    """
    made = [(section, section.html(facts, drawings)) for section in SECTIONS]
    there = [(section, html) for section, html in made if html is not None]
    links = [tag("li", tag("a", section.title, href=f"#{section.name}")) for section, _ in there]
    first = tag("li", tag("a", "Verdict", href="#verdict"))
    parts = {
        "MARKER": MARKER,
        "TITLE": tag("title", f"{clean(facts.title)}: segfusion report"),
        "STYLE": _themes() + _static("page.css"),
        "SCRIPT": _static("page.js"),
        "CONTENTS": join(first, links),
        "VERDICT": _verdict(facts),
        "SECTIONS": join(html for _, html in there),
    }
    made_of = _static("page.html").split("@@")  # text, name, text, name, ... text
    return "".join(parts[part] if n % 2 else part for n, part in enumerate(made_of))


def _verdict(facts: Facts) -> Html:
    """The sentence first, then what it rests on."""
    uniform = next((c for c in facts.contenders if c.recommended and c.gain is not None), None)
    tiles = [
        _tile("score", facts.score, f"{facts.objective}, %, on {clean(facts.splits[0])}"),
        _tile("expected on new videos", facts.expected, f"{facts.objective}, %, 95 % interval"),
    ]
    if uniform is not None:
        tiles.append(_tile("held-out gain", uniform.gain, "points over uniform weights", sign=True))
    if facts.best:
        name = tag("dd", clean(facts.best), class_="named")
        tiles.append(tag("div", tag("dt", "best single model"), name))
    return tag(
        "section",
        tag("p", "segfusion report", class_="kicker"),
        tag("h1", clean(facts.title)),
        tag("p", facts.verdict, class_="verdict"),
        tag("dl", tiles, class_="tiles") if any(tiles) else None,
        _remarks(facts),
        id="verdict",
    )


def _remarks(facts: Facts) -> Html | None:
    """What else is to be known; many have to be opened, lest nobody sees the first picture."""
    if not facts.remarks:
        return None
    listed = tag("ul", [tag("li", remark) for remark in facts.remarks], class_="remarks")
    if len(facts.remarks) <= FEW:
        return listed
    summary = tag("summary", f"{len(facts.remarks)} remarks on these numbers")
    return tag("details", summary, listed, class_="more")


def _tile(what: str, each: Estimate | None, unit: str, *, sign: bool = False) -> Html | None:
    if each is None or not known(each.value):
        return None
    value, _, interval = with_interval(each, sign=sign).partition(" ")
    if what.startswith("expected") and interval:  # the interval is what is expected
        value, interval = f"{score(each.low)} to {score(each.high)}", ""
    shown = [tag("span", value, class_="value"), tag("span", interval, class_="interval")]
    return tag("div", tag("dt", what), tag("dd", shown, tag("span", unit, class_="unit")))


def _themes() -> str:
    """The colours as variables: by the system's theme, or as the reader chose."""
    light, dark = (
        "".join(f"--{name}:{pair[side]};" for name, pair in TOKENS.items()) for side in (0, 1)
    )
    return (
        f":root{{color-scheme:light;{light}}}\n"
        f"@media(prefers-color-scheme:dark){{:root:not([data-theme=light])"
        f"{{color-scheme:dark;{dark}}}}}\n"
        f":root[data-theme=dark]{{color-scheme:dark;{dark}}}\n"
    )


def _static(name: str) -> str:
    return resources.files("fusion.report").joinpath("static", name).read_text("utf-8")
