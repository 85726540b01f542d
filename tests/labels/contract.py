"""What every label layout keeps; a layout's tests inherit it and name the layout.

A subclass says how its data set is written: `stored` are the values on disk of class ids and void
255, `finish` writes what lists the videos.
"""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fusion.errors import InputError, StoreError
from fusion.labels import LAYOUTS, Labels, write_labels
from fusion.labels.census import outside_values

FRAMES = ["f1", "f2", "f10"]
VIDEOS = ["clip_2", "clip_10"]


def maps(seed=0, high=11, size=(6, 9)):
    """A random label map of `high` classes with a void pixel."""
    labels = np.random.default_rng(seed).integers(0, high, size).astype(np.uint8)
    labels[0, 0] = 255
    return labels


class LayoutContract:
    layout: str

    def stored(self, ids: np.ndarray) -> np.ndarray:
        return ids

    def finish(self, root: Path, videos: list[str]) -> None:
        pass

    @pytest.fixture
    def root(self, tmp_path):
        """Two videos of three frames, frame f<n> of map number n."""
        rule = LAYOUTS[self.layout]
        for video in VIDEOS:
            for frame in FRAMES:
                file = rule.masks(tmp_path, video) / f"{frame}.png"
                write_labels(file, self.stored(maps(int(frame[1:]))))
        self.finish(tmp_path, VIDEOS)
        return tmp_path

    def open(self, root, **options):
        return Labels.open(self.layout, root, **options)

    def test_videos_and_frames_come_in_order(self, root):
        rule, labels = LAYOUTS[self.layout], self.open(root)
        assert labels.videos == rule.labelled(root, None) == tuple(VIDEOS)
        assert set(labels.videos) <= set(rule.videos(root, None))
        assert [labels.frames(video) for video in labels.videos] == [FRAMES, FRAMES]

    def test_what_was_stored_is_read(self, root):
        labels = self.open(root, classes=11)
        for frame in FRAMES:
            read = labels.read("clip_10", frame, size=(6, 9))
            assert read.dtype == np.uint8
            assert np.array_equal(read, maps(int(frame[1:])))
            assert np.array_equal(labels.raw("clip_10", frame), self.stored(read))

    def test_values_that_are_no_labels(self, root):
        wrong = self.stored(np.array([[9, 10, 255, 0, 10]], np.uint8))
        path = LAYOUTS[self.layout].masks(root, "clip_2") / "f2.png"
        write_labels(path, wrong, overwrite=True)
        nine, ten = sorted({*wrong[0, :2].tolist()})
        allowed = LAYOUTS[self.layout].allowed(9, 255)
        with pytest.raises(InputError) as error:
            self.open(root).read("clip_2", "f2", classes=9)
        assert f"{path} holds {nine}, {ten} outside {allowed}" in str(error.value)
        void = self.open(root, stray="void")
        assert void.read("clip_2", "f2", classes=9).tolist() == [[255, 255, 255, 0, 255]]
        found = outside_values(void, ["clip_2"], 9)  # 9 and 10 are in the other frames as well
        counts = [Counter(self.stored(maps(n)).ravel().tolist()) for n in (1, 10)]
        here = Counter({nine: 1, ten: 2})
        assert found == {value: sum(c[value] for c in [here, *counts]) for value in here}
        assert outside_values(void, ["clip_2"], 11) == {}

    def test_videos_lie_apart_below_the_root(self, root):
        rule = LAYOUTS[self.layout]
        for place in (rule.masks, rule.images):
            folders = [place(root, video) for video in VIDEOS]
            assert len(set(folders)) == 2
            assert all(root in folder.parents for folder in folders)

    def test_what_is_not_there_is_a_store_error(self, root):
        for place in (root / "nowhere", root / "empty"):
            (root / "empty").mkdir(exist_ok=True)
            with pytest.raises(StoreError, match=str(place)):
                self.open(place)
        for frame in ("../clip_10/f1", "", "f3"):
            with pytest.raises(InputError, match="has no frame"):
                self.open(root).path("clip_2", frame)

    def test_labels_travel_as_a_name(self, root):
        labels = self.open(root)
        assert labels.layout == self.layout
        assert pickle.loads(pickle.dumps(labels)) == labels
        assert len(pickle.dumps(labels)) < 1000

    def test_digest_tells_layouts_apart(self, root):
        labels = self.open(root)
        others = [Labels(root, labels.videos, labels.classes, "error", n) for n in ("x", "y")]
        assert labels.digest() == self.open(root).digest()
        assert len({labels.digest(videos=[]), *(o.digest(videos=[]) for o in others)}) == 3
