"""What every label layout keeps; a layout's tests inherit it and say how its data set is written.

`write` makes the data set with the library that people use for it, of the class ids and void 255 of
every frame; `stored` are the values on disk of those; `place` is the file of a frame.
"""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fusion.errors import FusionError, InputError, StoreError
from fusion.labels import LAYOUTS, Labels, write_labels
from fusion.labels.census import outside_values
from fusion.labels.layouts import base

FRAMES = ["f1", "f2", "f10"]
VIDEOS = ["clip_2", "clip_10"]
Data = dict[str, dict[str, np.ndarray]]


def maps(seed=0, high=11, size=(6, 9)):
    """A random label map of `high` classes with a void pixel."""
    labels = np.random.default_rng(seed).integers(0, high, size).astype(np.uint8)
    labels[0, 0] = 255
    return labels


class LayoutContract:
    layout: str
    units = VIDEOS
    frames = FRAMES  # None: a unit is a single image of the same id
    recognised = True
    in_memory = False
    options: dict = {}  # noqa: RUF012
    class_map = None  # of what is opened; None for the layout's own

    def write(self, root: Path, data: Data) -> Path:
        """Writes the data set; returns what is opened."""
        for unit, frames in data.items():
            for frame, ids in frames.items():
                write_labels(self.file(root, unit, frame), self.stored(ids), overwrite=True)
        return root

    def file(self, root: Path, unit: str, frame: str) -> Path:
        """The file of a frame."""
        return root / unit / f"{frame}.png"

    def stored(self, ids: np.ndarray) -> np.ndarray:
        return ids

    def raw(self, ids: np.ndarray) -> np.ndarray:
        """What `Labels.raw` gives of them."""
        return self.stored(ids)

    def allowed(self, classes: int) -> str:
        return f"0..{classes - 1} (void is 255)"

    def data(self) -> Data:
        """Every frame has a map of its own."""
        names = [(u, f) for u in self.units for f in (self.frames or [u])]
        data: Data = {unit: {} for unit in self.units}
        for seed, (unit, frame) in enumerate(names):
            data[unit][frame] = maps(seed)
        return data

    @pytest.fixture
    def root(self, tmp_path):
        (tmp_path / "data").mkdir()
        return self.write(tmp_path / "data", self.data())

    def open(self, root, **options):
        return Labels.open(self.layout, root, **{**self.options, **options})

    def first(self):
        return self.units[0], (self.frames or self.units)[0]

    def test_units_and_frames_come_in_order(self, root):
        labels = self.open(root)
        assert labels.videos == tuple(self.units)
        for unit in self.units:
            assert labels.frames(unit) == (self.frames or [unit])

    def test_what_was_stored_is_read(self, root):
        labels = self.open(root, classes=None if self.class_map else 11)
        for unit, frames in self.data().items():
            for frame, ids in frames.items():
                read = labels.read(unit, frame, classes=11, size=(6, 9))
                assert read.dtype == np.uint8
                assert np.array_equal(read, ids)
                raw = labels.raw(unit, frame)
                assert np.array_equal(raw, self.raw(ids))
                assert labels.size(unit, frame) == labels.size(unit) == (6, 9)

    def test_values_that_are_no_labels(self, root):
        unit, frame = self.first()
        data = self.data()
        data[unit][frame][:2] = [[9, 10, 255, 0, 10, 0, 0, 0, 0], [0] * 9]
        data[unit][frame][2:] = 1
        root = self.write(root if root.is_dir() else root.parent, data)
        nine, ten = self.raw(np.array([[9, 10]], np.uint8))[0].tolist()
        with pytest.raises(InputError) as error:
            self.open(root).read(unit, frame, classes=9)
        text = str(error.value)
        assert f"holds {nine}, {ten} outside {self.allowed(9)}" in text
        assert f"{nine} has 1 pixels, {ten} has 2 pixels" in text
        assert str(self.open(root).path(unit, frame)) in text
        void = self.open(root, stray="void")
        expected = [255, 255, 255, 0, 255, 0, 0, 0, 0]
        assert void.read(unit, frame, classes=9)[0].tolist() == expected
        counts = Counter()
        for ids in data[unit].values():
            counts.update(self.raw(ids[(ids == 9) | (ids == 10)][None]).ravel().tolist())
        assert outside_values(void, [unit], 9) == counts
        assert outside_values(void, [unit], 11) == {}

    def test_another_size_names_the_file(self, root):
        labels, (unit, frame) = self.open(root), self.first()
        with pytest.raises(InputError) as error:
            labels.read(unit, frame, classes=11, size=(9, 6))
        assert f"{labels.path(unit, frame)} is [6, 9] [H, W], expected [9, 6]" in str(error.value)

    def test_what_is_not_there(self, root, tmp_path):
        (tmp_path / "empty").mkdir()
        for place in (tmp_path / "nowhere", tmp_path / "empty"):
            with pytest.raises((StoreError, InputError), match=str(place)):
                self.open(place)
        labels, (unit, frame) = self.open(root), self.first()
        for name in ("../clip_10/f1", "", "f3", "..", "0", "99999", f"{frame}.png"):
            with pytest.raises(InputError, match="has no frame"):
                labels.read(unit, name)
            with pytest.raises(InputError, match="has no frame"):
                labels.size(unit, name)
        with pytest.raises(InputError, match="no video 'x'"):
            labels.read("x", frame)
        with pytest.raises(InputError, match="nonsense"):
            self.open(root, nonsense="1")

    def test_labels_travel(self, root):
        labels = self.open(root)
        base._again.cache_clear()
        content = pickle.dumps(labels)
        there, (unit, frame) = pickle.loads(content), self.first()
        assert there == labels
        assert hash(there.rule) == hash(labels.rule)
        assert (there.layout, there.videos) == (self.layout, labels.videos)
        assert np.array_equal(there.read(unit, frame, classes=11), self.data()[unit][frame])
        assert there.digest() == labels.digest()
        assert pickle.loads(content).rule is there.rule or self.in_memory  # made once a process
        assert self.in_memory or len(content) < 1500

    def test_digest_follows_the_data(self, root, tmp_path):
        labels, (unit, frame) = self.open(root), self.first()
        digest = labels.digest()
        assert digest == self.open(root).digest() == labels.digest(reversed(labels.videos))
        others = {labels.digest([unit]), self.open(root, stray="void").digest()}
        data = self.data()
        data[unit][frame][3, 3] = (int(data[unit][frame][3, 3]) + 1) % 11
        (tmp_path / "other").mkdir()
        others.add(self.open(self.write(tmp_path / "other", data)).digest())
        assert len({digest, *others}) == 4

    def test_it_is_recognised(self, root):
        if self.recognised:
            labels = Labels.open("auto", root, **self.options)
            assert labels == self.open(root)
            assert labels.summary().startswith(f"{self.layout} layout, {len(self.units)} videos, ")
        assert self.in_memory or self.layout in LAYOUTS

    def test_a_truncated_file_is_an_error(self, root):
        """Half of any file: an error that names the data set's place, or the same numbers."""
        top = root if root.is_dir() else root.parent
        for path in [p for p in sorted(top.rglob("*")) if p.is_file() and not self.in_memory]:
            whole = path.read_bytes()
            path.write_bytes(whole[: len(whole) // 2])
            try:
                labels = self.open(root)
                for unit in labels.videos:
                    for frame in labels.frames(unit):
                        read = labels.read(unit, frame, classes=11)
                        known = self.data().get(unit, {}).get(frame)  # of a list, less is left
                        assert known is None or np.array_equal(read, known), path
            except FusionError as error:
                assert str(top) in str(error)  # noqa: PT017
            path.write_bytes(whole)


class SingleImages(LayoutContract):
    """Layouts whose units are single images of the same id."""

    frames = None
    units = ("a_2", "a_10", "b_1")

    def file(self, root, unit, frame):
        return root / f"{unit}.png"
