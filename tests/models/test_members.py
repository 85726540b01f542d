"""Members: which runs there are, and from one configuration to stores that a search takes."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

import fusion
from fusion.errors import InputError
from fusion.models import members, soup
from fusion.models.members import roster
from fusion.models.predict import fill
from fusion.models.training import config
from fusion.search import __main__ as search

TOML = """out = "runs/a"
seed = 3
[data]
vspw = "{vspw}"
[network]
name = "plain"
preset = "micro"
[augment]
crop = 32
[train]
steps = 3
learning_rate = 1e-3
warmup = 1
[swa]
cycles = {cycles}
every = 1
highest = 1e-3
lowest = 1e-4
refresh = 2
"""


def configuration(vspw, folder: Path, cycles: int = 0) -> Path:
    path = folder / "run.toml"
    path.write_text(TOML.format(vspw=vspw, cycles=cycles))
    return path


def command(path: Path, *more: str) -> list[str]:
    out = path.parent / "stores"
    return ["--config", str(path), "--out", str(out), "--device", "cpu", "--batch", "2", *more]


class TestRoster:
    def given(self, **changed) -> config.Config:
        document = {"out": "/runs/a", "seed": 3, "augment": {"crop": 480}, "data": {"vspw": "/v"}}
        return config.parse({**document, **changed})

    def test_seeds(self):
        given = self.given()
        runs = [member.config for member in roster(given, 3)]
        assert [run.seed for run in runs] == [3, 4, 5]
        assert [run.out for run in runs] == ["/runs/a_01", "/runs/a_02", "/runs/a_03"]
        assert replace(runs[0], out=given.out) == given
        assert [member.name for member in roster(given, 2)] == ["a_01", "a_02"]

    def test_folds_and_crops(self):
        """Each leaves out another fifth; crops are the paper's two in turn."""
        runs = [member.config for member in roster(self.given(), 5, ["seed", "fold", "crop"])]
        assert [(run.data.folds, run.data.fold) for run in runs] == [(5, k) for k in range(5)]
        assert [run.augment.crop for run in runs] == [480, 640, 480, 640, 480]
        given = self.given(data={"vspw": "/v", "folds": 3, "fold": 2})
        assert [m.config.data.fold for m in roster(given, 4, ["seed", "fold"])] == [2, 0, 1, 2]

    def test_snapshots_are_cycles_of_one_run(self):
        found = roster(self.given(swa={"every": 7}), 4, snapshots=True)
        assert all(member.config == found[0].config for member in found)
        assert (found[0].config.out, found[0].config.swa.cycles) == ("/runs/a", 4)
        assert [member.name for member in found] == [f"a_swa_0{k}" for k in (1, 2, 3, 4)]

    def test_runs_that_are_the_same(self):
        with pytest.raises(InputError, match="a_01 and a_03 would be the same run; add seed"):
            roster(self.given(), 3, ["crop"])
        with pytest.raises(InputError, match="crops are to differ, and crop is left to the images"):
            roster(self.given(augment={"crop": 0}), 3, ["seed", "crop"])
        with pytest.raises(InputError, match="members: got 0; give 1 or more"):
            roster(self.given(), 0)


def test_from_a_configuration_to_a_search(vspw, tmp_path, capsys):
    """One command, the search that it prints, and the same again: nothing is done twice."""
    path = configuration(vspw, tmp_path)
    given = command(path, "--members", "2", "--differ", "seed", "fold")
    assert members.main(given) == 0
    stores = [fusion.LogitStore(tmp_path / "stores" / f"a_0{k}.zarr") for k in (1, 2)]
    assert [store.model for store in stores] == ["a_01", "a_02"]
    assert stores[0].videos == fusion.Labels.vspw(vspw, "val").videos
    assert stores[0].digest() != stores[1].digest()
    printed = capsys.readouterr().out.splitlines()
    words = shlex.split(printed[1])
    assert words[:2] == ["segfusion", "search"]
    more = ["--method", "grid", "--folds", "0", "--out", str(tmp_path / "results"), "--no-cache"]
    assert search.main([*words[2:], *more]) == 0
    soups = shlex.split(printed[3])
    assert soups[:3] == ["python", "-m", "fusion.models.soup"]
    soup.build_parser().parse_args(soups[3:])
    before = [store.digest() for store in stores]
    capsys.readouterr()
    assert members.main([*given, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["stores"] == [str(store.path) for store in stores]
    assert [fusion.LogitStore(store).digest() for store in again["stores"]] == before
    assert [Path(file).parent.name for file in again["weights"]] == ["a_01", "a_02"]


def test_one_member_in_a_job_of_its_own(vspw, tmp_path, capsys, monkeypatch):
    given = command(configuration(vspw, tmp_path), "--members", "2")
    assert members.main([*given, "--only", "2", "--flip", "--each-view"]) == 0
    assert not (tmp_path / "runs" / "a_01").exists()
    names = sorted(path.name for path in (tmp_path / "stores" / "a_02").iterdir())
    assert names == ["flip.zarr", "plain.zarr"]
    assert fusion.LogitStore(tmp_path / "stores" / "a_02" / "flip.zarr").model == "a_02_flip"
    with pytest.raises(InputError, match="only is 3 of 2; give 1 to 2"):
        members.main([*given, "--only", "3"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="2 processes would each train all; start one process a"):
        members.main(given)


def test_killed_between_members(vspw, tmp_path, monkeypatch):
    """What was there stays as it is, and the rest follows."""
    given = command(configuration(vspw, tmp_path), "--members", "2")
    calls = []

    def stops(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fill(*arguments, **options)

    monkeypatch.setattr("fusion.models.predict.fill", stops)
    with pytest.raises(KeyboardInterrupt):
        members.main(given)
    first = fusion.LogitStore(tmp_path / "stores" / "a_01.zarr")
    before = {p: p.stat().st_mtime_ns for p in Path(first.path).rglob("*") if p.is_file()}
    assert members.main(given) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert fusion.LogitStore(tmp_path / "stores" / "a_02.zarr").videos == first.videos


def test_snapshots_are_stores(vspw, tmp_path):
    path = configuration(vspw, tmp_path)
    assert members.main(command(path, "--members", "2", "--snapshots")) == 0
    stores = [fusion.LogitStore(tmp_path / "stores" / f"a_swa_0{k}.zarr") for k in (1, 2)]
    assert stores[0].digest() != stores[1].digest()
    assert (tmp_path / "runs" / "a" / "averaged.safetensors").exists()
