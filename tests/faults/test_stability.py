"""STABILITY.md against the code: promised names exist, versions are those of the code."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import fusion
from fusion import __main__ as commands
from fusion import kernels, tensors
from fusion.contested import cache
from fusion.ensemble import file as ensembles
from fusion.labels.layouts import LAYOUTS
from fusion.metrics.objectives import OBJECTIVES
from fusion.outputs import OUTPUTS, SUBMISSIONS, Output
from fusion.outputs.seals import SEALS
from fusion.search.registry import METHODS
from fusion.stores import format as stores
from fusion.stores import pack_format

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "STABILITY.md").read_text(encoding="utf-8")


def row(first: str) -> str:
    """What stands beside the first cell of a table's row."""
    (found,) = re.findall(rf"^\| {re.escape(first)} \| (.*) \|$", TEXT, re.MULTILINE)
    return found


@pytest.mark.parametrize(
    ("what", "there"),
    [
        ("of `fusion`", fusion.__all__),
        ("of `fusion.kernels`", kernels.__all__),
        ("commands `segfusion ...`", commands.COMMANDS),
        ("methods of a search", METHODS),
        ("objectives", OBJECTIVES),
        ("layouts of labels", LAYOUTS),
        ("formats of outputs", OUTPUTS),
        ("submissions", SUBMISSIONS),
    ],
)
def test_the_promised_names_are_those_that_there_are(what, there):
    """A name that is new is promised too; one that goes away has to stand under Going away."""
    assert sorted(re.findall(r"`([^`]+)`", row(what))) == sorted(there)


def test_promised_names_can_be_had():
    assert all(getattr(fusion, name) is not None for name in fusion.__all__)
    modules = re.findall(r"`([^`]+)`", row("modules `python -m ...`"))
    assert len(modules) == 9
    assert all(importlib.util.find_spec(name) is not None for name in modules)


def test_versions_are_the_codes():
    form, versions = row("logit stores").split(" | ")
    assert f"`{stores.FORMAT}`" in form
    known = [stores.VERSION, pack_format.PACK_VERSION, stores.DRAFT_VERSION]
    assert [int(number) for number in re.findall(r"\d+", versions)] == known
    form, versions = row("saved ensembles (`best.json`, `recommended.json`)").split(" | ")
    assert form == f"`{ensembles.FORMAT}`"
    known = [ensembles.PLAIN, ensembles.WITH_HEAD, ensembles.VERSION]
    assert [int(number) for number in re.findall(r"\d+", versions)] == known
    assert f"`{tensors.KEY}`" in row("weights, checkpoints, heads")
    assert f"`{tensors.CHECKSUM}`" in row("weights, checkpoints, heads")
    assert f"condensed pixels (version {cache.VERSION})" in TEXT
    assert f"(`{Output.record[0]}`, `{SEALS}`)" in TEXT


def test_files_that_it_points_to_are_there():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert len(links) == 3
    assert all((ROOT / link).exists() for link in links)


def test_it_is_short():
    assert len(TEXT.splitlines()) < 60
