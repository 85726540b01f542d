"""What search.json says of the data, and in how far another folder may be where they are."""

from __future__ import annotations

import json
from pathlib import Path

import fusion
from fusion import cli
from fusion.search.__main__ import main
from fusion.search.inputs import relative
from tests.search.simulated import arguments


def test_everything_that_was_said_of_the_data(data, truth, ensemble, tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "called_as", {})  # not as `segfusion search` of another test
    test = data / "labels" / "test"
    said = arguments(data, tmp_path, "--method", "grid", "--range", "weak=0:1:1", "--folds", "0")
    said += ["--range", "auxiliary=0:1:1", "--test-labels", str(test)]
    said += ["--test-stores", str(data / "test"), "--stray", "void", "--objective", "dice"]
    said += ["--classes", "car=2", "tree"]
    assert cli.run(main, said) == 0
    document = json.loads((tmp_path / "out" / "search.json").read_text())
    inputs = document["inputs"]
    assert inputs["command"] == ["python -m fusion.search", *said]
    assert inputs["objective"] == {"kind": "dice", "classes": {"car": 2.0, "tree": 1.0}}
    assert (inputs["reach"], inputs["align"], inputs["images"]) == (None, "strict", None)
    assert inputs["temperatures"] == {store.model: 1.0 for store in ensemble.stores}
    for split, place in (("val", "val"), ("test", "test")):
        known = inputs["splits"][split]
        assert known["videos"] == ["a", "b", "c"]
        labels = known["labels"]
        assert (tmp_path / "out" / labels["path"]).resolve() == data / "labels" / place
        opened = fusion.Labels.folder(data / "labels" / place, stray="void")
        assert labels["digest"] == opened.digest()
        assert (labels["layout"], labels["split"], labels["map"]) == ("auto", None, None)
        assert labels["stray"] == "void"
        for model, store in known["stores"].items():
            path = (tmp_path / "out" / store["path"]).resolve()
            assert path == data / place / f"{model}.zarr"
            assert not Path(store["path"]).is_absolute()
            assert store["digest"] == fusion.LogitStore(path).digest()
    assert document["searched"] == "best.json"
    assert document["contenders"] == {}
    assert document["provenance"]["segfusion"] == fusion.__version__
    assert document["provenance"]["date"].endswith("+00:00")
    row = document["ladder"][0]["name"]
    assert document["ladder_intervals"][row].keys() == {"val", "test"}


def test_a_second_split_of_the_same_data_set(data, tmp_path):
    files = ["--split", "val", "--test-split", "test", "--test-stores", str(data / "test")]
    stores = [str(path) for path in sorted((data / "val").glob("net_*"))]
    said = ["--stores", *stores, "--labels", str(data / "labels"), *files, "--folds", "0"]
    said += ["--method", "grid", "--range", "net_0=1:1:1", "--out", str(tmp_path / "out")]
    for name in (Path(store).stem for store in stores):
        said += ["--range", f"{name}=1:1:1"]
    assert cli.run(main, said) == 0
    document = json.loads((tmp_path / "out" / "search.json").read_text())
    labels = document["inputs"]["splits"]["test"]["labels"]
    assert (tmp_path / "out" / labels["path"]).resolve() == data / "labels"
    assert labels["split"] == "test"
    best = fusion.HierarchicalEnsemble.load(tmp_path / "out" / "best.json", stores=data / "test")
    scores = best.evaluate(fusion.Labels.folder(data / "labels" / "test"))
    assert document["scores"]["test"]["miou"] == scores.miou


def test_models_that_groups_left_out_are_named_too(data, tmp_path):
    families = [sorted(map(str, (data / "val").glob(f"{name}_*"))) for name in ("net", "other")]
    said = ["--auto-groups", "--basic", *families[0], "--other", *families[1], "--strong", "1"]
    said += ["--auxiliary", "1", "--labels", str(data / "labels" / "val"), "--folds", "0"]
    said += ["--out", str(tmp_path / "out"), "--method", "optuna", "--trials", "2"]
    assert cli.run(main, said) == 0
    inputs = json.loads((tmp_path / "out" / "search.json").read_text())["inputs"]
    assert len(inputs["splits"]["val"]["stores"]) == len(inputs["temperatures"]) == 6


def test_paths_are_seen_from_the_results(tmp_path):
    assert relative(tmp_path / "a" / "b", tmp_path / "c") == "../a/b"
    assert relative(tmp_path, tmp_path) == "."
