"""Every figure of the documentation is drawn again, and says what the committed one says."""

from __future__ import annotations

import re

import pytest

from docs.figures.__main__ import FIGURES, HERE, main
from docs.figures.measured import coverage, methods


def said(text: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", text)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_committed_one(name, tmp_path):
    assert main([name, "--out", str(tmp_path)]) == 0
    for ending in (".svg", "-dark.svg"):
        new, old = ((place / f"{name}{ending}").read_text() for place in (tmp_path, HERE))
        assert said(new) == said(old), f"python -m docs.figures {name} draws it again"


def test_every_committed_figure_is_drawn_and_shown():
    shown = "".join(page.read_text() for page in HERE.parent.rglob("*.md"))
    for file in HERE.glob("*.svg"):
        assert file.stem.removesuffix("-dark") in FIGURES
        assert f"{file.name}#only-{'dark' if file.stem.endswith('-dark') else 'light'}" in shown


def test_measured_numbers_are_read_from_their_tables():
    known = {method.name: method for method in methods()}
    assert known["uniform weights"] == ("uniform weights", None, 53.30, 48.96, 57.62)
    assert known["mix head over 22 models, auto"][1:3] == (71.55, 65.60)
    assert coverage()[5] == (82, 96)
