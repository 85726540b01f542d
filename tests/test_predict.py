"""python -m fusion.predict as a user runs it."""

from __future__ import annotations

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

    monkeypatch.setattr(zipfile.ZipFile, "write", interrupted)
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
