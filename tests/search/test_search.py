"""Search from stores to weights, and the command line as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

import fusion
from fusion import cli
from fusion.contested.build import CondenseVideo
from fusion.errors import InputError
from fusion.search import condense_ensemble, data_digest
from fusion.search.__main__ import main
from fusion.search.formation import score_models
from fusion.text import parse_bytes
from tests.samples import VIDEOS
from tests.search.simulated import arguments, groups_of


def test_condensed_set_is_the_same_for_every_scheduler_and_memory(ensemble, truth):
    weights = np.random.default_rng(0).uniform(0, 2, (20, 3))
    expected = condense_ensemble(ensemble, truth, scheduler="synchronous").confusions(weights)
    tight = ensemble.regrouped(ensemble.groups, memory=8_000)
    assert len(tight.plan("a", ("group_means",)).bands) > 1
    rest = ((ensemble, "threads"), (ensemble, "processes"), (tight, "synchronous"))
    for same, scheduler in rest:
        condensed = condense_ensemble(same, truth, scheduler=scheduler)
        assert np.array_equal(condensed.confusions(weights), expected)


def test_digest_follows_the_data_not_the_paths(data, ensemble, truth, tmp_path):
    digest = data_digest(ensemble, truth)
    assert data_digest(ensemble.with_weights({"weak": 9.0}), truth) == digest
    os.symlink(data, tmp_path / "elsewhere")
    elsewhere = fusion.HierarchicalEnsemble(groups_of(tmp_path / "elsewhere"))
    assert data_digest(elsewhere, truth) == digest
    for other in ({"resize": "logits"}, {"temperatures": {"net_0": 2.0}}):
        assert data_digest(ensemble.regrouped(ensemble.groups, **other), truth) != digest


def test_unknown_methods_and_options(ensemble, truth):
    with pytest.raises(InputError, match="method: got 'magic'; choose one of"):
        ensemble.search(truth, "magic")
    with pytest.raises(InputError, match=r"options \['trials'\] unknown to 'grid'"):
        ensemble.search(truth, "grid", trials=3)
    with pytest.raises(InputError, match="unknown group 'stong'"):
        ensemble.search(truth, "grid", ranges={"stong": (0, 1, 0.5)})


def test_command_line_end_to_end(data, tmp_path, capsys):
    out, val, test = tmp_path / "out", data / "labels" / "val", data / "labels" / "test"
    search = arguments(data, tmp_path, "--method", "grid", "--range", "weak=0:1:0.5", "--per-class")
    second = ["--test-labels", str(test), "--test-stores", str(data / "test")]
    assert main([*search, *second]) == 0
    printed = capsys.readouterr().out
    rows = ("best single: ", "P_strong", "uniform weights", "val", "test", "road")
    for expected in (*rows, "best weights by grid: strong 1 (2 models)"):
        assert expected in printed
    document = json.loads((out / "search.json").read_text())
    best = fusion.HierarchicalEnsemble.load(out / "best.json")
    assert best.evaluate(fusion.Labels.folder(val)).miou == document["result"]["miou"]
    elsewhere = fusion.HierarchicalEnsemble.load(out / "best.json", stores=data / "test")
    scores = elsewhere.evaluate(fusion.Labels.folder(test))
    assert scores.miou == document["scores"]["test"]["miou"]
    with open(out / "trials.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 21
    assert max(float(row["miou"]) for row in rows) == document["result"]["miou"]


def stores_of(data, family):
    return sorted(str(path) for path in (data / "val").glob(f"{family}_*"))


def auto(data, folder, strong, *more):
    said = ["--auto-groups", "--basic", *stores_of(data, "net"), "--strong", strong, *more]
    said += ["--labels", str(data / "labels" / "val"), "--range", "weak=0:1:1"]
    return [*said, "--method", "grid", "--json", "--out", str(folder)]


def test_auto_groups_on_the_command_line(data, tmp_path, capsys):
    said = auto(data, tmp_path, "1", "--auxiliary", "1", "--other", *stores_of(data, "other"))
    assert main(said) == 0
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    singles = document["singles"]["val"]
    ranked = sorted((n for n in singles if "net" in n), key=singles.get, reverse=True)
    assert document["groups"]["strong"] == ranked[:1]
    assert sorted(document["groups"]["weak"]) == sorted(ranked[1:])
    assert len(document["groups"]["auxiliary"]) == 1
    (left_out,) = {"other_4", "other_5"} - set(document["groups"]["auxiliary"])
    known = {name: document["groups"][name] for name in ("strong", "weak", "auxiliary")}
    groups = (f"{len(m)} {name} ({', '.join(m)})" for name, m in known.items())
    line = f"groups formed: {', '.join(groups)}, 1 left out ({left_out})\n"
    assert captured.err.count(line) == 1


def test_optuna_on_the_command_line(data, tmp_path, capsys):
    for trials in ("4", "6"):
        assert main(arguments(data, tmp_path, "--method", "optuna", "--trials", trials)) == 0
        said = capsys.readouterr()
        assert f"after {trials} trials" in said.out
        lines = re.findall(
            r"optuna: (.+) weightings, \d+ s at most, and again in each of 3", said.err
        )
        assert lines == [trials]
        assert said.err.count("5 folds asked for, 3 units there: 3 folds\n") == 1
    assert (tmp_path / "out" / "study.db").is_file()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("--labels LABELS", "give one of --stores STORE, --ensemble FILE, --auto-groups"),
        ("--ensemble nowhere.toml --labels LABELS", "nowhere.toml: cannot be read"),
        ("--auto-groups --labels LABELS", "--basic STORE"),
        ("--ensemble TOML", "give either --labels DIR or --vspw ROOT"),
        ("--ensemble TOML --labels nowhere", "nowhere"),
        ("--ensemble TOML --labels LABELS --method grid --range weak=0-2", "FIRST:LAST:STEP"),
        ("--ensemble TOML --labels LABELS --method grid --range weak", "NAME=VALUE"),
        ("--ensemble TOML --labels LABELS --memory 4apples", "such as 4GB"),
        ("--ensemble TOML --labels LABELS --scheduler magic", "magic"),
    ],
)
def test_mistakes_are_one_line_and_code_2(data, tmp_path, capsys, said, message):
    _, toml, _, labels, *out = arguments(data, tmp_path)
    words = [{"TOML": toml, "LABELS": labels}.get(word, word) for word in said.split()]
    assert cli.run(main, [*words, *out]) == 2
    captured = capsys.readouterr()
    line = captured.err.strip().split("\n")[-1].split("\r")[-1]
    assert line.startswith("error: ")
    assert message in line
    assert captured.out == ""
    assert not (tmp_path / "out" / "best.json").exists()


def test_interrupt_leaves_no_half_written_result(data, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fusion.search.split.condense_ensemble", interrupted)
    assert cli.run(main, arguments(data, tmp_path)) == 130
    assert not (tmp_path / "out").exists()
    assert "run the same command to go on" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["fusion.search", "fusion.stores"])
def test_help_teaches(module):
    said = [sys.executable, "-m", module, "--help"]
    told = subprocess.run(said, capture_output=True, text=True, check=True).stdout
    assert f"python -m {module}" in told
    assert "examples:" in told


def test_bytes():
    texts = ("4GB", "512MiB", "1000", " 1.5 kb ", 7)
    assert [parse_bytes(text) for text in texts] == [4 * 10**9, 512 << 20, 1000, 1500, 7]
    for bad in ("4 apples", "", "GB", "-1GB", "nan"):
        with pytest.raises(InputError, match="such as 4GB"):
            parse_bytes(bad)


def test_cache_is_resumed_reused_and_keyed_by_the_data(ensemble, truth, tmp_path, monkeypatch):
    weights = np.random.default_rng(1).uniform(0, 2, (9, 3))
    expected = condense_ensemble(ensemble, truth).confusions(weights)
    plain, built, allowed = CondenseVideo.__call__, [], 2

    def counted(task, video):
        if len(built) == allowed:
            raise KeyboardInterrupt
        built.append(video)
        return plain(task, video)

    monkeypatch.setattr(CondenseVideo, "__call__", counted)
    again = partial(condense_ensemble, truth=truth, cache=tmp_path, scheduler="synchronous")
    with pytest.raises(KeyboardInterrupt):
        again(ensemble)
    allowed = 100
    for _ in range(2):  # the second time nothing is built
        assert np.array_equal(again(ensemble).confusions(weights), expected)
        assert sorted(built) == ["a", "b", "c"]
    again(ensemble.regrouped(ensemble.groups, resize="logits"))
    assert len(built) == 6
    tight = ensemble.regrouped(ensemble.groups, memory=30_000)
    streamed = again(tight, cache=tmp_path / "parts")
    assert not streamed.resident
    widths = streamed.pixels[0].widths[:, 0].tolist()
    assert len(set(widths)) < len(widths)  # the video was written in several blocks
    assert np.array_equal(streamed.confusions(weights), expected)


@pytest.mark.parametrize("memory", ["4GB", 8_000])
def test_stride_scores_every_other_row_and_column(data, ensemble, truth, memory):
    thinned = ensemble.regrouped(ensemble.groups, memory=memory)
    condensed = condense_ensemble(thinned, truth, stride=3, scheduler="synchronous")
    expected = np.zeros((4, 4), np.int64)
    for video in VIDEOS:
        for frame, labels in ensemble.label_maps(video):
            target = truth.read(video, frame)[::3, ::3]
            np.add.at(expected, (target[target != 255], labels[::3, ::3][target != 255]), 1)
    assert np.array_equal(condensed.confusions([[1, 1, 1]])[0], expected)
    with pytest.raises(InputError, match="stride: got 0"):
        condense_ensemble(ensemble, truth, stride=0)


@pytest.mark.parametrize("method", ["greedy", "exact"])
def test_methods_over_single_models(ensemble, truth, method):
    options = {"greedy": {"steps": 8}, "exact": {"climbs": 1}}[method]
    found = ensemble.search(truth, method, over="models", **options)
    assert found.groups == tuple(store.model for store in ensemble.stores)
    assert found.ensemble.evaluate(truth).miou == found.miou
    assert found.miou >= max(scores.miou for scores in score_models(ensemble, truth).values())
    assert found.miou >= ensemble.search(truth, "greedy", steps=8).miou


def test_honest_lines_on_the_command_line(data, tmp_path, capsys):
    said = arguments(data, tmp_path, "--contributions")
    assert main([*said, "--method", "exact", "--certify", "inf"]) == 0
    printed = " ".join(capsys.readouterr().out.split())  # sentences go on in the next line
    lines = ("95 % interval of this score on these 3 units", "held out, vspw %: uniform weights")
    lines = (*lines, "on 3 new videos expect", "only 3 units were held out (below 8)", "verdict: ")
    others = ("(certified, ", "gain over uniform weights", "lost without this model")
    for expected in (*lines, *others):
        assert expected in printed
    assert main([*said, "--method", "greedy", "--folds", "0", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["result"]["held_out"] is None
    used = [name for name, weight in document["result"]["weights"].items() if weight > 0]
    assert len(document["contributions"]) == len(used)
    assert main(auto(data, tmp_path / "out", "auto")) == 0
    captured = capsys.readouterr()
    strong = len(json.loads(captured.out)["groups"]["strong"])
    assert f"groups formed: {strong} strong" in captured.err


def test_one_video_has_no_folds(data, tmp_path, capsys):
    (tmp_path / "labels").mkdir()
    os.symlink(data / "labels" / "val" / "a", tmp_path / "labels" / "a")
    said = arguments(data, tmp_path, "--labels", str(tmp_path / "labels"))  # the last one counts
    assert cli.run(main, said) == 0
    assert "one unit: no interval and no held-out score" in capsys.readouterr().out
    assert cli.run(main, [*said, "--folds", "2"]) == 2
    assert "holding out needs at least 2" in capsys.readouterr().err
