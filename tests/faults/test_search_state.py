"""What a search leaves and reads again: states, results and heads, edited or damaged."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import fusion
from fusion import sealed
from fusion.ensemble.heads import HEADS
from fusion.errors import CorruptStoreError, FusionError, InputError, StoreError
from fusion.metrics.objectives import objective
from fusion.report.results import read_document
from fusion.search.exact import proof
from fusion.search.exact.climb import Exact
from fusion.search.grid import Grid
from fusion.search.learned.fit import Fit, Training
from fusion.search.method import Method, Problem
from tests.faults.searching import tried
from tests.samples import write_sample
from tests.search.learned.test_fit import sample
from tests.search.simulated import small


def state_of(folder: Path, seed: int = 5, groups: int = 2) -> tuple[Exact, Problem, Path]:
    """A whole search's state."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "state.json"
    method = Exact(climbs=1, gap=0.03, certify=math.inf, state=path)
    problem = Problem(small(groups, seed=seed, pixels=200))
    method.search(problem)
    return method, problem, path


def numbers(method: Method, problem: Problem) -> list[object]:
    found = method.search(problem)
    assert found.certificate is not None
    return [found.vector, found.miou, {**found.certificate, "seconds": 0}]


def edited(path: Path, change: Callable[[dict], object], seal: bool = False) -> None:
    document = sealed.unsealed(json.loads(path.read_text()))
    change(document)
    path.write_text(json.dumps(sealed.sealed(document) if seal else document))


EDITS = {
    "a score": (lambda d: d["found"][0].__setitem__(1, 0.99), "says 0.99 of weights"),
    "complete, gap 0": (
        lambda d: [leaf.__setitem__(0, d["found"][0][1]) for leaf in d["certify"]["open"]],
        "is an upper bound where the pixels give",
    ),
    "one bound": (
        lambda d: d["certify"]["open"][-1].__setitem__(0, 0.001),
        "says 0.001 is an upper bound where the pixels give",
    ),
    "nothing is open": (lambda d: d["certify"].update(open=[]), "do not cover all weightings"),
    "nothing is open, not begun": (lambda d: d["certify"].update(open=[], boxes=0), None),
    "one simplex less": (lambda d: d["certify"]["open"].pop(), "do not cover all weightings"),
    "one simplex twice": (
        lambda d: d["certify"]["open"].append(d["certify"]["open"][0]),
        "its simplexes overlap",
    ),
    "another simplex": (
        lambda d: d["certify"]["open"][0][1][0].__setitem__(0, 0.3),
        "do not cover all weightings",
    ),
    "no numbers": (lambda d: d["found"][0].__setitem__(0, ["x", 1]), "are no weights of 2 groups"),
    "fewer steps than none": (lambda d: d.update(step=-1), "is no number that can be there"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_state_is_not_believed(tmp_path, edit):
    """Neither with the old seal, nor with a new one, nor, as older versions wrote it, with none."""
    method, problem, path = state_of(tmp_path)
    clean, sound = numbers(method, problem), path.read_bytes()
    change, said = EDITS[edit]
    document = json.loads(sound)
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(StoreError, match="changed since it was written, its sha256 is another"):
        method.search(problem)
    for seal in (True, False):
        path.write_bytes(sound)
        edited(path, change, seal)
        if said is None:  # nothing is claimed, so it begins anew
            assert numbers(method, problem) == clean
            continue
        with pytest.raises(StoreError) as caught:
            method.search(problem)
        assert str(caught.value).startswith(str(path))
        assert said in str(caught.value)
        assert "delete it or give another file" in str(caught.value)


def test_long_certificates_are_proved_before_they_are_complete(tmp_path, monkeypatch):
    """Of many simplexes some are bounded at once, the rest when nothing else is left to do."""
    monkeypatch.setattr(proof, "EVERY", 1)
    method, problem, path = state_of(tmp_path, groups=3)
    clean = numbers(method, problem)
    assert clean[2]["complete"]
    leaves = json.loads(path.read_text())["certify"]["open"]
    assert len(leaves) > proof.HIGHEST + proof.DRAWN
    late = numbers(replace(method, time_limit=1e6), problem)
    assert late == clean

    def lowered(document):
        for leaf in document["certify"]["open"]:
            leaf[0] -= 0.01

    edited(path, lowered, seal=True)
    with pytest.raises(StoreError, match="is an upper bound where the pixels give"):
        method.search(problem)


def test_what_was_not_proved_again_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(proof, "EVERY", 1)
    method, problem, path = state_of(tmp_path, groups=3)
    monkeypatch.setattr(proof.Proof, "go_on", lambda self, deadline=0.0: None)
    found = method.search(problem).certificate
    assert not found["complete"]
    assert 0 < found["taken"] < len(json.loads(path.read_text())["certify"]["open"])


def test_a_certificate_that_cannot_be_proved_begins_anew(tmp_path, capsys):
    """States of 0.1 do not say which simplexes were too small to be halved."""
    method, problem, path = state_of(tmp_path)
    clean = numbers(method, problem)

    def older(document):
        del document["certify"]["closed"]
        document["certify"]["settled"] = 0.01

    edited(path, older)
    assert numbers(method, problem) == clean
    said = "the certificate of an older version, which cannot be proved again, begins anew"
    assert capsys.readouterr().err == f"{path}: {said}\n"


def damage_state(tmp_path, every):
    method, problem, path = state_of(tmp_path / "a")
    other = state_of(tmp_path / "b", seed=1)[2]
    return tried(path, other, every, lambda: numbers(method, problem))


def test_some_damages_to_a_state(tmp_path):
    assert damage_state(tmp_path, 97)["refused"] > 10


@pytest.mark.slow
def test_damages_to_a_state(tmp_path):
    assert damage_state(tmp_path, 1)["refused"] > 500


def test_a_method_that_lies_is_caught(saved, monkeypatch):
    """Whatever a method reports is counted again at the end."""
    honest = Grid.search

    def lying(self, problem, workspace=None):
        found = honest(self, problem)
        return replace(found, miou=0.99)

    ensemble = fusion.HierarchicalEnsemble.load(saved / "ensemble.toml")
    truth = fusion.Labels.folder(saved / "labels")
    monkeypatch.setattr(Grid, "search", lying)
    with pytest.raises(CorruptStoreError, match=r"search by grid: says 0.99 of .*the pixels give"):
        ensemble.search(truth, "grid", folds=0, ranges={"weak": (0, 1, 1)})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folder of stores and labels, and best.json in a folder below."""
    folder = tmp_path_factory.mktemp("saved")
    ensemble = fusion.HierarchicalEnsemble.load(write_sample(folder))
    (folder / "a").mkdir()
    ensemble.with_weights({"strong": 1.0, "weak": 0.25}).save(folder / "a" / "best.json")
    return folder


def test_a_saved_ensemble_is_edited_on_purpose(saved):
    """By whoever takes the line with its seal out; what older versions wrote has none."""
    path, load = saved / "mine.json", fusion.HierarchicalEnsemble.load
    text = (saved / "a" / "best.json").read_text().replace("../", "")
    path.write_text(text)
    with pytest.raises(StoreError) as caught:
        load(path)
    do = "search again, or remove its line 'sha256' to use it as it is"
    assert str(caught.value).endswith(f"changed since it was written, its sha256 is another; {do}")
    lines = [line for line in text.splitlines() if '"sha256"' not in line]
    path.write_text("\n".join(lines).replace("0.25", "0.5"))
    assert load(path).weights == {"strong": 1.0, "weak": 0.5}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("deep.json", '{"a":' * 100_000),
        ("deep.toml", "a = " + "[" * 100_000),
        ("deep.toml", "a = " + "{a=" * 100_000),
        ("list.json", "[]"),
        ("wide.json", '{"a": ' + "9" * 10_000 + "}"),
    ],
)
def test_hostile_ensembles(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(FusionError, match=name) as caught:
        fusion.HierarchicalEnsemble.load(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_edited_results_are_refused(tmp_path):
    document = {"result": 1, "ladder": [], "inputs": {"a": 1}, "searched": "best.json"}
    (tmp_path / "best.json").write_text("{}")
    path = tmp_path / "search.json"
    path.write_text(json.dumps(sealed.sealed(document)))
    assert read_document(tmp_path) == document
    path.write_text(path.read_text().replace('"result": 1', '"result": 2'))
    with pytest.raises(StoreError, match=r"search.json: cannot be read \(changed since it was wri"):
        read_document(tmp_path)
    path.write_text(json.dumps(document))  # of an older version
    assert read_document(tmp_path) == document


def damage_results(tmp_path, every):
    folder = tmp_path / "results"
    folder.mkdir()
    document = {"result": {"miou": 0.5}, "ladder": [], "inputs": {"a": 1}, "searched": "best.json"}
    (folder / "best.json").write_text("{}")
    path = folder / "search.json"
    path.write_text(json.dumps(sealed.sealed(document)))

    def read():
        found = read_document(folder)
        return {key: found[key] for key in document}

    return tried(path, None, every, read, named="search.json")


def test_damages_to_results(tmp_path):
    assert damage_results(tmp_path, 1)["refused"] > 100


def quickly(training, form, below, given, strengths, at):
    """What stands for training: parameters that depend on the cells."""
    start = form.start(*given.logs.shape[1:], below)
    moved = {name: array + given.logs.mean() for name, array in start.items()}
    return [Fit(moved, strength, None) for strength in strengths]


def heads_of(folder: Path, seed: int = 0) -> bytes:
    """Trained heads as bytes; found in the folder, or trained into it."""
    training = Training(objective("vspw"), 1.0, torch.device("cpu"), folder)
    fits = training.path(HEADS["log"], None, sample(seed), [0.1, 0.01])
    arrays = [array.tobytes() for fit in fits for _, array in sorted(fit.arrays.items())]
    return b"".join(arrays) + repr([fit.loss for fit in fits]).encode()


def test_heads_of_another_name_are_trained_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Training, "_descend", quickly)
    folder = tmp_path / "heads"
    clean = heads_of(folder)
    (mine,) = folder.iterdir()
    heads_of(folder, seed=1)
    (theirs,) = set(folder.iterdir()) - {mine}
    shutil.copyfile(theirs, mine)
    assert heads_of(folder) == clean
    said = "heads are trained again, these cannot be used (of another head)"
    assert capsys.readouterr().err == f"{mine}: {said}\n"
    mine.unlink()
    os.mkfifo(mine)
    assert heads_of(folder) == clean
    assert "no plain file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "range_of", [(0.0, 1.0, 1e-9), (0.0, 1e308, 1e-300), (0.0, 1.0, 5e-324), (0.0, 1.0, 1e-6)]
)
def test_grids_are_counted_before_they_are_made(range_of):
    with pytest.raises(InputError, match=r"grid: more than 1000000 points over 3 groups, with"):
        Grid(ranges={"g1": range_of}).search(Problem(small()))


@pytest.mark.parametrize("seed", [-1, 1 << 32, 1.5, "x", None, True])
def test_seeds(seed):
    with pytest.raises(InputError, match=r"seed: got .*; give a whole number from 0 to 4294967295"):
        Problem(small(), seed=seed)
