"""The commands: --tune of the search, --postprocess and --images of what loads an ensemble."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import fusion
from fusion import cli, evaluate, predict
from fusion.labels import write_labels
from fusion.search.__main__ import main
from tests.samples import write_sample
from tests.search.postprocessing.clips import CLIPS, FRAMES


@pytest.fixture
def said(still, tmp_path):
    ensemble, _ = still
    folder = ensemble.stores[0].path.parent
    stores = [str(store.path) for store in ensemble.stores]
    out = ["--out", str(tmp_path / "out"), "--method", "greedy", "--steps", "1", "--folds", "3"]
    return ["--stores", *stores, "--labels", str(folder / "labels"), *out]


def test_a_search_that_tunes(said, still, tmp_path, capsys):
    assert cli.run(main, [*said, "--tune", "postprocess"]) == 0
    printed = capsys.readouterr()
    document = json.loads((tmp_path / "out" / "search.json").read_text())["postprocess"]
    assert f"postprocessing: {document['sentence']}" in " ".join(printed.out.split())
    assert document["chosen"]
    row = next(each for each in document["candidates"] if each["chosen"])
    assert row["front"]
    recommended = fusion.HierarchicalEnsemble.load(tmp_path / "out" / "recommended.json")
    assert recommended.postprocess.get_config() == document["chosen"]
    assert not fusion.HierarchicalEnsemble.load(tmp_path / "out" / "best.json").postprocess
    # the API gives the same
    found = still[0].search(still[1], "greedy", steps=1, folds=3, tune="postprocess")
    assert json.loads(json.dumps(found.postprocess.to_json())) == document
    # and a search on what was saved says that it starts without
    path = str(tmp_path / "out" / "recommended.json")
    labels = said[said.index("--labels") :]
    assert cli.run(main, ["--ensemble", path, *labels]) == 0
    assert "plays no part in a search without it; --tune postprocess" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "search.json").read_text())["postprocess"] is None


def test_refusals_of_a_search(said, tmp_path, capsys):
    for more, message in [
        (["--tune", "weights"], "error: tune: got 'weights'; choose one of postprocess, "),
        (["--tune", "postprocess", "--compare"], "error: --tune: --compare tunes nothing; "),
        (["--tune", "postprocess:vc16"], "error: tune: vc16 needs more than 16 labelled frames"),
        (["--tune", "postprocess", "--images", str(tmp_path / "no")], "no is no folder"),
    ]:
        assert cli.run(main, [*said, *more]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert message in error


def test_pictures_that_are_missing_are_one_line(said, tmp_path, capsys):
    (tmp_path / "pictures").mkdir()
    assert (
        cli.run(main, [*said, "--tune", "postprocess", "--images", str(tmp_path / "pictures")]) == 2
    )
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: images: ")
    assert "has no picture of unit 'clip" in error


def test_pictures_are_looked_at(said, still, tmp_path, capsys):
    """Of a camera that stands still the motion by pictures is none."""
    picture = np.random.default_rng(0).integers(0, 255, (20, 28, 3), dtype=np.uint8)
    for clip in CLIPS:
        (tmp_path / "pictures" / clip).mkdir(parents=True)
        for frame in FRAMES:
            Image.fromarray(picture).save(tmp_path / "pictures" / clip / f"{frame}.png")
    images = ["--images", str(tmp_path / "pictures")]
    assert cli.run(main, [*said, "--tune", "postprocess", *images]) == 0
    document = json.loads((tmp_path / "out" / "search.json").read_text())["postprocess"]
    scores = {each["name"]: each["score"] for each in document["candidates"]}
    close = pytest.approx(scores["window:radius=8"], abs=0.02)
    assert scores["window:radius=8,motion=images"] == close


@pytest.fixture
def saved(still, tmp_path):
    smoothed = still[0].with_postprocess("window:radius=2")
    smoothed.save(tmp_path / "best.json")
    return tmp_path / "best.json"


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], "window:radius=2"),
        (["--postprocess", "none"], None),
        (["--postprocess", "ema", "vote:radius=4"], ["ema", "vote:radius=4"]),
        (["--postprocess", "FILE"], "vote:radius=2"),
    ],
)
def test_evaluate_and_predict_take_what_is_said(saved, still, tmp_path, capsys, more, expected):
    ensemble, truth = still[0].with_postprocess(expected), still[1]
    (tmp_path / "steps.json").write_text('[{"operation": "vote", "radius": 2}]')
    more = [str(tmp_path / "steps.json") if word == "FILE" else word for word in more]
    labels = str(still[0].stores[0].path.parent / "labels")
    named = ["--ensemble", str(saved)]
    assert cli.run(evaluate.main, [*named, *more, "--labels", labels, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["miou"] == ensemble.evaluate(truth).miou
    out = tmp_path / "out"
    assert cli.run(predict.main, [*named, *more, "--out", str(out), "--videos", "clip0"]) == 0
    for frame, labels in ensemble.label_maps("clip0"):
        assert np.array_equal(np.array(Image.open(out / "clip0" / f"{frame}.png")), labels)


def test_refusals_of_commands(saved, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    for more, message in [
        (["--postprocess", "votes"], "postprocess: no operation 'votes'; did you mean 'vote'?"),
        (["--postprocess", "vote:size=1"], "vote: no parameter 'size'"),
        (["--postprocess", "vote:radius"], "give NAME:PARAMETER=VALUE"),
        (["--postprocess", "vote", "ema"], "give 'ema' first"),
        (["--postprocess", "window:motion=images"], "give their folder (--images)"),
        (["--images", str(tmp_path / "no")], "no is no folder"),
    ]:
        assert cli.run(predict.main, ["--ensemble", str(saved), *out, *more]) == 2
        assert message in capsys.readouterr().err
    maps = ["--predictions", str(tmp_path), "--labels", str(tmp_path), "--postprocess", "vote"]
    write_labels(tmp_path / "a" / "0.png", np.zeros((4, 4), np.uint8))
    assert cli.run(evaluate.main, maps) == 2
    assert "--postprocess is of an ensemble" in capsys.readouterr().err


def test_single_images_have_no_time(tmp_path, capsys):
    for k in range(2):
        with fusion.LogitWriter(tmp_path / f"net_{k}.zarr", ["a", "b"]) as writer:
            for image in ("x", "y"):
                with writer.video(image, frames=[image], size=(8, 8)) as out:
                    out.append(np.random.default_rng(k).normal(size=(2, 4, 4)))
    ensemble = fusion.HierarchicalEnsemble(tmp_path / "net_*.zarr")
    ensemble.save(tmp_path / "best.json")
    said = ["--ensemble", str(tmp_path / "best.json"), "--out", str(tmp_path / "out")]
    assert cli.run(predict.main, [*said, "--postprocess", "vote"]) == 2
    assert "every video here is a single image; leave it out" in capsys.readouterr().err


def test_a_sample_with_groups(tmp_path, capsys):
    """Two frames a video: all commands' defaults, from ensemble.toml."""
    toml = write_sample(tmp_path)
    said = ["--ensemble", str(toml), "--labels", str(tmp_path / "labels")]
    more = ["--out", str(tmp_path / "out"), "--method", "grid", "--tune", "postprocess", "--json"]
    assert cli.run(main, [*said, *more]) == 0
    document = json.loads(capsys.readouterr().out)["postprocess"]
    assert document["candidates"][0]["name"] == "none"
    assert all(each["vc8"] is None for each in document["candidates"])
