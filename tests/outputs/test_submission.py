"""Submissions, scored as the servers' own scripts score them: files by Pillow, counts by numpy."""

from __future__ import annotations

import io
import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

import fusion
from fusion import cli, predict
from fusion.errors import InputError, StoreError
from fusion.labels import MAPS, Labels, write_labels
from fusion.outputs import SUBMISSIONS, submit
from tests.outputs.simulated import FakeEnsemble

SIZE = (12, 16)
CLIPS = {"1001_5z": ("00000005", "00000006"), "12_a": ("00000001",)}
TOWNS = ("aachen_000000_000019", "bad-honnef_000001_000019", "ulm_000010_000019")


def filled(folder, names, frames_of, targets):
    """An ensemble of two noisy stores."""
    draw = np.random.default_rng(0)
    paths = [folder / "cache" / f"net{k}.zarr" for k in range(2)]
    for path in paths:
        with fusion.LogitWriter(path, names) as writer:
            for unit, frames in frames_of.items():
                with writer.video(unit, frames=frames, size=SIZE) as out:
                    for frame in frames:
                        truth = np.eye(len(names) + 1)[targets[unit, frame]][..., : len(names)]
                        noise = draw.normal(0, 0.7, (len(names), *SIZE))
                        out.append(1.5 * truth.transpose(2, 0, 1) + noise)
    return fusion.HierarchicalEnsemble([str(path) for path in paths])


@pytest.fixture(scope="module")
def vspw(tmp_path_factory):
    """(ensemble, a release with its masks 1..124, 0 and 255)."""
    folder, draw = tmp_path_factory.mktemp("vspw"), np.random.default_rng(1)
    targets = {}
    for video, frames in CLIPS.items():
        for frame in frames:
            mask = np.kron(draw.integers(0, 125, (3, 4)), np.ones((4, 4))).astype(np.uint8)
            mask[0, :3] = 255
            path = folder / "VSPW" / "data" / video / "mask" / f"{frame}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
            targets[video, frame] = np.where((mask == 0) | (mask == 255), 124, mask - 1)
    (folder / "VSPW" / "val.txt").write_text("\n".join(CLIPS) + "\n")
    names = [f"thing {c}" for c in range(124)]
    return filled(folder, names, CLIPS, targets), folder / "VSPW"


@pytest.fixture(scope="module")
def cityscapes(tmp_path_factory):
    """(ensemble of the classes in another order, gtFine's folder)."""
    folder, draw = tmp_path_factory.mktemp("city"), np.random.default_rng(2)
    known = MAPS["cityscapes"]()
    names = tuple(sorted(known.names))
    place = {v[0]: names.index(name) for name, v in zip(known.names, known.values, strict=True)}
    targets = {}
    for unit in TOWNS:
        ids = np.kron(draw.integers(0, 34, (3, 4)), np.ones((4, 4))).astype(np.uint8)
        path = folder / "gtFine" / "val" / unit.split("_")[0] / f"{unit}_gtFine_labelIds.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ids).save(path)
        targets[unit, unit] = np.vectorize(lambda value: place.get(value, 19))(ids)
    return filled(folder, names, {unit: (unit,) for unit in TOWNS}, targets), folder


def unzipped(path):
    """Arrays by name, as Pillow opens them."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        for name in archive.namelist():
            with Image.open(io.BytesIO(archive.read(name))) as image:
                found[name] = np.array(image)
    return found


def test_vspw_as_its_evaluator_scores_it(vspw, tmp_path):
    ensemble, root = vspw
    written, packed = submit(ensemble, tmp_path / "vspw", "vspw")
    assert written == (3, 0)
    files = unzipped(packed)
    assert list(files) == [f"{v}/{f}.png" for v, frames in CLIPS.items() for f in frames]
    confusion = np.zeros((124, 124))
    for name, prediction in files.items():  # VSPW's own Evaluator._generate_matrix
        video, file = name.split("/")
        mask = np.array(Image.open(root / "data" / video / "mask" / file))
        mask[mask == 0] = 255
        mask = mask - 1
        inside = (mask >= 0) & (mask < 124)
        label = 124 * mask[inside].astype("int") + prediction[inside]
        confusion += np.bincount(label, minlength=124**2).reshape(124, 124)
    there = confusion.sum(axis=1) > 0
    union = confusion.sum(axis=1) + confusion.sum(axis=0) - np.diag(confusion)
    miou = np.mean(np.diag(confusion)[there] / union[there])
    assert 0.2 < miou < 0.99
    assert miou == ensemble.evaluate(Labels.open("vspw", root)).score


def test_cityscapes_as_its_script_scores_it(cityscapes, tmp_path):
    ensemble, root = cityscapes
    _, packed = submit(ensemble, tmp_path / "city", "cityscapes")
    files = unzipped(packed)
    assert list(files) == [f"{unit}.png" for unit in TOWNS]
    confusion = np.zeros((34, 34), np.int64)
    for unit in TOWNS:  # exactly one <city>_<sequence>_<frame>*.png for a ground truth
        (prediction,) = (array for name, array in files.items() if name.startswith(unit))
        truth = root / "gtFine" / "val" / unit.split("_")[0] / f"{unit}_gtFine_labelIds.png"
        np.add.at(confusion, (np.array(Image.open(truth)), prediction), 1)
    scored = [value for (value,) in MAPS["cityscapes"]().values]
    ious = []
    for label in scored:  # evalPixelLevelSemanticLabeling's getIouScoreForLabel
        hit = confusion[label, label]
        missed = confusion[label].sum() - hit
        false = confusion[[other for other in scored if other != label], label].sum()
        if hit + missed + false:
            ious.append(hit / (hit + missed + false))
    assert len(ious) > 10
    truth, own = Labels.open("cityscapes", root, "val"), MAPS["cityscapes"]().names
    table = np.full(256, 255, np.uint8)
    table[:19] = [ensemble.classes.index(name) for name in own]
    for unit in TOWNS:  # in the ensemble's order of the classes
        write_labels(tmp_path / "truth" / unit / f"{unit}.png", table[truth.read(unit, unit)])
    score = ensemble.evaluate(Labels.folder(tmp_path / "truth"), convention="union").score
    assert np.mean(ious) == score


@pytest.mark.parametrize(
    ("frames_of", "names"),
    [
        ({TOWNS[0]: (TOWNS[0],)}, [f"{TOWNS[0]}.png"]),
        ({TOWNS[1]: ("0",)}, [f"{TOWNS[1]}.png"]),
        ({f"{TOWNS[0]}_leftImg8bit": ("0",)}, [f"{TOWNS[0]}.png"]),
        (
            {"aachen": (TOWNS[0], "aachen_000001_000019")},
            [f"{TOWNS[0]}.png", "aachen_000001_000019.png"],
        ),
        ({"ulm_000001": ("000018", "000019")}, ["ulm_000001_000018.png", "ulm_000001_000019.png"]),
    ],
)
def test_names_of_cityscapes(tmp_path, frames_of, names):
    ensemble = FakeEnsemble(19, videos=tuple(frames_of), frames_of=frames_of)
    _, packed = submit(ensemble, tmp_path / "city", "cityscapes")
    assert [*unzipped(packed)] == names


@pytest.mark.parametrize(
    ("ensemble", "name", "said"),
    [
        (FakeEnsemble(19), "cityscapes", "unit 'case', frame 'f2' is none of the benchmark's imag"),
        (FakeEnsemble(4), "cityscapes", "cityscapes: got 4 classes, its server takes 19"),
        (FakeEnsemble(4), "vspw", "vspw: got 4 classes, its server takes 124"),
        (FakeEnsemble(3, independent=True), "vspw", "got 3 independent channels, its server takes"),
        (FakeEnsemble(4), "ade", "submission: got 'ade'; choose one of vspw, cityscapes"),
    ],
)
def test_what_is_no_submission(tmp_path, ensemble, name, said):
    ensemble.worked.clear()
    with pytest.raises(InputError, match=said):
        submit(ensemble, tmp_path / "out", name)
    assert ensemble.worked == os.listdir(tmp_path) == []


def test_two_files_of_one_image(tmp_path):
    frames = {TOWNS[0]: ("0",), f"{TOWNS[0]}_leftImg8bit": ("0",)}
    ensemble = FakeEnsemble(19, videos=tuple(frames), frames_of=frames)
    with pytest.raises(InputError, match=r"would stand for two units"):
        submit(ensemble, tmp_path / "out", "cityscapes")


def test_void_is_no_class(tmp_path):
    stored = SUBMISSIONS["vspw"].stored([str(c) for c in range(124)])
    assert stored(np.array([[0, 123]], np.uint8)).tolist() == [[0, 123]]
    with pytest.raises(InputError, match="vspw: got void, its server takes a class for every pix"):
        stored(np.array([[0, 255]], np.uint8))


def test_classes_in_another_order_are_put_right():
    names = [f"class_{c:03d}" for c in range(124)]
    stored = SUBMISSIONS["vspw"].stored(names[::-1])
    assert stored(np.array([[0, 1, 123]], np.uint8)).tolist() == [[123, 122, 0]]


def test_the_zip_holds_this_submission_alone(vspw, tmp_path):
    ensemble, _ = vspw
    out = tmp_path / "out"
    submit(ensemble, out, "vspw", videos=["12_a"])
    with pytest.raises(StoreError, match=r"out\.zip: exists; remove it or use --overwrite"):
        submit(ensemble, out, "vspw", videos=["1001_5z"])
    written, packed = submit(ensemble, out, "vspw", videos=["1001_5z"], resume=True)
    assert written == (2, 0)
    assert [*unzipped(packed)] == ["1001_5z/00000005.png", "1001_5z/00000006.png"]
    written, packed = submit(ensemble, out, "vspw", resume=True)
    assert written == (0, 3)
    assert len(unzipped(packed)) == 3
    (out / "1001_5z" / "old.png").write_bytes((out / "12_a" / "00000001.png").read_bytes())
    with pytest.raises(StoreError, match=r"old\.png is none of this ensemble's and would be tak"):
        submit(ensemble, out, "vspw", overwrite=True)


def test_by_the_command(vspw, tmp_path, capsys):
    ensemble, _ = vspw
    ensemble.save(tmp_path / "e.json")
    base = ["--ensemble", str(tmp_path / "e.json"), "--out", str(tmp_path / "out")]
    for more, flag in (["--label-ids"], "--label-ids"), (["--palette", "safe"], "--palette"):
        assert cli.run(predict.main, [*base, "--submission", "vspw", *more]) == 2
        said = f"--submission vspw: says by itself what is written, and packs it; leave out {flag}"
        assert said in capsys.readouterr().err
    assert cli.run(predict.main, [*base, "--submission", "vspw", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["written"], said["kept"], said["submission"]) == (3, 0, "vspw")
    assert said["zip"] == str(tmp_path / "out.zip")
    assert [*unzipped(said["zip"])] == said["files"]
