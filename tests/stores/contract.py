"""Contracts that a profile of a store, or an importer, inherits by naming itself.

class TestExact(StoreContract):
    profile = "exact"
    ...
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import zarr

from fusion.errors import InputError
from fusion.stores import GapCodec, LogitStore, LogitWriter
from fusion.stores.codec import PROFILES, AngleCodec
from fusion.stores.format import video_key
from fusion.stores.importers import (
    Importer,
    choose,
    import_folder,
    import_video,
    plan_folder,
)
from fusion.text import natural_order
from tests.stores.common import CLIP, folder_of, pixels, problems, refused, shard_of, tree, write


class StoreContract:
    """What every profile promises.

    profile: its name. dtype: of the codes. config: its codec, as the attributes give it. values:
    of the store. packed: whether videos go into packs. clip: what goes in. kept: the codes
    [T, C, h, w] of such a clip, worked out without the writer. decided: what logits say of each
    pixel. truth: what the clip does.
    """

    profile: ClassVar[str]
    dtype: ClassVar[str]
    config: ClassVar[dict | None]
    values: ClassVar[str] = "logits"
    packed: ClassVar[bool] = False
    clip: ClassVar[np.ndarray] = CLIP

    def kept(self, clip: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def decided(self, logits: np.ndarray) -> np.ndarray:
        return logits.argmax(axis=-3)

    def truth(self) -> np.ndarray:
        return self.decided(self.clip)

    def write(self, path: Path, clip: np.ndarray, **options: Any) -> Path:
        how = {"profile": self.profile, "values": self.values, "packed": self.packed}
        return write(path, {"v": clip}, **how, **options)

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return self.write(tmp_path / "s.zarr", self.clip, size=(480, 853))

    def test_what_goes_in_comes_out(self, path):
        store = LogitStore(path)
        assert store.codes("v").tobytes() == self.kept(self.clip).tobytes()
        assert store.codes("v").dtype == self.dtype
        assert np.array_equal(self.decided(store.read("v")), self.truth())
        assert (store.read("v").dtype, store.read("v").shape) == (np.float32, CLIP.shape)
        assert (store.profile, store.values) == (self.profile, self.values)
        assert store.kernel_values == "logits"
        info = store.describe("v")
        assert (info.shape, info.size, info.frames) == (CLIP.shape, (480, 853), ("0", "1", "2"))

    def test_plain_zarr_reads_the_same_numbers(self, path):
        array = zarr.open_array(folder_of(path), mode="r")
        assert array[:].tobytes() == LogitStore(path).codes("v").tobytes()
        assert array.dtype == self.dtype
        ours = array.attrs["segfusion"]
        if self.packed:
            assert array.metadata.dimension_names == ("frame", "number")
            assert array.chunks == (1, 4 * 5 * 6)
            (ours,) = ours["videos"]
            assert ours["shape"] == [4, 5, 6]
        else:
            assert array.metadata.dimension_names == ("frame", "class", "y", "x")
            assert array.chunks == (1, 4, 5, 6)
        assert ours["video"] == "v"
        group = zarr.open_group(path, mode="r").attrs["segfusion"]
        assert group["classes"] == ["class 0", "class 1", "class 2", "class 3"]
        assert group["codec"] == self.config

    def test_an_unwritten_chunk_is_no_picture(self, path):
        """Its fill value is one that no frame consists of; the store refuses it anyway."""
        shard_of(path).unlink()
        unwritten = PROFILES[self.profile].decode(zarr.open_array(folder_of(path), mode="r")[:])
        best = unwritten.max(axis=1)
        assert (np.isnan(best) | (best == -24)).all()
        refused(path, naming="video 'v'")

    def test_frames_by_id_in_the_order_asked_for(self, path):
        store = LogitStore(path)
        whole = store.read("v")
        assert np.array_equal(store.read("v", ["2", "0", "2"]), whole[[2, 0, 2]])
        assert store.read("v", []).shape == (0, 4, 5, 6)
        missing = r"s.zarr: video 'v' has no frame '7' \(2 missing of 3\)"
        with pytest.raises(InputError, match=missing):
            store.read("v", ["0", "7", "8"])

    def test_ties_go_to_the_lowest_class(self, tmp_path):
        clip = np.zeros((1, 3, 1, 2), np.float32)
        clip[0, 1:, 0, 1] = 0.75
        stored = LogitStore(self.write(tmp_path / "t.zarr", clip)).read("v")
        assert stored.argmax(axis=1).ravel().tolist() == [0, 1]

    def test_several_files_hold_the_same(self, path, tmp_path):
        cut = self.write(tmp_path / "cut.zarr", self.clip, shard_frames=1)
        files = [sum("/c/" in name for name in tree(each)) for each in (cut, path)]
        assert files == [1 if self.packed else 3, 1]
        assert np.array_equal(LogitStore(cut).codes("v"), LogitStore(path).codes("v"))
        assert problems(cut) == [None]

    def test_the_same_program_writes_the_same_bytes(self, path, tmp_path):
        (tmp_path / "again").mkdir()
        again = tmp_path / "again" / "s.zarr"
        self.write(again, self.clip, size=(480, 853))
        assert pixels(again) == pixels(path)
        assert LogitStore(again).digest() == LogitStore(path).digest()


class ImporterContract:
    """What every importer promises.

    importer: its class. options: what it needs to be given for `save`'s folders. values: what it
    says that the numbers are; None: nothing. frames: ids, not in order where files name them.
    images: whether videos are single images, whose frame is called as they are.
    save: writes clips {video: {frame: [C, h, w]}} as a folder of this kind, and returns it.
    damage: spoils a video's files of such a folder. place: the geometry of a video, if it has one.
    """

    importer: ClassVar[type[Importer]]
    options: ClassVar[dict[str, Any]] = {}
    classes = ("sky", "road", "car", "tree")
    videos = ("v2", "v10", "a")  # not in order
    frames: ClassVar[tuple[str, ...]] = ("f10", "f9", "f1")
    values: ClassVar[str | None] = None
    side: ClassVar[tuple[int, int]] = (5, 6)
    images = False

    def save(self, folder: Path, clips: dict[str, dict[str, np.ndarray]]) -> Path:
        raise NotImplementedError

    def damage(self, folder: Path, video: str) -> None:
        raise NotImplementedError

    def place(self, video: str) -> dict[str, Any] | None:
        return None

    def kept(self, clip: np.ndarray) -> np.ndarray:
        """Codes [T, C, h, w] of a clip, worked out without importer and writer."""
        if self.values == "sigmoid-probabilities":
            return AngleCodec().encode(np.log(clip / (1 - clip)))
        return GapCodec().encode(np.log(clip) if self.values == "probabilities" else clip)

    @pytest.fixture
    def clips(self) -> dict[str, dict[str, np.ndarray]]:
        rng, shape = np.random.default_rng(5), (len(self.classes), *self.side)
        made = {video: {f: rng.normal(0, 3, shape) for f in self.frames} for video in self.videos}
        return {
            video: {frame: self.numbers(logits) for frame, logits in clip.items()}
            for video, clip in made.items()
        }

    def numbers(self, logits: np.ndarray) -> np.ndarray:
        """float32 numbers of the kind that the importer reads."""
        if self.values == "probabilities":
            logits = np.exp(logits) / np.exp(logits).sum(axis=0)
        if self.values == "sigmoid-probabilities":
            logits = 1 / (1 + np.exp(-logits))
        return logits.astype(np.float32)

    @pytest.fixture
    def folder(self, tmp_path: Path, clips: dict) -> Path:
        (tmp_path / "source").mkdir()
        return self.save(tmp_path / "source", clips)

    @pytest.fixture(autouse=True)
    def said(self, places):
        """Lets importers say where videos lie."""
        self.places = places

    def choose(self, folder: Path) -> Importer:
        importer = choose(folder, **self.options)
        assert type(importer) is self.importer
        assert importer.known(folder).values == self.values
        return importer

    def writer(self, path: Path) -> LogitWriter:
        return LogitWriter(path, self.classes, values=self.values or "logits")

    def bring(self, folder: Path, path: Path) -> list[bool]:
        importer, writer = self.choose(folder), self.writer(path)
        return [import_video(writer, importer, source) for source in importer.videos(folder)]

    def order(self, video: str) -> tuple[str, ...]:
        """Ids of a video's frames; a single image's is called as its unit is."""
        return (video,) if self.images else tuple(sorted(self.frames, key=natural_order))

    def test_what_was_imported_reads_back_equal(self, folder, clips, tmp_path):
        before = tree(folder)
        assert self.bring(folder, tmp_path / "s.zarr") == [True] * 3
        store = LogitStore(tmp_path / "s.zarr")
        assert store.videos == ("a", "v10", "v2")
        for video, clip in clips.items():
            assert store.frames(video) == self.order(video)
            ordered = sorted(self.frames, key=natural_order)
            kept = self.kept(np.stack([clip[frame] for frame in ordered]))
            assert np.array_equal(store.codes(video), kept)
            assert self.places[video].get("geometry") == self.place(video)
        assert tree(folder) == before

    def test_the_call_does_it_all(self, folder, tmp_path):
        plan = plan_folder(folder, tmp_path / "plan.zarr", self.classes, **self.options)
        shown = list(plan.preview())
        assert not (tmp_path / "plan.zarr").exists()
        assert [facts["video"] for facts in shown] == ["a", "v2", "v10"]
        assert shown[0]["shape"] == [len(self.frames), len(self.classes), *self.side]
        assert (shown[0]["frames"], shown[0]["geometry"]) == ([*self.order("a")], self.place("a"))
        assert shown[0]["values"] == self.values or self.values is None
        done = import_folder(folder, tmp_path / "c.zarr", self.classes, **self.options)
        assert done == (3, 0)
        assert self.bring(folder, tmp_path / "s.zarr") == [True] * 3
        for video in self.videos:
            codes = [LogitStore(tmp_path / name).codes(video) for name in ("c.zarr", "s.zarr")]
            assert np.array_equal(*codes)

    def test_ids_come_in_natural_order(self, folder):
        importer = self.choose(folder)
        found = importer.videos(folder)
        assert [source.video for source in found] == ["a", "v2", "v10"]
        ids = tuple(importer.frames(found[0], self.classes).ids)
        assert ids == tuple(sorted(self.frames, key=natural_order))

    def test_another_kind_of_folder_is_refused_in_a_sentence(self, tmp_path):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "note.txt").write_text("hello")
        for name in ("other", "missing", "other/note.txt"):
            assert not self.importer.recognises(tmp_path / name)
            with pytest.raises(InputError) as caught:
                self.importer(**self.importer_options()).videos(tmp_path / name)
            text = str(caught.value)
            assert text.startswith(f"{tmp_path / name}: ")
            assert ("no such file" if name == "missing" else self.importer.holds) in text
            assert "\n" not in text
        assert not os.path.exists(tmp_path / "missing")

    def importer_options(self) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if name != "kind"}

    def test_running_it_again_skips(self, folder, tmp_path):
        path = tmp_path / "s.zarr"
        importer = self.choose(folder)
        first = importer.videos(folder)[0]
        assert import_video(self.writer(path), importer, first)
        assert self.bring(folder, path) == [False, True, True]
        before = tree(path)
        assert self.bring(folder, path) == [False] * 3
        assert tree(path) == before

    def test_damage_is_named_and_nothing_of_the_video_is_kept(self, folder, tmp_path):
        self.damage(folder, "v2")
        with pytest.raises(InputError) as caught:
            self.bring(folder, tmp_path / "s.zarr")
        assert str(caught.value).startswith(f"{folder / 'v2'}")
        assert "\n" not in str(caught.value)
        store = LogitStore(tmp_path / "s.zarr")
        assert store.videos == ("a",)
        assert not (tmp_path / "s.zarr" / video_key("v2")).exists()

    def test_another_number_of_classes_is_refused(self, folder, tmp_path):
        with pytest.raises(InputError) as caught:
            import_folder(folder, tmp_path / "s.zarr", [*self.classes, "more"], **self.options)
        assert str(folder) in str(caught.value)
        assert "classes" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_link_that_leads_out_is_refused(self, folder, tmp_path):
        sources = {source.video: source for source in self.choose(folder).videos(folder)}
        entry = folder / sources["v2"].files[0].relative_to(folder).parts[0]
        entry.rename(tmp_path / entry.name)
        entry.symlink_to(tmp_path / entry.name)
        with pytest.raises(InputError, match=r"a link that leads out of .*; copy"):
            choose(folder, **self.options).videos(folder)

    def test_an_importer_is_a_value(self):
        options = self.importer_options()
        importer = self.importer(**options)
        assert importer == self.importer(**options)
        assert hash(importer) == hash(self.importer(**options))
