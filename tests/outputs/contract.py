"""What every output format keeps; a format's tests inherit it and name the format.

A subclass reads its files with an independent library: `read` gives the maps of a unit in the
order of its frames, [T, H, W], [T, C, H, W] or [T, H, W, 3].
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import fusion
from fusion import cli, files, predict
from fusion.errors import FusionError, InputError, StoreError
from fusion.outputs import OUTPUTS, write
from tests.outputs.simulated import FRAMES, FakeEnsemble
from tests.samples import write_sample

RAW = np.array([700, 7, 300, 65535], np.uint16)
COLOURS = np.array([[0, 0, 0], [255, 0, 7], [1, 2, 3], [9, 9, 200]], np.uint8)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too."""
    found = sorted(file for file in folder.rglob("*") if file.is_file() or file.is_symlink())
    return {str(file.relative_to(folder)): file.read_bytes() for file in found}


class OutputContract:
    """kind: the format's name. options: of every test. flags: the same on the command line.
    geometry: of the simulated units. channels: options with which independent channels can be
    written. passes: over all frames, of which the last writes."""

    kind: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    flags: ClassVar[tuple[str, ...]] = ()
    geometry: ClassVar[dict[str, Any]] = {}
    channels: ClassVar[dict[str, Any]] = {}
    passes: ClassVar[int] = 1
    videos: ClassVar[tuple[str, ...]] = ("case", "image", "long")
    what: ClassVar[str] = "label maps written"

    def arguments(self, folder: Path) -> list[str]:
        """What else the command needs for the ensemble that lies in a folder."""
        return list(self.flags)

    def read(self, out: Path, video: str, *, probabilities: bool = False) -> np.ndarray:
        raise NotImplementedError

    @property
    def keeps(self) -> tuple[str, ...]:
        return OUTPUTS[self.kind].keeps

    def ensemble(self, **facts):
        return FakeEnsemble(**{"geometry": self.geometry, "videos": self.videos, **facts})

    def write(self, ensemble, out, **options):
        return write(ensemble, out, self.kind, **{**self.options, **options})

    @property
    def is_probabilities(self) -> bool:
        return self.keeps == ("probabilities",)

    def expected(self, ensemble, video):
        """What is written where nothing else is asked for."""
        made = ensemble.probabilities if self.is_probabilities else ensemble.labels
        return np.stack([made(video, frame) for frame in ensemble.frames(video)])

    def predicted(self, ensemble, video):
        """The same of a real ensemble."""
        return (ensemble.predict_proba if self.is_probabilities else ensemble.predict)(video)

    def same(self, found, expected):
        assert found.shape == expected.shape
        assert found.dtype == expected.dtype
        assert np.array_equal(found, expected)

    @pytest.mark.parametrize("number", [4, 300])
    def test_what_was_predicted_is_read(self, tmp_path, number):
        ensemble = self.ensemble(number=number)
        frames = sum(len(FRAMES[video]) for video in self.videos)
        assert self.write(ensemble, tmp_path / "new" / "out") == (frames, 0)
        for video in self.videos:
            found = self.read(tmp_path / "new" / "out", video)
            self.same(found, self.expected(ensemble, video))

    def test_probabilities(self, tmp_path):
        ensemble = self.ensemble()
        if "probabilities" not in self.keeps:
            with pytest.raises(InputError, match=f"{self.kind}: got probabilities, holds"):
                self.write(ensemble, tmp_path, probabilities=True)
            assert ensemble.worked == os.listdir(tmp_path) == []
            return
        self.write(ensemble, tmp_path, probabilities=True)
        for video in self.videos:
            frames = [ensemble.probabilities(video, frame) for frame in ensemble.frames(video)]
            self.same(self.read(tmp_path, video, probabilities=True), np.stack(frames))

    @pytest.mark.parametrize("number", [1, 3])
    def test_independent_channels(self, tmp_path, number):
        ensemble = self.ensemble(number=number, independent=True)
        if number > 1 and "channels" not in self.keeps and not self.is_probabilities:
            with pytest.raises(InputError, match="3 channels in one pixel"):
                self.write(ensemble, tmp_path)
            return
        self.write(ensemble, tmp_path, **(self.channels if number > 1 else {}))
        for video in self.videos:
            expected = self.expected(ensemble, video)
            if number == 1 and not self.is_probabilities:
                expected = expected[:, 0]
            self.same(self.read(tmp_path, video), expected)

    def test_composed_regions(self, tmp_path):
        if self.is_probabilities:
            return
        ensemble = self.ensemble(number=3, independent=True)
        ids = {"class 2": 1, "class 0": 9, "class 1": 4}
        self.write(ensemble, tmp_path, compose=ids)
        for video in self.videos:
            masks = np.stack([ensemble.labels(video, f) for f in ensemble.frames(video)])
            painted = np.where(masks[:, 0], 9, 0)
            painted = np.where(masks[:, 1], 4, painted)
            painted = np.where(masks[:, 2], 1, painted).astype(np.uint8)
            self.same(self.read(tmp_path, video), painted)

    def test_regions_that_are_none(self, tmp_path):
        channels = self.ensemble(number=2, independent=True)
        for ids, said in (
            ({"class 0": 1, "clas 1": 2}, "no channel 'clas 1'; did you mean 'class 1'"),
            ({"class 0": 1}, "no id for class 1"),
            ({"class 0": 1, "class 1": 1}, "an id of its own, 1 to 65535"),
            ({"class 0": 1, "class 1": 0}, "an id of its own, 1 to 65535"),
        ):
            with pytest.raises(InputError, match=f"compose: .*{said}"):
                self.write(channels, tmp_path, compose=ids)
        with pytest.raises(InputError, match="exclude each other, there is nothing to compose"):
            self.write(self.ensemble(), tmp_path, compose={"class 0": 1})
        assert os.listdir(tmp_path) == []

    def test_raw_ids(self, tmp_path):
        ensemble = self.ensemble()
        if "stored" not in self.keeps:
            with pytest.raises(InputError, match="stored"):
                self.write(ensemble, tmp_path, stored=RAW.__getitem__)
            return
        self.write(ensemble, tmp_path, stored=RAW.__getitem__)
        for video in self.videos:
            self.same(self.read(tmp_path, video), RAW[self.expected(ensemble, video)])
        with pytest.raises(InputError, match="stored: got int64"):
            self.write(ensemble, tmp_path / "other", stored=RAW.astype(int).__getitem__)

    def test_colours(self, tmp_path):
        ensemble = self.ensemble()
        if "stored" not in self.keeps:
            return
        if "colours" not in self.keeps:
            with pytest.raises(InputError, match="cannot hold colours"):
                self.write(ensemble, tmp_path, stored=COLOURS.__getitem__)
            return
        self.write(ensemble, tmp_path, stored=COLOURS.__getitem__)
        for video in self.videos:
            self.same(self.read(tmp_path, video), COLOURS[self.expected(ensemble, video)])

    def test_stored_channels_are_given_as_masks(self, tmp_path):
        if "stored" not in self.keeps:
            return
        ensemble = self.ensemble(number=3, independent=True)

        def stored(masks):
            assert masks.shape[0] == 3
            return masks.sum(axis=0).astype(np.uint8)

        self.write(ensemble, tmp_path, stored=stored)
        for video in self.videos:
            expected = self.expected(ensemble, video).sum(axis=1).astype(np.uint8)
            self.same(self.read(tmp_path, video), expected)

    def test_what_is_there_stays(self, tmp_path):
        ensemble = self.ensemble()
        self.write(ensemble, tmp_path)
        before, again = tree(tmp_path), self.ensemble()
        with pytest.raises(StoreError, match=r"exists.*give overwrite= or resume=") as error:
            self.write(again, tmp_path)
        assert "give --overwrite or --resume" in self.in_options(str(error.value))
        with pytest.raises(StoreError, match="exists"):
            self.write(again, tmp_path, videos=["image"])
        assert again.worked == []
        assert tree(tmp_path) == before
        with pytest.raises(InputError, match="choose one of the two"):
            self.write(again, tmp_path, overwrite=True, resume=True)

    def in_options(self, text):
        predict.build_parser()
        return cli.in_options(text)

    def test_stopping_and_resuming_gives_the_same(self, tmp_path):
        clean, stopped = tmp_path / "clean", tmp_path / "stopped"
        self.write(self.ensemble(), clean)
        with pytest.raises(KeyboardInterrupt):
            self.write(self.ensemble(stops="003", passes=self.passes), stopped)
        assert not [name for name in tree(stopped) if ".tmp" in name or files.STAGING in name]
        self.read(stopped, "case")
        again, (written, kept) = self.ensemble(), (0, 0)
        written, kept = self.write(again, stopped, resume=True)
        assert written + kept == 9
        assert kept >= 4
        assert {video for video, _ in again.worked} == {"long"}
        assert self.stable(tree(stopped)) == self.stable(tree(clean))
        assert self.write(self.ensemble(), stopped, resume=True) == (0, 9)

    def stable(self, found):
        """Of a tree, what two runs make alike."""
        return found

    @pytest.mark.parametrize("how", ["threads", "cluster"])
    def test_every_scheduler_writes_the_same(self, how, tmp_path, request):
        place, made, other = how, tmp_path / "made", tmp_path / "other"
        if how == "cluster":
            place = request.getfixturevalue("cluster")
        one = self.write(self.ensemble(), made)
        two = self.write(self.ensemble(), other, scheduler=place)
        assert (two, two.files) == (one, one.files) == ((9, 0), one.files)
        assert self.stable(tree(other)) == self.stable(tree(made))
        again = self.ensemble()
        assert self.write(again, other, scheduler=place, resume=True) == (0, 9)
        assert again.worked == []

    def test_one_video_then_the_rest(self, tmp_path):
        ensemble = self.ensemble()
        assert self.write(ensemble, tmp_path, videos=["long"]) == (5, 0)
        assert self.write(ensemble, tmp_path, videos=["image"]) == (1, 0)
        assert self.write(ensemble, tmp_path, resume=True) == (3, 6)
        with pytest.raises(KeyError):
            self.write(ensemble, tmp_path, videos=["longer"])

    def test_another_ensembles_outputs_are_not_ours(self, tmp_path):
        self.write(self.ensemble(seed=1), tmp_path)
        before, ours = tree(tmp_path), self.ensemble()
        for options in ({}, {"weights": {"all": 2.0}, "seed": 1}, {"multipliers": 3, "seed": 1}):
            with pytest.raises(StoreError, match=r"is of another ensemble.*give overwrite= or"):
                self.write(self.ensemble(**options), tmp_path, resume=True)
        assert tree(tmp_path) == before
        with pytest.raises(KeyboardInterrupt):
            self.write(self.ensemble(stops="image"), tmp_path, overwrite=True)
        self.write(ours, tmp_path, resume=True)  # none of the other's are counted as done
        for video in self.videos:
            self.same(self.read(tmp_path, video), self.expected(ours, video))

    @pytest.mark.parametrize("content", [None, b"", b"{}", b'{"attributes": []}'])
    def test_outputs_that_nothing_is_known_of(self, tmp_path, content):
        ensemble, record = self.ensemble(), tmp_path / OUTPUTS[self.kind].record[0]
        self.write(ensemble, tmp_path)
        record.unlink()
        if content is not None:
            record.write_bytes(content)
        again = self.ensemble()
        with pytest.raises(StoreError, match=r"of another ensemble|is no group of predictions"):
            self.write(again, tmp_path, resume=True)
        assert again.worked == []

    def test_overwriting_replaces(self, tmp_path):
        self.write(self.ensemble(seed=1), tmp_path)
        ours = self.ensemble()
        for _ in range(2):
            assert self.write(ours, tmp_path, overwrite=True) == (9, 0)
            for video in self.videos:
                self.same(self.read(tmp_path, video), self.expected(ours, video))

    def test_an_empty_file_is_written_again(self, tmp_path):
        ensemble = self.ensemble()
        self.write(ensemble, tmp_path)
        before = tree(tmp_path)
        for name in self.main_files(tmp_path, "case"):
            Path(name).write_bytes(b"")
        written, _ = self.write(ensemble, tmp_path, resume=True)
        assert written >= 1
        assert self.stable(tree(tmp_path)) == self.stable(before)

    def main_files(self, out, video):
        """Files of a unit that stand for it."""
        raise NotImplementedError

    def test_links_are_replaced_and_never_followed(self, tmp_path):
        out, ensemble = tmp_path / "out", self.ensemble()
        self.write(ensemble, out)
        outside = tmp_path / "precious"
        outside.write_bytes(b"precious")
        (tmp_path / "folder").mkdir()
        for name in self.main_files(out, "case"):
            Path(name).unlink()
            Path(name).symlink_to(outside)
        self.write(ensemble, out, resume=True)
        self.same(self.read(out, "case"), self.expected(ensemble, "case"))
        assert outside.read_bytes() == b"precious"
        for name in self.main_files(out, "case"):
            Path(name).unlink()
            Path(name).symlink_to(tmp_path / "nowhere")
        self.write(ensemble, out, overwrite=True)
        self.same(self.read(out, "case"), self.expected(ensemble, "case"))
        assert not (tmp_path / "nowhere").exists()

    @pytest.mark.parametrize("name", ["../x", "", ".", "a/b", "a\0b", "x" * 300])
    def test_ids_that_cannot_be_file_names(self, tmp_path, name):
        ensemble = self.ensemble(videos=("case", name), frames_of={**FRAMES, name: ("f", "g")})
        with pytest.raises(InputError, match="cannot be a file name"):
            self.write(ensemble, tmp_path)
        assert ensemble.worked == os.listdir(tmp_path) == []

    def test_a_folder_that_cannot_be(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        ensemble = self.ensemble()
        with pytest.raises(StoreError, match="Not a directory"):
            self.write(ensemble, tmp_path / "file")
        assert ensemble.worked == []

    def test_a_disk_that_refuses_leaves_nothing_by_halves(self, tmp_path, monkeypatch):
        def refuse(*_, **__):
            raise OSError(28, "No space left on device")

        ensemble = self.ensemble()
        self.write(ensemble, tmp_path, videos=["case"])
        before = tree(tmp_path)
        with monkeypatch.context() as patch:
            self.full_disk(patch, refuse)
            with pytest.raises(FusionError, match="No space left on device"):
                self.write(ensemble, tmp_path, videos=["long"])
        after = tree(tmp_path)
        assert {name: after[name] for name in before if "json" not in name} == {
            name: content for name, content in before.items() if "json" not in name
        }
        assert {name for name in after.keys() - before.keys() if "json" not in name} == set()
        self.write(ensemble, tmp_path, resume=True)
        self.same(self.read(tmp_path, "long"), self.expected(ensemble, "long"))

    def full_disk(self, patch, refuse):
        """Lets the step that gives a unit's file its name fail."""
        for owner, step in ((Path, "replace"), (os, "link"), (os, "rename")):
            real = getattr(owner, step)
            patch.setattr(
                owner,
                step,
                lambda a, b, real=real: real(a, b) if "json" in str(b) else refuse(),
            )

    def test_a_real_ensemble_by_the_command(self, tmp_path, capsys):
        toml = write_sample(tmp_path / "data")
        arguments = ["--ensemble", str(toml), "--out", str(tmp_path / "out"), "--format", self.kind]
        arguments += self.arguments(tmp_path / "data")
        assert cli.run(predict.main, arguments) == 0
        makes = OUTPUTS[self.kind].makes or ("probability maps" if self.is_probabilities else "")
        what = f"{makes} written" if makes else self.what
        assert f"6 {what}, 0 were there already" in capsys.readouterr().out
        ensemble = fusion.HierarchicalEnsemble.load(toml)
        for video in ensemble.videos:
            self.same(self.read(tmp_path / "out", video), self.predicted(ensemble, video))
        assert cli.run(predict.main, arguments) == 2
        assert "give --overwrite or --resume" in capsys.readouterr().err
        assert cli.run(predict.main, [*arguments, "--resume"]) == 0
        assert f"0 {what}, 6 were there" in capsys.readouterr().out
