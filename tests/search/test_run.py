"""A Run: what the API and the command line do with one, what it says of labels, second splits."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict

import numpy as np
import pytest

import fusion
from fusion import cli
from fusion.labels import write_labels
from fusion.search.__main__ import main
from fusion.search.greedy import Greedy
from fusion.search.run import Run
from tests.samples import SIZE, VIDEOS
from tests.search.simulated import arguments

SAID = {
    "grid": (["--range", "weak=0:1:0.5"], {"ranges": {"weak": (0, 1, 0.5)}}),
    "greedy": (["--steps", "6"], {"steps": 6}),
    "optuna": (["--trials", "7"], {"trials": 7}),
    "exact": (["--gap", "0.3", "--convention", "union"], {"gap": 0.3, "convention": "union"}),
}


@pytest.mark.parametrize("method", SAID)
def test_api_and_command_line_give_the_same(data, ensemble, truth, tmp_path, capsys, method):
    flags, options = SAID[method]
    found = ensemble.search(truth, method, folds=2, seed=5, stride=2, **options)
    said = ["--method", method, *flags, "--folds", "2", "--seed", "5", "--stride", "2"]
    out = tmp_path / "new" / "out"  # not there yet, and nothing but the search makes it
    said += ["--no-cache", "--out", str(out), "--json"]
    assert cli.run(main, arguments(data, tmp_path, *said)) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "search.json").read_text())
    mine = json.loads(json.dumps(found.to_json()))
    for result in (mine, printed["result"]):
        (result["certificate"] or {}).pop("seconds", None)
    assert printed["result"] == mine
    assert not (out / "condensed").exists()


def test_a_folder_that_cannot_be_made_is_one_line(data, tmp_path, capsys):
    (tmp_path / "out").write_text("")
    out = tmp_path / "out" / "below"
    assert cli.run(main, arguments(data, tmp_path, "--no-cache", "--out", str(out))) == 2
    assert f"error: {out}: cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("stride", [1, 3])
def test_census_counts_what_is_scored(ensemble, truth, stride):
    found = asdict(Run(ensemble, truth, stride=stride).census())
    expected, pixels = np.zeros(4, np.int64), 0
    for video in VIDEOS:
        for frame in truth.frames(video):
            target = truth.read(video, frame)[::stride, ::stride]
            pixels += target.size
            expected += np.bincount(target[target != 255], minlength=4)
    assert found.pop("class_pixels").tolist() == expected.tolist()
    counted = {"videos": 3, "frames": 6, "pixels": pixels}
    said = {"classes": ensemble.classes, "outside": {}, "stride": stride}
    assert found == {**counted, **said}
    assert pixels == 6 * SIZE[0] * SIZE[1] or stride > 1


def test_census_tells_values_that_were_read_as_void(data, ensemble, tmp_path):
    shutil.copytree(data / "labels" / "val", tmp_path / "labels")
    target = np.full(SIZE, 3, np.uint8)
    target[:2] = 77
    write_labels(tmp_path / "labels" / "b" / "1.png", target, overwrite=True)
    truth = fusion.Labels.folder(tmp_path / "labels", stray="void")
    assert Run(ensemble, truth).census().outside == {77: 2 * SIZE[1]}


def test_a_second_split_has_its_own_stores_labels_and_scores(data, ensemble, truth):
    warm = ensemble.regrouped(ensemble.groups, {"weak": 0.0}, temperatures={"net_1": 2.0})
    run = Run(warm, truth)
    assert run.singles
    truth = fusion.Labels.folder(data / "labels" / "test")
    other = run.elsewhere(truth, data / "test")
    assert (other.name, other.truth) == ("test", truth)
    assert {store.path.parent for store in other.ensemble.stores} == {data / "test"}
    assert other.ensemble.weights == warm.weights
    assert other.ensemble.temperatures == warm.temperatures
    assert other.singles != run.singles
    uniform = other.problem.uniform.miou
    assert uniform == other.ensemble.regrouped(other.ensemble.groups).evaluate(truth).miou
    assert run.elsewhere(truth, None).ensemble is warm


def test_over_models_and_grouped_again_singles_are_scored_once(ensemble, truth, monkeypatch):
    names = {store.model: store for store in ensemble.stores}
    families = {"basic": "net", "other": "other"}.items()
    both = {family: [s for n, s in names.items() if part in n] for family, part in families}
    run = Run(ensemble.regrouped(both), truth)
    formed = run.grouped(1, 9)  # more than there are: all of them
    monkeypatch.setattr("fusion.search.split.score_models", None)
    ranked = [name for name in run.singles if "net" in name]
    shown = {group: [s.model for s in stores] for group, stores in formed.ensemble.groups.items()}
    assert shown["strong"] == ranked[:1]
    assert sorted(shown["weak"]) == sorted(ranked[1:])
    assert len(shown["auxiliary"]) == 2
    models = formed.over("models")
    assert list(models.ensemble.groups) == [s.model for s in formed.ensemble.stores]
    assert models.singles == formed.singles == run.singles
    assert formed.over("groups") is formed
    found = models.search(Greedy(steps=3))
    assert models.contributions(found).keys() == {n for n, w in found.weights.items() if w > 0}


def test_a_geometric_mean_from_the_command_line(data, ensemble, truth, tmp_path, capsys):
    said = arguments(data, tmp_path, "--mean", "geometric", "--method", "exact", "--no-cache")
    assert cli.run(main, said) == 0
    best = fusion.HierarchicalEnsemble.load(tmp_path / "out" / "best.json")
    assert "calibration" not in capsys.readouterr().out
    assert best.mean == "geometric"
    document = json.loads((tmp_path / "out" / "search.json").read_text())
    assert document["result"]["miou"] == best.evaluate(truth).miou
    capsys.readouterr()
    assert cli.run(main, [*said, "--contributions"]) == 2  # groups of two are no sum of models
    error = capsys.readouterr().err.splitlines()[-1]  # below what was recognised
    assert error.startswith("error: search: --mean geometric over groups of several models is no")
    geometric = ensemble.regrouped(ensemble.groups, mean="geometric")
    models = Run(geometric, truth).over("models")
    assert models.contributions(models.search(Greedy(steps=2)))


def test_calibration_of_what_was_found_on_both_splits(data, tmp_path, capsys):
    second = ["--test-labels", str(data / "labels" / "test"), "--test-stores", str(data / "test")]
    assert cli.run(main, arguments(data, tmp_path, "--no-cache", "--calibration", *second)) == 0
    printed = " ".join(capsys.readouterr().out.split())  # sentences go on in the next line
    document = json.loads((tmp_path / "out" / "search.json").read_text())
    for split in ("val", "test"):
        path = tmp_path / "out" / "best.json"
        best = fusion.HierarchicalEnsemble.load(path, stores=data / split)
        found = best.calibration(fusion.Labels.folder(data / "labels" / split))
        assert document["calibration"][split] == found.to_json()
        assert f"{split} calibration: {found.text()}" in printed
