"""Search from stores to weights, and the command line as a user runs it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import fusion
from fusion import cli
from fusion.errors import InputError
from fusion.search import condense_ensemble, data_digest
from fusion.search.__main__ import main
from fusion.search.formation import score_models
from tests.search.simulated import VIDEOS, groups_of, write_toml


def test_condensed_set_is_the_same_for_every_scheduler_and_memory(ensemble, truth):
    weights = np.random.default_rng(0).uniform(0, 2, (20, 3))
    expected = condense_ensemble(ensemble, truth, scheduler="synchronous").confusions(weights)
    for scheduler in ("threads", "processes"):
        assert np.array_equal(
            condense_ensemble(ensemble, truth, scheduler=scheduler).confusions(weights), expected
        )
    tight = ensemble.regrouped(ensemble.groups, memory=8_000)
    assert len(tight.plan("a", ("group_means",)).bands) > 1
    assert np.array_equal(
        condense_ensemble(tight, truth, scheduler="synchronous").confusions(weights), expected
    )


def test_digest_follows_the_data_not_the_paths(data, ensemble, truth, tmp_path):
    digest = data_digest(ensemble, truth)
    assert data_digest(ensemble.with_weights({"weak": 9.0}), truth) == digest
    os.symlink(data, tmp_path / "elsewhere")
    assert (
        data_digest(fusion.HierarchicalEnsemble(groups_of(tmp_path / "elsewhere")), truth) == digest
    )
    assert data_digest(ensemble.regrouped(ensemble.groups, resize="logits"), truth) != digest
    assert (
        data_digest(
            fusion.HierarchicalEnsemble(groups_of(data), temperatures={"net_0": 2.0}), truth
        )
        != digest
    )


def test_unknown_methods_and_options(ensemble, truth):
    with pytest.raises(InputError, match="method: got 'magic'; choose one of"):
        ensemble.search(truth, "magic")
    with pytest.raises(InputError, match=r"options \['trials'\] unknown to 'grid'"):
        ensemble.search(truth, "grid", trials=3)
    with pytest.raises(InputError, match="unknown group 'stong'"):
        ensemble.search(truth, "grid", ranges={"stong": (0, 1, 0.5)})


def test_command_line_end_to_end(data, tmp_path, capsys):
    out, labels = tmp_path / "results", str(data / "labels" / "val")
    search = [
        "--ensemble",
        str(write_toml(data, tmp_path)),
        "--labels",
        labels,
        "--out",
        str(out),
        "--range",
        "weak=0:1:0.5",
        "--per-class",
    ]
    second = ["--test-labels", str(data / "labels" / "test"), "--test-stores", str(data / "test")]
    assert main([*search, *second]) == 0
    printed = capsys.readouterr().out
    for expected in (
        "best single: ",
        "P_strong",
        "uniform weights",
        "best weights by grid: strong 1 (2 models)",
        "val",
        "test",
        "road",
    ):
        assert expected in printed
    document = json.loads((out / "search.json").read_text())
    best = fusion.HierarchicalEnsemble.load(out / "best.json")
    truth = fusion.Labels.folder(labels)
    assert best.evaluate(truth).miou == document["result"]["miou"]
    elsewhere = fusion.HierarchicalEnsemble.load(out / "best.json", stores=data / "test")
    assert (
        elsewhere.evaluate(fusion.Labels.folder(data / "labels" / "test")).miou
        == document["scores"]["test"]["miou"]
    )
    with open(out / "trials.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 21
    assert max(float(row["miou"]) for row in rows) == document["result"]["miou"]


def test_auto_groups_on_the_command_line(data, tmp_path, capsys):
    basic, other = (
        sorted(str(path) for path in (data / "val").glob(f"{family}_*"))
        for family in ("net", "other")
    )
    arguments = [
        "--auto-groups",
        "--basic",
        *basic,
        "--other",
        *other,
        "--strong",
        "1",
        "--auxiliary",
        "1",
    ]
    assert (
        main(
            [
                *arguments,
                "--labels",
                str(data / "labels" / "val"),
                "--out",
                str(tmp_path),
                "--json",
                "--range",
                "weak=0:1:1",
            ]
        )
        == 0
    )
    document = json.loads(capsys.readouterr().out)
    ranked = sorted(
        (name for name in document["singles"]["val"] if "net" in name),
        key=lambda n: -document["singles"]["val"][n],
    )
    assert document["groups"]["strong"] == ranked[:1]
    assert sorted(document["groups"]["weak"]) == sorted(ranked[1:])
    assert len(document["groups"]["auxiliary"]) == 1


def test_optuna_on_the_command_line(data, tmp_path, capsys):
    arguments = [
        "--ensemble",
        str(write_toml(data, tmp_path)),
        "--labels",
        str(data / "labels" / "val"),
        "--out",
        str(tmp_path / "r"),
    ]
    assert main([*arguments, "--method", "optuna", "--trials", "4"]) == 0
    assert main([*arguments, "--method", "optuna", "--trials", "6"]) == 0
    assert "after 6 weightings" in capsys.readouterr().out
    assert (tmp_path / "r" / "study.db").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "LABELS"], "give one of --ensemble FILE, --auto-groups"),
        (["--ensemble", "nowhere.toml", "--labels", "LABELS"], "nowhere.toml: cannot be read"),
        (["--auto-groups", "--labels", "LABELS"], "--basic STORE"),
        (["--ensemble", "TOML"], "give either --labels DIR or --vspw ROOT"),
        (["--ensemble", "TOML", "--labels", "nowhere"], "nowhere"),
        (["--ensemble", "TOML", "--labels", "LABELS", "--range", "weak=0-2"], "FIRST:LAST:STEP"),
        (["--ensemble", "TOML", "--labels", "LABELS", "--range", "weak"], "NAME=VALUE"),
        (["--ensemble", "TOML", "--labels", "LABELS", "--memory", "4 apples"], "such as 4GB"),
        (["--ensemble", "TOML", "--labels", "LABELS", "--scheduler", "magic"], "magic"),
    ],
)
def test_mistakes_are_one_line_and_code_2(data, tmp_path, capsys, arguments, message):
    names = {"LABELS": str(data / "labels" / "val"), "TOML": str(write_toml(data, tmp_path))}
    assert (
        cli.run(main, [*(names.get(a, a) for a in arguments), "--out", str(tmp_path / "out")]) == 2
    )
    captured = capsys.readouterr()
    line = captured.err.strip().split("\n")[-1].split("\r")[-1]
    assert line.startswith("error: ")
    assert message in line
    assert captured.out == ""
    assert not (tmp_path / "out" / "best.json").exists()


def test_interrupt_leaves_no_half_written_result(data, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fusion.search.run.condense_ensemble", interrupted)
    arguments = [
        "--ensemble",
        str(write_toml(data, tmp_path)),
        "--labels",
        str(data / "labels" / "val"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert cli.run(main, arguments) == 130
    assert not (tmp_path / "out").exists()
    assert "run the same command to go on" in capsys.readouterr().err


@pytest.mark.parametrize("module", ["fusion.search", "fusion.stores"])
def test_help_teaches(module):
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True
    )
    assert f"python -m {module}" in done.stdout
    assert "examples:" in done.stdout


def test_bytes():
    from fusion.text import parse_bytes

    assert [parse_bytes(text) for text in ("4GB", "512MiB", "1000", " 1.5 kb ", 7)] == [
        4 * 10**9,
        512 << 20,
        1000,
        1500,
        7,
    ]
    for bad in ("4 apples", "", "GB", "-1GB", "nan"):
        with pytest.raises(InputError, match="such as 4GB"):
            parse_bytes(bad)


def test_cache_is_resumed_reused_and_keyed_by_the_data(ensemble, truth, tmp_path, monkeypatch):
    from fusion.contested.build import CondenseVideo

    weights = np.random.default_rng(1).uniform(0, 2, (9, 3))
    expected = condense_ensemble(ensemble, truth).confusions(weights)
    plain, built, allowed = CondenseVideo.__call__, [], 2

    def counted(task, video):
        if len(built) == allowed:
            raise KeyboardInterrupt
        built.append(video)
        return plain(task, video)

    monkeypatch.setattr(CondenseVideo, "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        condense_ensemble(ensemble, truth, cache=tmp_path, scheduler="synchronous")
    allowed = 100
    for _ in range(2):  # the second time nothing is built
        again = condense_ensemble(ensemble, truth, cache=tmp_path, scheduler="synchronous")
        assert np.array_equal(again.confusions(weights), expected)
        assert sorted(built) == ["a", "b", "c"]
    condense_ensemble(
        ensemble.regrouped(ensemble.groups, resize="logits"),
        truth,
        cache=tmp_path,
        scheduler="synchronous",
    )
    assert len(built) == 6
    parts = tmp_path / "parts"
    streamed = condense_ensemble(
        ensemble.regrouped(ensemble.groups, memory=30_000),
        truth,
        cache=parts,
        scheduler="synchronous",
    )
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
    labels, toml = str(data / "labels" / "val"), str(write_toml(data, tmp_path))
    arguments = [
        "--ensemble",
        toml,
        "--labels",
        labels,
        "--out",
        str(tmp_path / "r"),
        "--contributions",
    ]
    assert main([*arguments, "--method", "exact"]) == 0
    printed = capsys.readouterr().out
    for expected in (
        "(certified, ",
        "95 % interval over 3 videos",
        "held-out mIoU",
        "one-standard-error rule",
        "gain over uniform weights",
    ):
        assert expected in printed
    assert "lost without this model" in printed
    assert main([*arguments, "--method", "greedy", "--folds", "0", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["result"]["held_out"] is None
    assert len(document["contributions"]) == sum(
        weight > 0 for weight in document["result"]["weights"].values()
    )
    auto = [
        "--auto-groups",
        "--basic",
        *map(str, sorted((data / "val").glob("net_*"))),
        "--strong",
        "auto",
        "--labels",
        labels,
    ]
    assert main([*auto, "--out", str(tmp_path / "r"), "--json", "--range", "weak=0:1:1"]) == 0
    captured = capsys.readouterr()
    strong = len(json.loads(captured.out)["groups"]["strong"])
    assert f"groups formed: {strong} strong" in captured.err


def test_one_video_has_no_folds(data, tmp_path, capsys):
    (tmp_path / "labels").mkdir()
    os.symlink(data / "labels" / "val" / "a", tmp_path / "labels" / "a")
    arguments = [
        "--ensemble",
        str(write_toml(data, tmp_path)),
        "--labels",
        str(tmp_path / "labels"),
        "--out",
        str(tmp_path / "r"),
    ]
    assert cli.run(main, arguments) == 0
    assert "one video: no interval and no held-out score" in capsys.readouterr().out
    assert cli.run(main, [*arguments, "--folds", "2"]) == 2
    assert "holding out needs at least 2" in capsys.readouterr().err
