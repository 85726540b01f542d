"""A results folder that moved, and the ways in which it may not be whole: one sentence each."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import fusion
from fusion import cli
from fusion.__main__ import main as segfusion
from fusion.errors import InputError
from fusion.labels import write_labels
from fusion.report import write, write_report
from fusion.report.__main__ import main
from fusion.report.gather import facts_of
from fusion.report.results import Elsewhere, read_results
from tests.report.cases import QUICK, same_facts, search
from tests.samples import CLASSES, FRAMES, SIZE, VIDEOS


@pytest.fixture
def moved(data, tmp_path):
    """All of the data and results at another place."""
    skip = shutil.ignore_patterns("condensed", "units*", "head", "many", "line", "dice")
    return shutil.copytree(data, tmp_path / "elsewhere", ignore=skip)


def refused(capsys, *said):
    """The one line that a command ends with."""
    assert cli.run(main, [str(each) for each in said]) == 2
    (line,) = [x for x in capsys.readouterr().err.split("\n") if x.startswith("error")]
    return line


def test_results_move_with_their_data(moved, facts):
    same_facts(facts_of(read_results(moved / "results")), facts)


def test_data_that_moved_are_named(moved, facts, tmp_path):
    (moved / "deep").mkdir()
    shutil.move(moved / "results", tmp_path / "results")
    shutil.move(moved / "second", moved / "deep" / "second")
    where = Elsewhere(moved / "labels", moved, moved / "deep" / "second", None)
    same_facts(facts_of(read_results(tmp_path / "results", where)), facts)
    truths = [fusion.Labels.folder(moved / name) for name in ("labels", "deep/second")]
    where = Elsewhere(truths[0], moved, truths[1], moved)
    same_facts(facts_of(read_results(tmp_path / "results", where)), facts)


def test_a_second_split_has_stores_of_its_own(data, tmp_path):
    (tmp_path / "stores").mkdir()
    for k in range(4):
        with fusion.LogitWriter(tmp_path / "stores" / f"net_{k}.zarr", CLASSES) as writer:
            draw = np.random.default_rng(k)
            for video in VIDEOS:
                with writer.video(video, frames=FRAMES, size=SIZE) as out:
                    for _ in FRAMES:
                        out.append(draw.normal(0, 2, (4, 5, 7)))
    second = ["--test-labels", data / "second", "--test-stores", tmp_path / "stores"]
    folder = search(data, *QUICK, *map(str, second), "--folds", "0", out="apart")
    facts = facts_of(read_results(folder))
    best = fusion.HierarchicalEnsemble.load(folder / "best.json", stores=tmp_path / "stores")
    scores = best.evaluate(fusion.Labels.folder(data / "second"))
    assert [row.found for row in facts.classes] == scores.class_iou.tolist()
    shutil.move(tmp_path / "stores", tmp_path / "moved")
    with pytest.raises(fusion.StoreError, match="give --test-stores DIR"):
        read_results(folder)
    again = facts_of(read_results(folder, Elsewhere(test_stores=tmp_path / "moved")))
    assert again.classes == facts.classes


def test_no_results(tmp_path, capsys):
    line = refused(capsys, tmp_path / "nope")
    assert line.endswith("nope: no such folder; give the --out of a search")
    assert "has no search.json; give the --out of a search" in refused(capsys, tmp_path)
    (tmp_path / "best.json").write_text("{}")
    assert "the search has not finished; run it again" in refused(capsys, tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read (holds list, not an object); search again"),
        ("[" * 100_000, "cannot be read (nested deeper than 64 levels); search again"),
        ("{}", "not what a search writes; search again"),
        ('{"result": 1, "ladder": 1}', "says not what it was made of, as older ones; search again"),
    ],
)
def test_search_json_of_another_kind(tmp_path, capsys, text, said):
    (tmp_path / "search.json").write_text(text)
    assert said in refused(capsys, tmp_path)


def test_half_written_results(moved, capsys):
    best = moved / "results" / "best.json"
    document = json.loads(best.read_text())
    document["weights"]["strong"] = 0.25
    best.write_text(json.dumps(document))
    assert "best.json: changed since it was written" in refused(capsys, moved / "results")
    del document["sha256"]
    best.write_text(json.dumps(document))
    assert "a later search has not finished; run it again" in refused(capsys, moved / "results")
    best.unlink()
    line = refused(capsys, moved / "results")
    assert "best.json is missing: the results are not whole; search again" in line


def test_stores_that_are_gone_or_others(moved, capsys):
    shutil.move(moved / "net_2.zarr", moved / "away.zarr")
    line = refused(capsys, moved / "results")
    assert "net_2.zarr: no such store" in line
    assert line.endswith("give --stores DIR")
    shutil.copytree(moved / "net_1.zarr", moved / "net_2.zarr")
    assert "net_2.zarr: not the content that" in refused(capsys, moved / "results")


def test_labels_that_are_gone_or_others(moved, capsys):
    first = fusion.Labels.folder(moved / "labels").read("a", "0")
    write_labels(moved / "labels" / "a" / "0.png", (first + 1) % 4, overwrite=True)
    assert "not the labels that" in refused(capsys, moved / "results")
    shutil.rmtree(moved / "labels")
    line = refused(capsys, moved / "results")
    assert "no such labels" in line
    assert line.endswith("give --labels PATH")
    assert "does not exist" in refused(
        capsys, moved / "results", "--labels", moved / "no", "--label-layout", "folder"
    )


def test_another_report_html_is_never_written_over(moved, capsys):
    page = moved / "results" / "report.html"
    page.write_text("<p>mine</p>")
    assert "not a report of segfusion; move it, or give another --out" in refused(
        capsys, moved / "results"
    )
    said = ["--ensemble", moved / "three.toml", "--labels", moved / "labels", "--report"]
    said += [*QUICK, "--out", moved / "results"]
    assert segfusion(["search", *map(str, said)]) == 2  # before the search
    assert "not a report of segfusion" in capsys.readouterr().err
    assert page.read_text() == "<p>mine</p>"
    page.unlink()
    (moved / "results" / "figures").mkdir()
    mine = moved / "results" / "figures" / "plane.png"
    mine.write_text("mine")
    assert "figures: there already, and of no report" in refused(capsys, moved / "results")
    assert mine.read_text() == "mine"
    mine.unlink()
    page.mkdir()
    assert "a folder of that name is in the way" in refused(capsys, moved / "results")


def test_its_own_report_is_replaced(moved, capsys):
    out = moved / "page"
    assert segfusion(["report", str(moved / "results"), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"wrote {out / 'report.html'}\n"
    first = (out / "report.html").read_bytes()
    assert write_report(moved / "results", out) == out / "report.html"
    again = (out / "report.html").read_bytes()
    i = next((k for k in range(len(first)) if first[k] != again[k]), 0)
    assert again == first, (first[i - 80 : i + 40], again[i - 80 : i + 40])
    assert not (moved / "results" / "report.html").exists()


def test_labels_are_said_as_for_a_search(moved, capsys):
    shutil.move(moved / "labels", moved / "val")
    said = ["--labels", moved / "val", "--label-layout", "folder"]
    assert cli.run(main, [str(moved / "results"), "--images", str(moved / "no")]) == 2
    assert cli.run(main, [str(each) for each in (moved / "results", *said)]) == 0


def test_labels_that_were_found_by_a_pattern(data):
    said = ["--label-pattern", "{unit}/{frame}.png", "--folds", "0"]
    facts = facts_of(read_results(search(data, *QUICK, *said, out="pattern")))
    plain = facts_of(read_results(search(data, *QUICK, "--folds", "0", out="plain")))
    assert facts.classes == plain.classes


def test_missing_packages_are_named(moved, capsys, monkeypatch):
    monkeypatch.setattr(write, "PACKAGES", {"scipy": "scipy", "nope_a": "a", "nope_b": "b"})
    line = refused(capsys, moved / "results")
    want = "a and b not installed; pip install 'segfusion[plot]'"
    assert line.endswith(want)


def test_a_search_writes_its_report(moved, capsys):
    search(moved, *QUICK, "--folds", "0", "--report", out="new")
    said = " ".join(capsys.readouterr().out.split())  # lines end at 80 columns
    assert said.endswith(f", and the report to {moved}/new/report.html")
    assert (moved / "new" / "report.html").is_file()
    said = ["--ensemble", str(moved / "three.toml"), "--labels", str(moved / "labels")]
    assert segfusion(["search", *said, "--compare", "--report"]) == 2
    assert "--report is of one method's results; leave out --compare" in capsys.readouterr().err


def test_a_report_of_nothing_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        write_report(tmp_path / "nope")
