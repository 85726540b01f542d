"""Methods side by side: their rows are those of each one's own search, on the same folds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from fusion import cli
from fusion.errors import InputError
from fusion.search.__main__ import main
from fusion.search.compare import Comparison, compare
from fusion.search.greedy import Greedy
from fusion.search.grid import Grid
from fusion.search.held import GROUP, SINGLE, UNIFORM, WEIGHTS
from fusion.search.method import OVER
from fusion.search.run import Run
from fusion.search.selection import Shrinkage
from tests.search.simulated import arguments

METHODS = (Grid(ranges={"weak": (0, 1, 0.5), "auxiliary": (0, 1, 1)}), Greedy(steps=3))


def test_rows_are_those_of_each_search_alone(ensemble, truth, monkeypatch):
    # multipliers are used whatever they are worth: the rows with and without them differ
    monkeypatch.setattr("fusion.search.selection.shrink", lambda *_: Shrinkage(1.0, {}))
    run = Run(ensemble, truth, folds=3, reach=2.0)
    found = compare(run, METHODS)
    rows = {row.name: row for row in found.rows}
    plain = [UNIFORM, GROUP, SINGLE, "grid", "greedy over models"]
    assert set(rows) == {*plain, "grid + multipliers", "greedy over models + multipliers"}
    assert [row.name for row in found.rows][-2:] == [
        "grid + multipliers",
        "greedy over models + multipliers",
    ]
    alone = run.search(METHODS[0])
    both, plain = rows["grid + multipliers"], rows["grid"]
    assert both.val == alone.miou
    assert both.held_out.score == float(alone.held_out)
    assert plain.held_out.score == alone.held_out.contenders[WEIGHTS].score
    assert plain.val == max(t.miou for t in alone.history if t.multipliers is None) != both.val
    assert rows[UNIFORM].held_out.score == alone.held_out.contenders[UNIFORM].score
    assert found.recommended in found.rows
    text = found.text()
    assert text.count("recommended") == 1
    assert all(len(line) <= 80 for line in text.split("\n"))
    assert all(word in text for row in found.rows for word in row.name.split())


def test_the_first_row_within_one_standard_error_is_recommended(ensemble, truth):
    found = compare(Run(ensemble, truth, folds=3), METHODS[:1])
    best = max(found.rows, key=lambda row: row.held_out.score)
    for row in found.rows:
        gain = best.held_out.gain(row.held_out, units=found.units)
        if row is best or gain.value <= gain.error:
            assert found.recommended is row
            break
    # the same row twice: the simpler, first one
    twice = Comparison([replace(best, name="first"), replace(best, name="second")], found.units)
    assert twice.recommended.name == "first"


def test_without_folds_there_is_nothing_to_compare(ensemble, truth):
    with pytest.raises(InputError, match="nothing is held out; give --folds of at least 2"):
        compare(Run(ensemble, truth, folds=0), METHODS[:1])


def test_the_command_writes_the_table_and_the_recommended_ensemble(data, tmp_path, capsys):
    quick = ["--compare", "--folds", "2", "--trials", "3", "--steps", "2", "--stride", "2"]
    quick += ["--range", "weak=0:1:1", "--range", "auxiliary=0:1:1", "--multipliers", "off"]
    assert cli.run(main, arguments(data, tmp_path, *quick)) == 0
    said = capsys.readouterr().out
    rows = json.loads((tmp_path / "out" / "compare.json").read_text())
    names = {row["method"] for row in rows}
    assert {"grid", "optuna", "greedy over models", "exact"} <= names
    assert {f"the {form} head over {what}" for form in ("log", "mix") for what in OVER} <= names
    assert "auto" not in names  # its rungs are rows
    assert sum(row["recommended"] for row in rows) == 1
    assert said.startswith("method")
    assert "wrote compare.json" in said
