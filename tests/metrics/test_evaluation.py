"""The task of one video: predictions counted beside ground truth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from fusion.metrics import confusion, map_videos
from fusion.metrics.evaluation import VideoConfusion, beside_truth, part_of

CLASSES = ("road", "sky", "car")
FRAMES = ["0", "1", "2"]


@dataclass(frozen=True)
class Maps:
    """Predictions drawn from a seed; every second frame is labelled, by a truth that is a seed."""

    seed: int
    classes: tuple[str, ...] = CLASSES
    read: list = field(default_factory=list)

    @staticmethod
    def draw(seed, video, frame, void):
        rng = np.random.default_rng([seed, ord(video), int(frame)])
        found = rng.integers(0, 3, (5, 4)).astype(np.uint8)
        found[0, 0] = 255 if void else found[0, 0]
        return found

    def predicted(self, video, frames):
        return ((frame, self.draw(self.seed, video, frame, void=False)) for frame in frames)

    def scored_videos(self, truth):
        return ("a", "b")

    def labelled_frames(self, truth, video):
        return FRAMES[::2]

    def target(self, truth, video, frame):
        self.read.append(frame)
        return self.draw(truth, video, frame, void=True)


def test_each_labelled_frame_comes_with_its_truth():
    maps, total, sums = Maps(1), np.zeros((3, 3), np.int64), []
    for labels, frame in zip(VideoConfusion(maps, 7).counted("a", total), FRAMES[::2], strict=True):
        assert np.array_equal(labels, maps.draw(1, "a", frame, void=False))
        sums.append(confusion(maps.draw(7, "a", frame, void=True), labels, 3))
        assert np.array_equal(total, sum(sums))  # counted before the labels are handed on
    assert maps.read == ["0", "2"]


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_the_confusion_of_videos(scheduler):
    found = map_videos(VideoConfusion(Maps(1), 7), ("a", "b"), scheduler=scheduler)
    for video, matrix in found.items():
        draws = [
            (Maps.draw(7, video, frame, True), Maps.draw(1, video, frame, False))
            for frame in FRAMES[::2]
        ]
        expected = sum(confusion(*pair, 3) for pair in draws)
        assert matrix.dtype == np.int64
        assert np.array_equal(matrix, expected)
        assert matrix.sum() == 2 * 19  # a void pixel a frame


def test_bands_of_a_frame_read_its_truth_once():
    maps = Maps(1)

    def bands(frames):
        return ((frame, band) for frame in frames for band in ((0, 2), (2, 5)))

    found = list(beside_truth(maps, 7, part_of(maps, 7, None, "a"), bands))
    assert [band for _, band in found] == [(0, 2), (2, 5)] * 2
    assert maps.read == ["0", "2"]
    assert np.array_equal(found[2][0], maps.draw(7, "a", "2", void=True))
    assert found[0][0] is found[1][0]


def test_many_models_share_one_reading_of_the_truth():
    models = [Maps(1), Maps(2)]

    def all_of_them(frames):
        for frame in frames:
            yield frame, [labels for m in models for _, labels in m.predicted("a", [frame])]

    totals = np.zeros((2, 3, 3), np.int64)
    for target, maps in beside_truth(models[0], 7, part_of(models[0], 7, None, "a"), all_of_them):
        totals += [confusion(target, labels, 3) for labels in maps]
    assert models[0].read == ["0", "2"]
    assert [t.tolist() for t in totals] == [VideoConfusion(m, 7)("a").tolist() for m in models]
