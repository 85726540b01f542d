"""The site builds strictly, works from a file without a network, and has all that the code has."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html import unescape

import pytest

import fusion
from docs import tables
from fusion.__main__ import COMMANDS
from fusion.ensemble.heads import HEADS
from fusion.labels import LAYOUTS, MAPS
from fusion.metrics import OBJECTIVES
from fusion.outputs.registry import OUTPUTS
from fusion.search import METHODS
from fusion.stores.importers import IMPORTERS
from tests.docs.snippets import PAGES, ROOT

LOADED = re.compile(r'(?:src|href|content)="((?:https?:)?//[^"]+)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site: six seconds."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    env.pop("COLUMNS", None)
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_is_built_and_reachable(site):
    home = (site / "index.html").read_text()
    pages = [
        page.relative_to(ROOT / "docs") for page in PAGES if page.is_relative_to(ROOT / "docs")
    ]
    for page in pages:
        built = page.with_suffix(".html")
        assert (site / built).exists()
        assert f'href="{built}"' in home or page.stem == "index", f"{page}: not in mkdocs.yml's nav"


def test_nothing_is_loaded_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text()
        links = re.findall(r"<a [^>]*>", text)
        for tag in links:
            text = text.replace(tag, "")
        assert not LOADED.findall(text), page
    assert "https://" not in (site / "assets" / "iframe-worker.js").read_text()
    index = json.loads((site / "search" / "search_index.json").read_text())
    assert (site / "search" / "search_index.js").read_text().startswith("var __index = ")
    assert any("certificate" in each["text"] for each in index["docs"])


def test_no_placeholder_is_left(site):
    for page in (site / "reference").rglob("*.html"):
        assert "made: " not in page.read_text()


@pytest.mark.parametrize("name", sorted({*fusion.__all__} - {"__version__", "kernels"}))
def test_every_public_name_is_described(name, site):
    text = (site / "reference" / "python.html").read_text()
    assert f'id="fusion.{name}"' in text
    docstring = getattr(fusion, name).__doc__.splitlines()[0]
    plain = unescape(re.sub(r"<[^>]+>", "", text)).replace("`", "")
    assert docstring.replace("`", "")[:40] in plain


def test_registries_and_commands_are_shown_whole(site):
    shown = {page.stem: unescape(page.read_text()) for page in (site / "reference").glob("*.html")}
    for name in (*OBJECTIVES, *METHODS, *HEADS):
        assert f"<code>{name}</code>" in shown["search"], name
    for name in (*LAYOUTS, *MAPS, *OUTPUTS, *(each.kind for each in IMPORTERS)):
        assert f"<code>{name}</code>" in shown["formats"], name
    for name in fusion.kernels.__all__:
        assert f'id="fusion.kernels.{name}"' in shown["kernels"], name
    for name, command in COMMANDS.items():
        wanted = f"segfusion {name}" if command.first else f"usage: segfusion {name}"
        assert wanted in re.sub(r"<[^>]+>", "", shown["commands"]), name


def test_help_is_as_the_command_prints_it():
    assert tables.help_of("stores", "info").startswith("usage: segfusion stores info")
    assert "--temperatures" in tables.help_of("search")
