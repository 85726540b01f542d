"""python -m fusion.predict as a user runs it."""

from __future__ import annotations

import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

import fusion
from fusion import cli, predict
from fusion.errors import InputError
from tests.samples import write_sample


@pytest.fixture(scope="module")
def toml(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("data"))


@pytest.fixture
def arguments(toml, tmp_path):
    return ["--ensemble", str(toml), "--out", str(tmp_path / "pngs")]


def test_label_maps_and_their_zip(toml, arguments, tmp_path, capsys):
    assert predict.main([*arguments, "--zip"]) == 0
    assert "packed into" in capsys.readouterr().out
    ensemble = fusion.HierarchicalEnsemble.load(toml)
    with Image.open(tmp_path / "pngs" / "a" / "1.png") as image:
        assert np.array_equal(np.asarray(image), ensemble.predict("a", ["1"])[0])
    with zipfile.ZipFile(tmp_path / "pngs.zip") as archive:
        assert archive.namelist() == [f"{v}/{f}.png" for v in "abc" for f in "01"]
        assert archive.read("a/1.png") == (tmp_path / "pngs" / "a" / "1.png").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["pngs", "pngs.zip"]


def test_a_zip_that_is_there_is_kept(arguments, tmp_path, capsys):
    target = tmp_path / "pngs.zip"
    target.write_bytes(b"precious")
    assert cli.run(predict.main, [*arguments, "--zip"]) == 2
    assert "pngs.zip: exists; remove it or use --overwrite" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    assert cli.run(predict.main, [*arguments, "--zip", "--resume"]) == 0
    assert zipfile.is_zipfile(target)


def test_an_interrupted_zip_leaves_nothing(arguments, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(zipfile.ZipFile, "open", interrupted)
    assert cli.run(predict.main, [*arguments, "--zip"]) == 130
    assert os.listdir(tmp_path) == ["pngs"]


def test_refuses_then_resumes(arguments, capsys):
    assert cli.run(predict.main, [*arguments, "--videos", "a"]) == 0
    assert cli.run(predict.main, arguments) == 2
    assert "exists (and 1 more); give --overwrite or --resume to" in capsys.readouterr().err
    assert cli.run(predict.main, [*arguments, "--resume"]) == 0
    assert "4 label maps written, 2 were there already" in capsys.readouterr().out
    assert cli.run(predict.main, [*arguments, "--overwrite"]) == 0
    assert cli.run(predict.main, [*arguments, "--videos", "aa"]) == 2
    assert "did you mean 'a'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../x", "", ".", "a/b", "a\0b", "a\\b", "x" * 300])
def test_ids_that_cannot_be_file_names(name):
    with pytest.raises(InputError, match="cannot be a file name"):
        predict.safe_name(name)
    assert predict.safe_name("0001_x.y") == "0001_x.y"


def test_predictions_in_a_data_sets_own_values(toml, arguments, tmp_path, capsys):
    ensemble = fusion.HierarchicalEnsemble.load(toml)
    expected = ensemble.predict("a", ["1"])[0]
    values = {name: [10 * c, 10 * c + 1] for c, name in enumerate(ensemble.classes)}
    (tmp_path / "map.json").write_text(json.dumps({"classes": values, "void": 255}))
    mapped = [*arguments, "--label-map", str(tmp_path / "map.json")]
    assert predict.main(mapped) == 0
    with Image.open(tmp_path / "pngs" / "a" / "1.png") as image:
        assert np.array_equal(np.asarray(image), 10 * expected)
    read = fusion.Labels.folder(tmp_path / "pngs", class_map=tmp_path / "map.json")
    assert np.array_equal(read.read("a", "1"), expected)
    assert cli.run(predict.main, mapped) == 2
    assert "give --overwrite or --resume" in capsys.readouterr().err
    colours = {name: [c, 0, 200] for c, name in enumerate(ensemble.classes)}
    (tmp_path / "palette.json").write_text(json.dumps(colours))
    shown = ["--write", "colours", "--palette", str(tmp_path / "palette.json"), "--overwrite"]
    assert predict.main([*arguments, *shown]) == 0
    with Image.open(tmp_path / "pngs" / "a" / "1.png") as image:
        assert np.array_equal(np.asarray(image)[..., 0], expected)
    assert cli.run(predict.main, [*arguments, "--palette", "viridis"]) == 2
    assert "palette: got 'viridis', which is no file" in capsys.readouterr().err


def test_a_zip_that_is_there_stops_before_the_work(arguments, tmp_path):
    (tmp_path / "pngs.zip").write_bytes(b"precious")
    assert cli.run(predict.main, [*arguments, "--zip"]) == 2
    assert os.listdir(tmp_path) == ["pngs.zip"]


@pytest.mark.parametrize(
    ("format", "packed"),
    [
        ("npy", ["a.npy", "b.npy", "c.npy"]),
        ("nifti", ["a.nii.gz", "b.nii.gz", "c.nii.gz"]),
        ("nnunet", ["a.nii.gz", "b.nii.gz", "c.nii.gz", "dataset.json"]),
    ],
)
def test_every_format_packs_its_own_files(arguments, tmp_path, format, packed):
    (tmp_path / "pngs" / "old").mkdir(parents=True)
    (tmp_path / "pngs" / "old" / "1.png").write_bytes(b"of another day")
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "pngs" / f"z{packed[0][1:]}").symlink_to(tmp_path / "precious")
    assert predict.main([*arguments, "--zip", "--format", format]) == 0
    with zipfile.ZipFile(tmp_path / "pngs.zip") as archive:
        assert archive.namelist() == packed


def test_a_packed_store_is_a_store(arguments, tmp_path):
    assert predict.main([*arguments, "--zip", "--format", "store"]) == 0
    with zipfile.ZipFile(tmp_path / "pngs.zip") as archive:
        assert not [name for name in archive.namelist() if "/." in f"/{name}"]
        archive.extractall(tmp_path / "elsewhere")
    store = fusion.LogitStore(tmp_path / "elsewhere")
    assert store.videos == ("a", "b", "c")
    assert store.digest() == fusion.LogitStore(tmp_path / "pngs").digest()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--probabilities"], "png: got probabilities, holds labels, channels; choose another"),
        (["--flat"], "unit 'a' has 2 frames, a flat folder has one file a unit; leave out --flat"),
        (
            ["--format", "npy", "--flat"],
            "npy: takes no --flat, it is png's, pseudo's; leave it out",
        ),
        (["--compose", "car=1"], "there is nothing to compose; leave it out"),
        (["--compose", "car=one"], "--compose: got car=one; give NAME=ID, a whole number"),
        (["--format", "nnunet", "--dataset-json", "no.json"], "no.json: cannot be read"),
    ],
)
def test_options_that_do_not_fit(arguments, tmp_path, capsys, options, said):
    assert cli.run(predict.main, [*arguments, *options]) == 2
    assert said in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_probabilities_by_the_command(toml, arguments, tmp_path, capsys):
    assert predict.main([*arguments, "--format", "npy", "--probabilities"]) == 0
    assert "6 probability maps written" in capsys.readouterr().out
    ensemble = fusion.HierarchicalEnsemble.load(toml)
    found = np.load(tmp_path / "pngs" / "b.npy")
    assert np.array_equal(found, ensemble.predict_proba("b"))
    assert cli.run(predict.main, [*arguments, "--format", "npy", "--resume"]) == 2
    assert "is of another ensemble, other options" in capsys.readouterr().err


def test_a_data_sets_own_ids_the_short_way(toml, arguments, tmp_path, capsys):
    expected = fusion.HierarchicalEnsemble.load(toml).predict("a", ["1"])[0]

    def written(*options):
        assert predict.main([*arguments, "--overwrite", *options]) == 0
        with Image.open(tmp_path / "pngs" / "a" / "1.png") as image:
            return np.asarray(image)

    values = {"sky": 23, "road": 7, "car": 26, "tree": 21}
    (tmp_path / "map.json").write_text(json.dumps({"classes": values, "void": 255}))
    ids = np.array([*values.values()])[expected]
    assert np.array_equal(written("--label-ids", "--label-map", str(tmp_path / "map.json")), ids)
    (tmp_path / "set" / "labelsTr").mkdir(parents=True)
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "set" / "labelsTr" / "a.png")
    known = {"labels": {"background": 0, **values}, "file_ending": ".png", "numTraining": 1}
    known |= {"channel_names": {"0": "x"}}
    known["labels"] = {"tree": 0, "car": 1, "sky": 2, "road": 3}
    (tmp_path / "set" / "dataset.json").write_text(json.dumps(known))
    found = written("--label-ids", "--labels", str(tmp_path / "set"))
    assert np.array_equal(found, np.array([2, 3, 1, 0])[expected])
    assert cli.run(predict.main, [*arguments, "--label-ids", "--overwrite"]) == 2
    said = "nothing here says which ids the data set's own masks have; give --label-map MAP, or"
    assert said in capsys.readouterr().err
    for options, said in (
        (["--labels", str(tmp_path / "set")], "--labels says whose ids are written; give --label"),
        (["--label-ids", "--write", "colours"], "got --write colours beside it; leave one out"),
        (
            ["--label-ids", "--labels", str(toml.parent / "labels")],
            "labels has class ids, which is what is written without it; leave it out",
        ),
    ):
        assert cli.run(predict.main, [*arguments, "--overwrite", *options]) == 2
        assert said in capsys.readouterr().err


def test_ids_of_a_known_data_set_by_its_classes(tmp_path):
    names = ["foreground", "background"]
    writer = fusion.LogitWriter(tmp_path / "net.zarr", names)
    with writer.video("a", frames=["a"], size=(1, 2)) as out:
        out.append(np.array([[[9.0, 0.0]], [[0.0, 9.0]]]))
    fusion.HierarchicalEnsemble(str(tmp_path / "net.zarr")).save(tmp_path / "e.json")
    base = ["--ensemble", str(tmp_path / "e.json"), "--out", str(tmp_path / "out")]
    assert predict.main([*base, "--label-ids"]) == 0
    with Image.open(tmp_path / "out" / "a.png") as image:
        assert np.asarray(image).tolist() == [[255, 0]]


def test_the_palettes_by_name(arguments, tmp_path):
    from fusion.labels.palettes import safe

    assert predict.main([*arguments, "--palette", "safe"]) == 0
    with Image.open(tmp_path / "pngs" / "a" / "1.png") as image:
        assert image.getpalette()[:12] == safe(range(4)).ravel().tolist()


def test_what_machines_are_told(arguments, tmp_path, capsys):
    assert predict.main([*arguments, "--videos", "b", "a", "--json", "--zip"]) == 0
    said = json.loads(capsys.readouterr().out)
    files = [f"{video}/{frame}.png" for video in "ba" for frame in "01"]
    assert said == {
        "written": 4,
        "kept": 0,
        "out": str(tmp_path / "pngs"),
        "format": "png",
        "submission": None,
        "files": files,
        "zip": str(tmp_path / "pngs.zip"),
    }
    with zipfile.ZipFile(tmp_path / "pngs.zip") as archive:
        assert archive.namelist() == sorted(files)
    assert predict.main([*arguments, "--resume", "--json", "--videos", "a", "c"]) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == 2


def test_other_peoples_files_in_the_folder(arguments, tmp_path, capsys):
    out = tmp_path / "pngs"
    (out / "other").mkdir(parents=True)
    (out / "notes.txt").write_text("they stay")
    assert predict.main([*arguments, "--videos", "a"]) == 0
    (out / "other" / "1.png").write_bytes(b"of another day")
    for flags in ([], ["--resume"], ["--overwrite"]):
        assert cli.run(predict.main, [*arguments, "--videos", "b", *flags]) == 2
        said = "1.png is none of this ensemble's and would be taken for it; give another folder"
        assert said in capsys.readouterr().err
    assert sorted(os.listdir(out)) == [
        *(".predicted.json", ".predicted.seals"),
        *("a", "notes.txt", "other"),
    ]
    (out / "other" / "1.png").rename(out / "other" / "1.jpg")
    assert predict.main([*arguments, "--videos", "b"]) == 0


def test_the_bar_counts_frames(arguments, capsys, monkeypatch):
    from fusion import progress as bars

    shown = []

    def bar(description, total=None, *, unit="it", iterable=(), **_):
        done = 0
        for done, item in enumerate(iterable):
            shown.append((done, total, unit))
            yield item
        shown.append((done + 1, total, unit))

    monkeypatch.setattr(bars, "bar", bar)
    assert predict.main([*arguments, "--format", "npy"]) == 0
    assert shown == [(done, 6, "frame") for done in range(7)]


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        predict.main(["--help"])
    said = capsys.readouterr().out
    for words in ("--overlay images/", "--submission vspw", "--label-ids", "safe", "mp4"):
        assert words in said
