"""Pseudo-labels against an exact sort of all pixels."""

from __future__ import annotations

import json
import math
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

import fusion
from fusion import cli, predict
from fusion.errors import InputError, StoreError
from fusion.labels import Labels
from fusion.outputs import write
from tests.outputs.simulated import FRAMES, FakeEnsemble
from tests.outputs.test_uncertainty import Refuses, entropy
from tests.samples import write_sample


def uncertain(p, by):
    """[..., H, W] of p [..., C, H, W]."""
    top = np.sort(p, axis=-3)
    if by == "entropy":
        return entropy(p, axis=-3) / math.log(p.shape[-3])
    return 1 - (top[..., -1, :, :] - (top[..., -2, :, :] if by == "margin" else 0))


def expected(videos, share, by):
    """Label maps by video, of (labels [T, H, W], probabilities [T, C, H, W]) by video: the
    certain pixels by a sort of each class's float16 uncertainties."""
    void = 255 if next(iter(videos.values()))[1].shape[1] <= 255 else 65535
    u = {v: uncertain(p.astype(np.float32), by).astype(np.float16) for v, (_, p) in videos.items()}
    made = {v: np.full_like(labels, void) for v, (labels, _) in videos.items()}
    for c in range(next(iter(videos.values()))[1].shape[1]):
        all_of = np.sort(np.concatenate([u[v][labels == c] for v, (labels, _) in videos.items()]))
        if not len(all_of):
            continue
        last = all_of[math.ceil(round(share * len(all_of), 9)) - 1]
        for v, (labels, _) in videos.items():
            made[v][(labels == c) & (u[v] <= last)] = c
    return made


class TestPseudo(Refuses):
    kind = "pseudo"
    options: ClassVar = {"keep": 0.5, "by": "margin"}
    flags = ("--keep", "0.5", "--by", "margin")
    passes = 2

    def main_files(self, out, video):
        if (out / f"{video}.png").exists():
            return [out / f"{video}.png"]
        return [out / video / f"{frame}.png" for frame in FRAMES.get(video, ("0", "1"))]

    def read(self, out, video, *, probabilities=False):
        found = []
        for file in self.main_files(out, video):
            with Image.open(file) as image:
                found.append(np.asarray(image))
        return np.stack(found)

    def expected(self, ensemble, video):
        maps = {
            v: tuple(
                np.stack([made(v, frame) for frame in ensemble.frames(v)])
                for made in (ensemble.labels, ensemble.probabilities)
            )
            for v in ensemble.videos
        }
        return expected(maps, 0.5, "margin")[video]

    def predicted(self, ensemble, video):
        maps = {v: (ensemble.predict(v), ensemble.predict_proba(v)) for v in ensemble.videos}
        return expected(maps, 0.5, "margin")[video]

    def same(self, found, expected):
        """Margins that are rounded differently may fall on the other side of a float16's half."""
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        assert (found != expected).mean() <= 0.01

    def test_raw_ids(self, tmp_path):
        with pytest.raises(InputError, match="pseudo: got stored, holds labels"):
            self.write(self.ensemble(), tmp_path, stored=lambda labels: labels)


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    return fusion.HierarchicalEnsemble.load(write_sample(tmp_path_factory.mktemp("sample")))


@pytest.mark.parametrize("by", ["confidence", "entropy", "margin"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.8, 1.0])
def test_the_most_certain_of_every_class(tmp_path, ensemble, share, by):
    assert write(ensemble, tmp_path, "pseudo", keep=share, by=by) == (6, 0)
    maps = {v: (ensemble.predict(v), ensemble.predict_proba(v)) for v in ensemble.videos}
    wanted, truth = expected(maps, share, by), Labels.folder(tmp_path, classes=4)
    document = json.loads((tmp_path / "pseudo.json").read_text())
    kept, pixels = np.zeros(4, int), np.zeros(4, int)
    for video, (labels, _) in maps.items():
        found = np.stack([truth.read(video, frame, classes=4) for frame in ensemble.frames(video)])
        assert (found != wanted[video]).mean() < 0.002  # entropies are rounded differently
        assert np.array_equal(found[found != 255], labels[found != 255])
        kept += np.bincount(found[found != 255], minlength=4)
        pixels += np.bincount(labels.ravel(), minlength=4)
    rows = list(document["classes"].values())
    assert [row["kept"] for row in rows] == kept.tolist()
    assert [row["pixels"] for row in rows] == pixels.tolist()
    assert (kept >= share * pixels - 1e-6).all()
    assert (kept <= share * pixels + 0.02 * pixels + 1).all()  # ties of float16
    assert (document["keep"], document["by"]) == (share, by)


def test_thresholds_are_those_of_all_videos(tmp_path, ensemble):
    write(ensemble, tmp_path / "whole", "pseudo")
    for video in ensemble.videos:
        write(ensemble, tmp_path / "parts", "pseudo", videos=[video])
    for file in (tmp_path / "whole").rglob("*.[pj]*"):
        if file.name != ".predicted.json":
            other = tmp_path / "parts" / file.relative_to(tmp_path / "whole")
            assert other.read_bytes() == file.read_bytes()


def test_many_classes_have_a_wide_void(tmp_path):
    write(FakeEnsemble(number=300), tmp_path, "pseudo", keep=0.1)
    with Image.open(tmp_path / "image.png") as image:
        found = np.asarray(image)
    assert found.dtype == np.uint16
    assert found.max() <= 65535


def test_changed_thresholds_are_counted_again(tmp_path, ensemble):
    write(ensemble, tmp_path, "pseudo", videos=["a"])
    path = tmp_path / "pseudo.json"
    sound = path.read_bytes()
    document = json.loads(sound)
    document["classes"]["sky"]["most"] = 1.0
    for content in (json.dumps(document).encode(), b"", b"[]", b'{"of": 1}', sound[:-40]):
        path.write_bytes(content)
        write(ensemble, tmp_path, "pseudo", resume=True)
        assert path.read_bytes() == sound


def test_thresholds_that_change_meanwhile(tmp_path, ensemble, monkeypatch):
    from fusion.outputs.pseudo import Pseudo

    real = Pseudo.start

    def start(self, out, *arguments, **options):
        real(self, out, *arguments, **options)
        (out / "pseudo.json").write_text("{}")

    monkeypatch.setattr(Pseudo, "start", start)
    with pytest.raises(StoreError, match=r"pseudo\.json: was changed meanwhile; run the command"):
        write(ensemble, tmp_path, "pseudo")


@pytest.mark.parametrize("keep", [0, -0.1, 1.01, math.nan, math.inf])
def test_shares_that_are_none(tmp_path, keep):
    ensemble = FakeEnsemble()
    with pytest.raises(InputError, match=r"pseudo: got keep=.*; give a share above 0, at most 1"):
        write(ensemble, tmp_path, "pseudo", keep=keep)
    assert ensemble.worked == list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="pseudo: got by='luck'; choose of"):
        write(ensemble, tmp_path, "pseudo", by="luck")


def test_by_the_command(tmp_path, capsys):
    toml = write_sample(tmp_path)
    out = ["--ensemble", str(toml), "--format", "pseudo", "--out", str(tmp_path / "maps")]
    assert cli.run(predict.main, [*out, "--keep", "1.5"]) == 2
    assert "pseudo: got --keep 1.5; give a share above 0, at most 1" in capsys.readouterr().err
    assert cli.run(predict.main, [*out, "--keep", "0.5", "--by", "entropy", "--zip"]) == 0
    assert "6 pseudo-label maps written" in capsys.readouterr().out
