"""What every figure of the report keeps; a figure's tests inherit it and name the figure."""

from __future__ import annotations

import io
import re
from functools import cache
from typing import ClassVar
from xml.etree import ElementTree

import altair
import pytest
from PIL import Image

from fusion.report.facts import Facts
from fusion.report.figures import FIGURES, Drawing, draw
from fusion.report.figures.style import CONFIG, NARROW, TOKENS, WIDE
from tests.report.example import NASTY, full, hostile

SVG = "{http://www.w3.org/2000/svg}"
NOTHING = Facts("nothing", "nothing is known", "mIoU")
WRONG = re.compile(r"\b(nan|undefined|null|infinity)\b", re.IGNORECASE)


class FigureContract:
    """name: the figure's. numbers: what its alt text has to say, worked out from the facts."""

    name: ClassVar[str]

    def numbers(self, facts: Facts) -> list[str]:
        raise NotImplementedError

    @property
    def figure(self):
        return FIGURES[self.name]

    def example(self) -> Facts:
        return full()

    def nasty(self) -> Facts:
        return hostile()

    @pytest.fixture
    def facts(self):
        return self.example()

    @pytest.fixture
    def drawing(self):
        return self.drawn()

    @classmethod
    @cache
    def drawn(cls) -> Drawing:
        return draw(FIGURES[cls.name], cls().example())

    def test_it_is_left_out_where_nothing_is_known(self):
        assert not self.figure.shown(NOTHING)

    def test_its_words_say_what_the_facts_say(self, facts):
        alt = self.figure.alt(facts)
        missing = [number for number in self.numbers(facts) if number not in alt]
        assert not missing, f"{missing} not in {alt!r}"
        assert not WRONG.search(alt)
        assert alt.endswith(".")

    @pytest.mark.parametrize("width", [WIDE, NARROW])
    def test_its_spec_is_vega_lite(self, facts, width):
        """Vega-Lite ignores properties that it does not know; its schema does not."""
        altair.Chart.from_dict({**self.figure.spec(facts, width), "config": CONFIG})

    def test_its_files_can_be_read(self, drawing):
        root = ElementTree.fromstring(drawing.svg)
        assert root.tag == f"{SVG}svg"
        assert root.get("aria-label") == self.figure.alt(self.example())
        with Image.open(io.BytesIO(drawing.png)) as image:
            image.load()
            assert image.size == (2 * int(root.get("width")), 2 * int(root.get("height")))
            colours = image.convert("RGB").getcolors(1 << 24)
        assert len(colours) > 2

    def test_it_fits_screens_and_phones(self, drawing):
        for svg, width in ((drawing.wide, WIDE), (drawing.narrow, NARROW)):
            assert int(ElementTree.fromstring(svg).get("width")) <= width

    def test_it_has_marks_with_values_and_no_number_is_missing(self, drawing):
        for svg in (drawing.wide, drawing.narrow):
            root = ElementTree.fromstring(svg)
            tips = [each.get("data-tip") for each in root.iter() if each.get("data-tip")]
            assert any(re.search(r"\d", tip) for tip in tips)
            said = [*tips, *(each.text or "" for each in root.iter("text"))]
            assert not [text for text in said if WRONG.search(text)]

    def test_the_page_gives_it_colours_by_theme_and_ids_of_its_own(self, drawing):
        light = {pair[0] for pair in TOKENS.values()}
        for kind in ("wide", "narrow"):
            root = ElementTree.fromstring(getattr(drawing, kind))
            values = [value for each in root.iter() for value in each.attrib.values()]
            assert not light.intersection(value.lower() for value in values)
            assert "var(--surface)" in values
            ids = [each.get("id") for each in root.iter() if each.get("id")]
            assert all(each.startswith(f"{self.name}-{kind}-") for each in ids)

    def test_names_stay_words(self):
        facts = self.nasty()
        drawing = draw(self.figure, facts)
        for svg in (drawing.svg, drawing.wide, drawing.narrow):
            root = ElementTree.fromstring(svg)  # what is not escaped is no XML
            tags = {each.tag.removeprefix(SVG) for each in root.iter()}
            assert tags <= {"svg", "g", "path", "rect", "line", "text", "defs", "clipPath"} | {
                *("linearGradient", "stop", "title")
            }
            assert not [key for each in root.iter() for key in each.attrib if key.startswith("on")]
            assert "\u202e" not in svg
            assert NASTY[6] not in svg
