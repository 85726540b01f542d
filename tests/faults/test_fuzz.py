"""Other people's bytes: a bounded run of the fuzzer, what crashed once, and a row for everyone."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusion.ensemble.heads import HEADS
from fusion.labels import LAYOUTS, MAPS
from fusion.stores.importers import IMPORTERS
from tests.faults.fuzz import CORPUS, READ, REFUSED, Hunt, attempt, laid, main, sample, slug
from tests.faults.parsers import PARSERS, Parser

FEW = 6  # inputs of each row in CI
KEPT = sorted(place for place in CORPUS.glob("*/*") if place.is_dir())
BY_SLUG = {slug(name): parser for name, parser in PARSERS.items()}


def test_every_importer_and_layout_has_a_row():
    """Those that read nothing of other people's are made of arrays in memory."""
    wanted = {f"importer {each.kind}" for each in IMPORTERS}
    wanted |= {f"layout {name}" for name in LAYOUTS}
    assert wanted <= PARSERS.keys()
    assert HEADS
    assert MAPS


def test_a_few_inputs_of_every_parser(tmp_path):
    hunt = Hunt(list(PARSERS), 11, tmp_path / "kept")
    hunt.run(0, FEW)
    assert not hunt.crashes, "\n".join(hunt.crashes.values())
    assert hunt.counts.total() == FEW * len(PARSERS)
    assert hunt.counts[REFUSED] > 2 * len(PARSERS)  # edits do something
    assert hunt.counts[READ] > len(PARSERS) // 4  # and not everything is lost by them


@pytest.mark.slow
def test_many_inputs(tmp_path):
    hunt = Hunt(list(PARSERS), 12, tmp_path / "kept")
    hunt.run(0, 1000)
    assert not hunt.crashes, "\n".join(hunt.crashes.values())
    assert hunt.counts.total() == 1000 * len(PARSERS)


@pytest.mark.parametrize("place", KEPT, ids=[f"{p.parent.name}-{p.name}" for p in KEPT])
def test_what_crashed_once(place, tmp_path):
    parser = BY_SLUG[place.parent.name]
    opened, files = sample(parser)
    changed = {
        str(path.relative_to(place)): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file()
    }
    laid(files | changed, tmp_path)
    outcome, what = attempt(parser, tmp_path / opened)
    assert outcome in (READ, REFUSED), what


def test_a_crash_is_found_and_kept(tmp_path, monkeypatch, capsys):
    """The fuzzer itself: raw errors, what runs for too long, and what is silently other."""

    def raw(path: Path) -> object:
        return path.read_bytes().decode("ascii")

    place = tmp_path / "a"
    place.write_bytes(b"\xff")
    assert attempt(Parser("raw", lambda folder: folder, raw), place)[0] == "UnicodeDecodeError"
    monkeypatch.setattr("tests.faults.fuzz.MOST", 0.05)

    def forever(path: Path) -> object:
        while True:
            pass

    assert attempt(Parser("slow", lambda folder: folder, forever), place)[0] == "Slow"

    def hungry(path: Path) -> object:
        from fusion.errors import InputError

        try:
            raise MemoryError
        except MemoryError as error:
            raise InputError("not readable") from error

    assert attempt(Parser("hungry", lambda folder: folder, hungry), place)[0] == "memory"
    assert main(["class lines", "--seconds", "60", "--inputs", "2", "--keep", str(tmp_path)]) == 0
    assert "2 inputs of 1 parsers" in capsys.readouterr().out
