"""python -m fusion.evaluate as a user runs it, of ensembles and of label maps."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import fusion
from fusion import cli, evaluate, predict
from fusion.labels import write_labels
from fusion.metrics import stable_windows, video_consistency
from tests.samples import CLASSES, write_sample

LINE = "labels: 3 videos, 6 frames, 3,360 pixels: 4 of 4 classes occur, 5.00 % void"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The sample, with the ensemble that a search saved, its label maps, and the class names."""
    folder = tmp_path_factory.mktemp("data")
    truth = write_sample(folder).parent / "labels"
    ensemble = fusion.HierarchicalEnsemble.load(folder / "ensemble.toml")
    found = ensemble.search(fusion.Labels.folder(truth), "grid", ranges={"weak": (0.0, 1.0, 0.5)})
    found.ensemble.save(folder / "best.json")
    best, maps = str(folder / "best.json"), str(folder / "maps")
    assert predict.main(["--ensemble", best, "--out", maps]) == 0
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    (folder / "classes_list.txt").write_text(json.dumps(CLASSES))
    (folder / "miou").write_text(repr(found.miou))
    return folder


def of_ensemble(data):
    return ["--ensemble", str(data / "best.json"), "--labels", str(data / "labels")]


def of_maps(data, maps="maps", labels="labels", classes="classes.txt"):
    names = ["--classes", str(data / classes)]
    return ["--predictions", str(data / maps), *names, "--labels", str(data / labels)]


def run_json(arguments, capsys):
    assert evaluate.main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def test_an_ensemble_and_its_label_maps_score_the_same(data, capsys):
    document, err = run_json(of_ensemble(data), capsys)
    assert (document, err) == run_json(of_maps(data), capsys)
    assert document == run_json(of_maps(data, classes="classes_list.txt"), capsys)[0]
    assert document["miou"] == float((data / "miou").read_text())
    assert document["vc8"] is None  # two frames a video
    ensemble = fusion.HierarchicalEnsemble.load(data / "best.json")
    scores = ensemble.evaluate(fusion.Labels.folder(data / "labels"))
    assert scores.to_json().items() <= document.items()
    assert document["interval"] == list(scores.interval())


def test_what_people_read(data, capsys):
    assert evaluate.main([*of_maps(data), "--per-class", "--convention", "union"]) == 0
    captured = capsys.readouterr()
    maps = fusion.HierarchicalEnsemble.load(data / "best.json")
    scores = maps.evaluate(fusion.Labels.folder(data / "labels"), convention="union")
    assert f"mIoU (union)    {100 * scores.miou:.2f}" in captured.out
    assert "VC16" in captured.out
    assert "3 videos, 3192 pixels scored" in captured.out
    assert captured.out.endswith(f"\n\n{scores.class_table()}\n")
    found = f"{data / 'labels'}: folder layout, 3 videos, 6 frames: a, b, c"
    assert captured.err == f"{found}\n{LINE}\n"


def test_calibration_is_shown_where_it_is_asked_for(data, capsys):
    ensemble = fusion.HierarchicalEnsemble.load(data / "best.json")
    found = ensemble.calibration(fusion.Labels.folder(data / "labels"))
    document, _ = run_json([*of_ensemble(data), "--calibration"], capsys)
    assert document.pop("calibration") == found.to_json()
    assert document == run_json(of_ensemble(data), capsys)[0]
    assert evaluate.main([*of_ensemble(data), "--calibration"]) == 0
    assert capsys.readouterr().out.endswith(f"\ncalibration: {found.text()}\n")


@pytest.mark.parametrize("variant", ["official", "cffm", "dvis", "corrected"])
def test_video_consistency_of_a_long_video(tmp_path, capsys, variant):
    draw = np.random.default_rng(0)
    still, flips = draw.integers(0, 2, (6, 7)), draw.random((2, 20, 6, 7)) < 0.05
    truth, maps = np.where(flips, 1 - still, still).astype(np.uint8)
    for k in range(20):
        write_labels(tmp_path / "labels" / "v" / f"{k}.png", truth[k])
        write_labels(tmp_path / "maps" / "v" / f"{k}.png", maps[k])
    (tmp_path / "classes.txt").write_text("a\nb")
    document, _ = run_json([*of_maps(tmp_path), "--variant", variant], capsys)
    for n in (8, 16):
        expected = video_consistency([stable_windows(truth, maps)], n, variant)
        assert document[f"vc{n}"] == expected
    assert document["vc_variant"] == variant


@pytest.mark.parametrize(("variant", "vc"), [("official", 1.0), ("cffm", 0.75)])
def test_official_consistency_tells_the_two_voids_of_vspw_apart(tmp_path, capsys, variant, vc):
    for k in range(20):  # the first of four columns flickers, in the masks from one void to another
        mask, labels = np.full((3, 4), 7, np.uint8), np.full((3, 4), 6, np.uint8)
        mask[:, 0], labels[:, 0] = 255 * (k % 2), k % 2
        write_labels(tmp_path / "data" / "v" / "mask" / f"{k}.png", mask)
        write_labels(tmp_path / "maps" / "v" / f"{k}.png", labels)
    (tmp_path / "val.txt").write_text("v\n")
    (tmp_path / "classes.txt").write_text("\n".join(f"class_{c}" for c in range(124)))
    arguments = [*of_maps(tmp_path)[:-2], "--vspw", str(tmp_path), "--variant", variant]
    document, err = run_json(arguments, capsys)
    assert (document["vc8"], document["miou"]) == (vc, 1.0)
    assert "1 videos, 20 frames, 240 pixels: 1 of 124 classes occur, 25.00 % void" in err


def test_videos_under_way_at_once_share_the_memory(data):
    import dask

    for scheduler, videos in (("threads", 3), ("synchronous", 1)):
        arguments = [*of_ensemble(data), "--scheduler", scheduler]
        with dask.config.set(num_workers=3):
            source = evaluate.read_source(evaluate.build_parser().parse_args(arguments))
        assert source.workers == videos


def test_the_command_says_what_the_labels_hold(data):
    """As a process: results alone on stdout, though there is more to say."""
    command = [sys.executable, "-m", "fusion.evaluate", *of_ensemble(data), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["videos"] == 3
    assert LINE in done.stderr.splitlines()


def test_masks_of_0_and_255_are_not_passed_over(tmp_path, capsys):
    draw = np.random.default_rng(0)
    for frame in "01":
        cells = draw.random((10, 20)) < 0.8
        write_labels(tmp_path / "labels" / "v" / f"{frame}.png", np.uint8(255) * cells)
        write_labels(tmp_path / "maps" / "v" / f"{frame}.png", np.zeros((10, 20), np.uint8))
    (tmp_path / "classes.txt").write_text("background\ncell")
    document, err = run_json(of_maps(tmp_path), capsys)
    assert document["miou"] == 1.0  # which is what must not stand there alone
    found, line, absent, doubt = err.splitlines()
    assert found.endswith("labels: folder layout, 1 videos, 2 frames: v")
    assert line.startswith("labels: 1 videos, 2 frames, 400 pixels: 1 of 2 classes occur, ")
    assert "classes never occur: cell" in absent
    assert "masks of 0 and 255 need another foreground value" in doubt


def test_stray_values_are_an_error_or_counted(data, tmp_path, capsys):
    shutil.copytree(data / "labels", tmp_path / "labels")
    mask = np.zeros((20, 28), np.uint8)
    mask[0, :5], mask[1, :3] = 9, 200
    write_labels(tmp_path / "labels" / "b" / "0.png", mask, overwrite=True)
    arguments = [*of_ensemble(data)[:-1], str(tmp_path / "labels")]
    assert cli.run(evaluate.main, arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "0.png holds 9, 200 outside 0..3 (void is 255)" in captured.err
    assert "read with --stray void" in captured.err
    _, err = run_json([*arguments, "--stray", "void"], capsys)
    warning = "warning: labels: values outside the classes were read as void: "
    assert err.splitlines()[-1] == f"{warning}9 (5 pixels), 200 (3 pixels)"


@pytest.mark.parametrize("drop", ["frame", "video"])
def test_predictions_that_are_missing(data, tmp_path, capsys, drop):
    shutil.copytree(data / "maps", tmp_path / "maps")
    if drop == "frame":
        (tmp_path / "maps" / "b" / "1.png").unlink()
    else:
        shutil.rmtree(tmp_path / "maps" / "b")
    arguments = of_maps(data)
    arguments[1] = str(tmp_path / "maps")
    assert cli.run(evaluate.main, arguments) == 2
    lost = {"frame": "no prediction for 1 labelled frames, first '1'", "video": "no video 'b'"}
    assert lost[drop] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--predictions", "x", "--labels", "LABELS"], "--predictions needs --classes FILE"),
        (["--predictions", "x", "--classes", "CLASSES", "--labels", "LABELS"], "x does not exist"),
        (["--predictions", "x", "--classes", "nowhere", "--labels", "LABELS"], "nowhere cannot be"),
        (
            ["--predictions", "x", "--labels", "LABELS", "--calibration"],
            "--calibration needs probabilities, label maps have none; give --ensemble",
        ),
        (["--ensemble", "BEST"], "give either --labels DIR or --vspw ROOT"),
        (["--ensemble", "BEST", "--labels", "LABELS", "--scheduler", "magic"], "magic"),
    ],
)
def test_mistakes_are_one_line_and_code_2(data, capsys, arguments, message):
    places = {"LABELS": "labels", "CLASSES": "classes.txt", "BEST": "best.json"}
    given = [str(data / places[a]) if a in places else a for a in arguments]
    assert cli.run(evaluate.main, given) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].startswith("error: ")  # below what was recognised
    assert message in captured.err


@pytest.mark.parametrize("module", ["fusion.predict", "fusion.evaluate"])
def test_help_teaches(module):
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert f"python -m {module}" in done.stdout
    assert "examples:" in done.stdout


def cityscapes(folder):
    """Two images of its ids, and predictions of road and car, as ids and as classes."""
    draw = np.random.default_rng(0)
    for name in ("ulm_000000_000019", "ulm_000001_000019"):
        truth = draw.choice([7, 26, 0, 3, 24], (12, 16)).astype(np.uint8)
        predicted = draw.choice([7, 26], truth.shape).astype(np.uint8)
        path = folder / "gtFine" / "val" / "ulm" / f"{name}_gtFine_labelIds.png"
        write_labels(path, truth)
        write_labels(folder / "ids" / f"{name}.png", predicted)
        write_labels(folder / "classes" / f"{name}.png", (predicted == 26).astype(np.uint8) * 13)
    return ["--labels", str(folder), "--predictions"]


def test_labels_are_recognised_and_mapped(tmp_path, capsys):
    arguments = cityscapes(tmp_path)
    document, err = run_json([*arguments, str(tmp_path / "classes")], capsys)
    line = "cityscapes layout, 2 videos, 2 frames, 19 classes: ulm_000000_000019, ulm_0"
    assert f"{tmp_path}: {line}" in err
    ids, _ = run_json([*arguments, str(tmp_path / "ids"), "--prediction-map", "cityscapes"], capsys)
    assert ids == document
    names = ("ulm_000000_000019", "ulm_000001_000019")
    ground = tmp_path / "gtFine" / "val" / "ulm"
    truth = np.concatenate([_pixels(ground / f"{n}_gtFine_labelIds.png") for n in names])
    predicted = np.concatenate([_pixels(tmp_path / "ids" / f"{n}.png") for n in names])
    counted = np.isin(truth, [7, 24, 26])
    ious = []
    for value in (7, 24, 26):
        both = ((truth == value) & (predicted == value) & counted).sum()
        ious.append(both / (((truth == value) | (predicted == value)) & counted).sum())
    assert document["miou"] == pytest.approx(np.mean(ious), abs=1e-12)


def _pixels(path):
    with Image.open(path) as image:
        return np.array(image)


def test_raw_ids_read_as_classes_are_loud(tmp_path, capsys):
    arguments = [*cityscapes(tmp_path), str(tmp_path / "classes"), "--label-map", "none"]
    (tmp_path / "names.txt").write_text("\n".join(f"c{k}" for k in range(19)))
    arguments += ["--classes", str(tmp_path / "names.txt")]
    assert cli.run(evaluate.main, arguments) == 2
    assert "24, 26 outside 0..18 (void is 255): 24 has " in capsys.readouterr().err
    _, err = run_json([*arguments, "--stray", "void"], capsys)
    assert "% OF ALL PIXELS ARE IN NO CLASS: the labels may need a class map (--label-map)" in err


def test_predictions_of_other_names(tmp_path, capsys):
    arguments = [*cityscapes(tmp_path), str(tmp_path / "classes")]
    for path in sorted((tmp_path / "classes").iterdir()):
        path.rename(path.with_name(f"{path.stem}_leftImg8bit.png"))
    assert cli.run(evaluate.main, arguments) == 2
    err = capsys.readouterr().err
    assert "labels and stores share no video" in err
    assert "but for suffix, extension or case 2 agree (labels 'ulm_000000_000019'" in err
