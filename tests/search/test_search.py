"""Search from stores to weights: against brute force with the ensemble itself, and the command line as a user runs it."""

from __future__ import annotations

import csv
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fusion
from fusion import cli, evaluate, predict
from fusion.errors import InputError
from fusion.labels import write_labels
from fusion.search import METHODS, condense_ensemble, data_digest
from fusion.search.__main__ import main
from fusion.search.grid import grid_axes
from fusion.search.ladder import formula, group_rungs
from fusion.search.models import auto_groups, score_models

CLASSES = ["sky", "road", "car", "tree"]
SIZE, NATIVE = (20, 28), (5, 7)
VIDEOS = ("a", "b", "c")
FRAMES = ("0", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six stores of models of different skill in two families, and their ground truth, for two splits."""
    folder = tmp_path_factory.mktemp("data")
    for split, seed in (("val", 0), ("test", 100)):
        draw = np.random.default_rng(seed)
        coarse = {(v, f): draw.integers(0, 4, NATIVE) for v in VIDEOS for f in FRAMES}
        for (video, frame), classes in coarse.items():
            target = np.kron(classes, np.ones((4, 4))).astype(np.uint8)
            target[0] = 255
            write_labels(folder / "labels" / split / video / f"{frame}.png", target)
        for k in range(6):
            name = f"{'net' if k < 4 else 'other'}_{k}"
            with fusion.LogitWriter(folder / split / f"{name}.zarr", CLASSES) as writer:
                for video in VIDEOS:
                    with writer.video(video, frames=FRAMES, size=SIZE) as out:
                        for frame in FRAMES:
                            truth = np.eye(4)[coarse[video, frame]].transpose(2, 0, 1)
                            out.append(1.5 * truth + draw.normal(0, 0.7 + 0.25 * k, truth.shape))
    return folder


def groups_of(data: Path, split: str = "val") -> dict[str, list[Path]]:
    stores = sorted((data / split).glob("*.zarr"))
    return {"strong": stores[:2], "weak": stores[2:4], "auxiliary": stores[4:]}


@pytest.fixture(scope="module")
def truth(data):
    return fusion.Labels.folder(data / "labels" / "val")


@pytest.fixture(scope="module")
def ensemble(data):
    return fusion.HierarchicalEnsemble(groups_of(data))


@pytest.mark.parametrize("resize", ["probabilities", "logits"])
@pytest.mark.parametrize("convention", ["vspw", "union", "all"])
def test_grid_equals_evaluating_every_point(data, truth, resize, convention):
    ensemble = fusion.HierarchicalEnsemble(groups_of(data), resize=resize)
    ranges = {"weak": (0.0, 2.0, 1.0), "auxiliary": (0.5, 1.5, 0.5)}
    found = ensemble.search(truth, "grid", ranges=ranges, convention=convention)
    expected = {}
    for alpha, beta in itertools.product((0.0, 1.0, 2.0), (0.5, 1.0, 1.5)):
        weights = {"strong": 1.0, "weak": alpha, "auxiliary": beta}
        expected[1.0, alpha, beta] = (
            ensemble.with_weights(weights).evaluate(truth, convention=convention).miou
        )
    assert {trial.weights: trial.miou for trial in found.history} == expected
    assert found.miou == max(expected.values())
    assert expected[found.vector] == found.miou
    assert found.ensemble.evaluate(truth, convention=convention).miou == found.miou


def test_default_grid_is_the_papers(ensemble, truth):
    found = ensemble.search(truth)
    assert len(found.history) == 441
    assert {trial.weights[0] for trial in found.history} == {1.0}
    assert sorted({trial.weights[1] for trial in found.history}) == [
        round(0.1 * k, 1) for k in range(21)
    ]
    assert (1.0, 1.4, 1.0) in {trial.weights for trial in found.history}


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


def test_ladder_rows_equal_ensembles_of_fewer_groups(data, ensemble, truth):
    condensed = condense_ensemble(ensemble, truth)
    rungs = group_rungs({"val": condensed}, [1.0, 0.5, 2.0], "vspw")
    assert [rung.name for rung in rungs] == [
        "P_strong",
        "P_strong + 0.5 P_weak",
        "P_strong + 0.5 P_weak + 2 P_auxiliary",
        "uniform weights",
        "the paper's weights: P_strong + 1.4 P_weak + P_auxiliary",
    ]
    groups = groups_of(data)
    for count, rung in enumerate(rungs[:3], start=1):
        part = dict(itertools.islice(groups.items(), count))
        weights = {
            name: w
            for name, w in {"strong": 1.0, "weak": 0.5, "auxiliary": 2.0}.items()
            if name in part
        }
        alone = fusion.HierarchicalEnsemble(part, weights).evaluate(truth)
        assert rung.scores["val"].miou == alone.miou
        assert all(
            np.array_equal(rung.scores["val"].confusions[v], alone.confusions[v]) for v in VIDEOS
        )
    assert formula(["a", "b"], [0.0, 1.5]) == "1.5 P_b"
    assert formula(list("abcdefg"), [0.0, 1.5, 1, 0, 0, 0, 0]) == "weights found, 2 of 7"
    assert [rung.name for rung in group_rungs({"val": condensed}, [1.0, 0.0, 0.0], "vspw")][:2] == [
        "P_strong",
        "uniform weights",
    ]


def test_single_models_equal_ensembles_of_one(ensemble, truth):
    scores = score_models(ensemble, truth)
    assert list(scores) == sorted(scores, key=lambda name: -scores[name].miou)
    for store in ensemble.stores:
        assert (
            scores[store.model].miou
            == fusion.HierarchicalEnsemble({"g": [store]}).evaluate(truth).miou
        )


def test_auto_groups_ranks_as_the_paper_does():
    miou = {"n1": 0.5, "n2": 0.7, "n3": 0.6, "n4": 0.7, "o1": 0.2, "o2": 0.4, "o3": 0.3}
    groups = auto_groups(["n1", "n2", "n3", "n4"], ["o1", "o2", "o3"], miou, strong=2, auxiliary=2)
    assert groups == {"strong": ["n2", "n4"], "weak": ["n3", "n1"], "auxiliary": ["o2", "o3"]}
    assert auto_groups(["n1", "n2"], [], miou, strong=2, auxiliary=0) == {"strong": ["n2", "n1"]}
    with pytest.raises(InputError, match="basic family has 1 models, 3 asked for"):
        auto_groups(["n1"], [], miou, auxiliary=0)
    with pytest.raises(InputError, match="'n1' is in both families"):
        auto_groups(["n1"], ["n1"], miou, strong=1, auxiliary=1)


def test_optuna_resumes_and_refuses_other_data(ensemble, truth, tmp_path):
    options = {"storage": f"sqlite:///{tmp_path / 'study.db'}", "seed": 3}
    first = ensemble.search(truth, "optuna", trials=6, **options)
    assert len(first.history) == 6
    assert {(1.0, 1.0, 1.0), (1.0, 0.0, 0.0)} <= {trial.weights for trial in first.history}
    more = ensemble.search(truth, "optuna", trials=10, **options)
    assert more.history[:6] == first.history
    assert len(more.history) == 10
    assert (
        more.miou == max(trial.miou for trial in more.history) == more.ensemble.evaluate(truth).miou
    )
    other = ensemble.regrouped(
        {"strong": ensemble.groups["strong"], "weak": ensemble.groups["weak"]}
    )
    with pytest.raises(InputError, match="is of other stores, labels or groups"):
        other.search(truth, "optuna", trials=12, **options)
    with pytest.raises(InputError, match="cannot be opened"):
        ensemble.search(truth, "optuna", storage="nosuch://x")
    with pytest.raises(InputError, match="sampler 'gauss'"):
        ensemble.search(truth, "optuna", sampler="gauss")


def test_processes_that_share_a_study_stop_at_its_trials(ensemble, truth, tmp_path):
    condensed, storage = condense_ensemble(ensemble, truth), f"sqlite:///{tmp_path / 'study.db'}"

    class Neighboured:
        """While the first trial is scored, another process fills the study."""

        groups, calls = condensed.groups, 0

        def miou(self, weights, convention):
            self.calls += 1
            if self.calls == 1:
                METHODS["optuna"](condensed, trials=5, storage=storage)
            return condensed.miou(weights, convention)

    mine = Neighboured()
    assert len(METHODS["optuna"](mine, trials=5, storage=storage).history) == 6
    assert mine.calls == 1


def test_optuna_survives_failing_trials(ensemble, truth):
    condensed = condense_ensemble(ensemble, truth)

    class Flaky:
        groups, calls = condensed.groups, 0

        def miou(self, weights, convention):
            self.calls += 1
            if self.calls % 3 == 0:
                raise RuntimeError("out of memory")
            return (
                condensed.miou(weights, convention) if self.calls % 3 == 1 else np.array([np.nan])
            )

    found = METHODS["optuna"](Flaky(), trials=9)
    assert found.notes["failed_trials"] == 6
    assert len(found.history) == 3


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


def test_grid_axes():
    assert grid_axes(["a", "b"], {"b": (0, 0.3, 0.1)}) == [[1.0], [0.0, 0.1, 0.2, 0.3]]
    assert grid_axes(["a", "b"], {"a": (0, 1, 0.5), "b": (2, 2, 1)}) == [[0.0, 0.5, 1.0], [2.0]]
    for bad in ((1, 0, 0.1), (-1, 1, 0.5), (0, 1, 0), (0, float("inf"), 1)):
        with pytest.raises(InputError, match="give first:last:step"):
            grid_axes(["a", "b"], {"b": bad})
    with pytest.raises(InputError, match="points over 6 groups"):
        grid_axes(list("abcdef"), {})


def write_toml(data: Path, folder: Path) -> Path:
    lines = [f"{name} = {[str(path) for path in paths]}" for name, paths in groups_of(data).items()]
    (folder / "ensemble.toml").write_text("[groups]\n" + "\n".join(lines) + "\n")
    return folder / "ensemble.toml"


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

    pngs = tmp_path / "pngs"
    assert predict.main(["--ensemble", str(out / "best.json"), "--out", str(pngs), "--zip"]) == 0
    with Image.open(pngs / "a" / "1.png") as image:
        assert np.array_equal(np.asarray(image), best.predict("a", ["1"])[0])
    assert (tmp_path / "pngs.zip").is_file()
    capsys.readouterr()
    assert evaluate.main(["--ensemble", str(out / "best.json"), "--labels", labels, "--json"]) == 0
    of_ensemble = json.loads(capsys.readouterr().out)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    arguments = [
        "--predictions",
        str(pngs),
        "--classes",
        str(tmp_path / "classes.txt"),
        "--labels",
        labels,
        "--json",
    ]
    assert evaluate.main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == of_ensemble
    assert of_ensemble["miou"] == document["result"]["miou"]
    assert of_ensemble["vc8"] is None  # two frames a video
    assert evaluate.main([*arguments[:-1], "--per-class"]) == 0
    assert "VC16" in capsys.readouterr().out


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


def test_predict_refuses_then_resumes(data, tmp_path, capsys):
    arguments = ["--ensemble", str(write_toml(data, tmp_path)), "--out", str(tmp_path / "pngs")]
    assert cli.run(predict.main, [*arguments, "--videos", "a"]) == 0
    assert cli.run(predict.main, arguments) == 2
    assert "is taken" in capsys.readouterr().err
    assert cli.run(predict.main, [*arguments, "--resume"]) == 0
    assert "4 label maps written, 2 were there already" in capsys.readouterr().out
    assert cli.run(predict.main, [*arguments, "--overwrite"]) == 0
    assert cli.run(predict.main, [*arguments, "--videos", "aa"]) == 2
    assert "did you mean 'a'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../x", "", ".", "a/b", "a\0b", "x" * 300])
def test_ids_that_cannot_be_file_names(name):
    with pytest.raises(InputError, match="cannot be a file name"):
        predict.safe_name(name)


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


@pytest.mark.parametrize(
    "module", ["fusion.search", "fusion.stores", "fusion.predict", "fusion.evaluate"]
)
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


def test_exact_is_never_below_the_grid_and_is_certified(ensemble, truth):
    found = ensemble.search(truth, "exact", folds=3)
    assert found.miou >= ensemble.search(truth, "grid").miou
    assert found.ensemble.evaluate(truth).miou == found.miou
    assert found.miou <= found.certificate["upper_bound"] <= found.miou + 1e-4
    assert found.interval() == found.scores.interval()
    assert found.held_out is not None


def test_formation_and_contributions_equal_real_ensembles(ensemble, truth):
    from fusion.search.formation import choose_formation, model_contributions

    singles = condense_ensemble(ensemble.singles(), truth)
    ranked = list(score_models(ensemble, truth))
    basic, other = ([name for name in ranked if family in name] for family in ("net", "other"))
    best, table = choose_formation(singles, basic, other)
    assert len(table) == 4 * 3
    assert best.miou == max(row.miou for row in table)
    store_of = {store.model: store for store in ensemble.stores}
    for row in table:
        groups = {
            "strong": basic[: row.strong],
            "weak": basic[row.strong :],
            "auxiliary": other[: row.auxiliary],
        }
        filled = {
            name: [store_of[m] for m in members] for name, members in groups.items() if members
        }
        weights = dict(zip(groups, row.weights, strict=True))
        real = (
            ensemble.regrouped(filled, {name: weights[name] for name in filled})
            .evaluate(truth)
            .miou
        )
        assert row.miou == pytest.approx(
            real, abs=2e-3
        )  # other order of sums: a near tie may fall otherwise
    groups = {name: [store.model for store in stores] for name, stores in ensemble.groups.items()}
    weights = {"strong": 1.0, "weak": 0.0, "auxiliary": 2.0}
    added = model_contributions(singles, groups, weights)
    assert sorted(added) == sorted(groups["strong"] + groups["auxiliary"])
    whole = ensemble.with_weights(weights).evaluate(truth).miou
    for model, value in added.items():
        rest = {
            name: [store_of[m] for m in members if m != model] for name, members in groups.items()
        }
        without = ensemble.regrouped(rest, weights).evaluate(truth).miou
        assert value == pytest.approx(whole - without, abs=4e-3)
    assert np.isnan(model_contributions(singles, {"g": [basic[0]]}, {"g": 1.0})[basic[0]])


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
