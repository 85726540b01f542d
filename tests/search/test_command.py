"""The command's options for multipliers, objectives, classes and units; refusals before work."""

from __future__ import annotations

import json
import math
import shutil
from types import SimpleNamespace

import pytest

import fusion
from fusion import cli
from fusion.errors import InputError
from fusion.search.__main__ import build_parser, main, read_objective, said_multipliers
from fusion.search.held import SINGLE, head_name
from fusion.search.registry import METHODS
from fusion.search.report import MULTIPLIED
from fusion.search.selection import read_reach
from tests.search.simulated import arguments

GRID = ["--method", "grid", "--range", "weak=0:1:1", "--range", "auxiliary=0:1:1"]


def run(data, folder, *said):
    return cli.run(main, arguments(data, folder, *said))


def result(folder):
    return json.loads((folder / "out" / "search.json").read_text())["result"]


def reach_of(ensemble, *said, method="grid"):
    options = build_parser().parse_args(["--method", method, *said])
    return read_reach(METHODS[method], ensemble, said_multipliers(options.multipliers))


def test_multipliers_as_they_are_said(ensemble):
    assert reach_of(ensemble) is None
    assert reach_of(ensemble, method="auto") == 4.0
    assert reach_of(ensemble, "--multipliers") == 4.0
    assert reach_of(ensemble, "--multipliers", "on") == 4.0
    assert reach_of(ensemble, "--multipliers", "off", method="auto") is None
    assert reach_of(ensemble, "--multipliers", "2.5") == pytest.approx(2.5, rel=1e-12)
    geometric = ensemble.regrouped(ensemble.groups, mean="geometric")
    assert reach_of(geometric, method="auto") is None
    assert reach_of(geometric, "--multipliers", method="auto") == 4.0  # the run refuses it
    for nonsense in ("lots", "1", "0", "-3", "nan", "2000"):
        with pytest.raises(InputError, match="multipliers: got "):
            reach_of(ensemble, f"--multipliers={nonsense}")


def test_the_default_method_is_auto():
    assert build_parser().parse_args([]).method == "auto"
    options = vars(build_parser().parse_args(["--certify", "inf"]))
    assert METHODS["auto"].from_arguments(options).certify == math.inf
    assert METHODS["exact"].from_arguments(options).certify == math.inf


def wanted(*said, classes=("sky", "road", "a=b", "x=2")):
    ensemble = SimpleNamespace(classes=classes, channels=None)
    return read_objective(build_parser().parse_args([*said]), ensemble).name


def test_objectives_and_classes_as_they_are_said():
    assert wanted() == "vspw"
    assert wanted("--convention", "union") == "union"
    assert wanted("--objective", "dice", "--convention", "union") == "dice"
    assert wanted("--classes", "sky", "road") == "vspw(sky, road)"
    assert wanted("--objective", "dice", "--classes", "sky=2", "road") == "dice(sky=2, road=1)"
    # a class's name may hold "=", and be weighed
    assert wanted("--classes", "a=b", "x=2") == "vspw(a=b, x=2)"
    assert wanted("--classes", "a=b=3", "x=2=0.5") == "vspw(a=b=3, x=2=0.5)"
    for said, message in [
        (["clouds"], "there is no 'clouds'"),
        (["sky=much"], "--classes sky=much: got 'much'; give a number"),
        (["sky=0"], "the weight of 'sky' is 0.0; give a number above 0"),
        (["clouds=2"], "there is no 'clouds'"),
        (["sky", "road", "sky=2"], "--classes: 'sky' is there twice; give each class once"),
    ]:
        with pytest.raises(InputError, match=message):
            wanted("--classes", *said)


def test_classes_are_what_is_maximised(data, tmp_path, ensemble, truth):
    said = ["--objective", "dice", "--classes", "car=2", "tree", "--folds", "0"]
    assert run(data, tmp_path, *GRID, *said) == 0
    options = {"ranges": {"weak": (0, 1, 1), "auxiliary": (0, 1, 1)}}
    found = ensemble.search(
        truth, objective="dice", classes={"car": 2.0, "tree": 1.0}, folds=0, **options
    )
    assert result(tmp_path)["convention"] == found.convention == "dice(car=2, tree=1)"
    assert result(tmp_path)["miou"] == found.miou
    assert result(tmp_path)["weights"] == found.weights


def drive_arguments(drives, folder, *more):
    stores = [str(store.path) for store in drives[0].stores]
    toml = folder / "drives.toml"
    toml.write_text(f"[groups]\nstrong = {stores[:2]}\nweak = {stores[2:]}\n")
    labels = drives[0].stores[0].path.parent / "labels"
    return ["--ensemble", str(toml), "--labels", str(labels), "--out", str(folder / "out"), *more]


QUICK = ["--gap", "0.5", "--certify", "inf"]


@pytest.mark.parametrize("said", [["--multipliers"], ["--multipliers", "2.5"], []])
def test_multipliers_are_found_printed_and_saved(drives, tmp_path, capsys, said):
    ensemble, truth = drives
    method = "exact" if said else "auto"
    whole = drive_arguments(drives, tmp_path, "--method", method, "--calibration", *QUICK, *said)
    assert cli.run(main, whole) == 0
    printed = capsys.readouterr().out
    said_plainly = " ".join(printed.split())  # sentences go on in the next line
    reach = 2.5 if "2.5" in said else 4.0
    found = ensemble.search(truth, method, multipliers=reach, gap=0.5, certify=math.inf)
    mine = result(tmp_path)
    assert mine["multipliers"] == (found.multipliers and dict(found.multipliers))
    assert mine["miou"] == found.miou
    assert mine["verdict"] == json.loads(json.dumps(found.verdict.to_json()))
    numbers = ", ".join(f"{name} {b:.3g}" for name, b in (found.multipliers or {}).items())
    none = "none, held-out videos do not gain from them"
    assert f"multipliers of classes: {numbers or none} " in said_plainly
    assert f"verdict: {found.verdict.sentence}" in said_plainly
    name = MULTIPLIED if found.head is None else head_name(found.head.name)
    row = next(line for line in printed.split("\n") if line.startswith(name))
    assert row.split()[-1] == f"{100 * found.miou:.2f}"
    best, recommended = (
        fusion.HierarchicalEnsemble.load(tmp_path / "out" / f"{name}.json")
        for name in ("best", "recommended")
    )
    assert best.multipliers == found.ensemble.multipliers
    assert (best.head, recommended.head) == (found.ensemble.head, found.recommended.head)
    assert best.evaluate(truth).miou == found.miou
    assert recommended.evaluate(truth).miou == found.recommended.evaluate(truth).miou
    document = json.loads((tmp_path / "out" / "search.json").read_text())
    assert document["scores"]["val"]["miou"] == found.miou
    assert document["calibration"]["val"] == best.calibration(truth).to_json()
    assert len((tmp_path / "out" / "trials.csv").read_text().split("\n")) > 10


def test_off_saves_none_and_what_does_not_hold_out_is_said(data, drives, tmp_path, capsys):
    off = drive_arguments(drives, tmp_path, *QUICK, "--multipliers", "off")
    assert cli.run(main, off) == 0
    assert "multipliers" not in capsys.readouterr().out
    best = fusion.HierarchicalEnsemble.load(tmp_path / "out" / "best.json")
    assert best.multipliers is None
    shutil.rmtree(tmp_path / "out")
    assert run(data, tmp_path, *QUICK) == 0  # these models underrate no class
    said = "multipliers of classes: none, held-out videos do not gain from them\n"
    assert said in capsys.readouterr().out
    assert result(tmp_path)["multipliers"] is None


def test_flags_of_another_method_are_said_to_have_no_effect(data, tmp_path, capsys):
    assert run(data, tmp_path, "--method", "greedy", "--steps", "2", "--trials", "9") == 0
    assert "--trials: not of --method greedy, so without effect\n" in capsys.readouterr().err
    assert run(data, tmp_path, "--method", "greedy", "--steps", "2") == 0
    assert "without effect" not in capsys.readouterr().err


def test_units_are_held_out_together(drives, tmp_path, capsys):
    said = drive_arguments(drives, tmp_path, "--method", "greedy", "--steps", "2")
    assert cli.run(main, [*said, "--units", "drive[0-9]", "--json"]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert "5 folds asked for, 4 units there: 4 folds" in printed.err
    assert document["units"] == "drive[0-9]"
    folds = [{video[:6] for video in fold["videos"]} for fold in document["result"]["folds"]]
    assert sorted(map(sorted, folds)) == [[f"drive{d}"] for d in range(4)]
    assert "only 4 units were held out (below 8)" in "".join(document["honesty"])
    assert cli.run(main, [*said, "--units", "blocks:1", "--folds", "2"]) == 0
    frames = result(tmp_path)["folds"]
    assert sum(len(fold["videos"]) for fold in frames) == 16
    assert "0-0" in frames[0]["videos"][0]


def test_a_single_model_that_is_recommended_is_saved(drives, tmp_path, monkeypatch):
    monkeypatch.setattr("fusion.search.verdict.Verdict.recommended", SINGLE)
    said = drive_arguments(drives, tmp_path, "--method", "greedy", "--steps", "2")
    assert cli.run(main, said) == 0
    saved = fusion.HierarchicalEnsemble.load(tmp_path / "out" / "recommended.json")
    (store,) = saved.stores
    singles = json.loads((tmp_path / "out" / "search.json").read_text())["singles"]["val"]
    assert singles[store.model] == max(singles.values())
    assert saved.evaluate(drives[1]).miou == singles[store.model]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["--multipliers=lots"], "--multipliers: got 'lots'; give a number"),
        (["--multipliers", "1"], "multipliers: got 1.0; give r above 1 and up to 1024"),
        (["--mean", "geometric", "--multipliers"], "--mean geometric takes none"),
        (["--classes", "cat"], "classes: there is no 'cat'; did you mean 'car'?"),
        (["--classes", "car=big"], "--classes car=big: got 'big'; give a number"),
        (["--units", "drive[0-9]"], "units: 'drive[0-9]' matches nothing of video 'a'"),
        (["--units", "blocks:none"], "units: got 'blocks:none'; give blocks:N"),
        (["--units", "("], "units: got '('"),
        (["--folds", "1"], "folds: got 1; give at least 2"),
        (["--certify=-1"], "certify -1.0"),
        (["--method", "grid", "--range", "strange=0:1:1"], "range for unknown group 'strange'"),
    ],
)
def test_refusals_come_before_pixels_are_condensed(data, tmp_path, capsys, said, message):
    assert run(data, tmp_path, *said) == 2
    captured = capsys.readouterr()
    assert message in captured.err.strip().split("\n")[-1]
    assert captured.err.strip().split("\n")[-1].startswith("error: ")
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


def test_another_study_is_refused_before_pixels_are_condensed(data, tmp_path, capsys):
    said = ["--method", "optuna", "--trials", "2", "--folds", "0"]
    assert run(data, tmp_path, *said) == 0
    shutil.rmtree(tmp_path / "out" / "condensed")
    capsys.readouterr()
    assert run(data, tmp_path, *said, "--convention", "all") == 2
    error = capsys.readouterr().err.strip().split("\n")[-1]
    assert error.startswith("error: optuna: study 'segfusion'")
    assert "another convention" in error
    assert not (tmp_path / "out" / "condensed").exists()
    assert run(data, tmp_path, *said) == 0  # its own data go on
    assert (tmp_path / "out" / "condensed").exists()


@pytest.mark.parametrize("said", [["--objective", "iou"], ["--method", "magic"]])
def test_names_that_do_not_exist_are_code_2(data, tmp_path, capsys, said):
    with pytest.raises(SystemExit) as raised:
        run(data, tmp_path, *said)
    assert raised.value.code == 2
    assert "invalid choice" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
