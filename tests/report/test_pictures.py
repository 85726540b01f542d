"""Which frames are shown, and what their pictures hold."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from fusion.errors import StoreError
from fusion.report.colours import class_colours, heat, painted, smaller
from fusion.report.counts import FOUND, SINGLE
from fusion.report.gather import facts_of
from fusion.report.pictures import chosen
from fusion.report.results import Elsewhere, read_results
from tests.samples import FRAMES, VIDEOS


def accuracy(ensemble, truth, video, frame):
    target = truth.read(video, frame)
    labels = ensemble.predict(video, [frame])[0]
    return np.count_nonzero(labels == target) / np.count_nonzero(target != 255)


def test_gains_by_brute_force(facts, found, models, truths):
    truth = truths["test"]
    gains = {
        (v, f): accuracy(found, truth, v, f) - accuracy(models[facts.best], truth, v, f)
        for v, f in itertools.product(VIDEOS, FRAMES)
    }
    helped = [key for key in gains if gains[key] > 0]
    best = {v: max((k for k in helped if k[0] == v), key=gains.get, default=None) for v in VIDEOS}
    expected = sorted((key for key in best.values() if key), key=lambda key: -gains[key])
    assert [(row.video, row.frame) for row in facts.helped] == expected
    assert len(expected) == 3
    for row in facts.helped + facts.hurt:
        assert row.gain == pytest.approx(gains[row.video, row.frame], rel=1e-12)
    assert [row.frame for row in facts.hurt] == [k[1] for k in gains if gains[k] < 0][:3]


def test_neighbours_in_time_come_last():
    gains = {("a", "0"): 0.5, ("a", "1"): 0.4, ("b", "0"): 0.1, ("b", "1"): -0.3, ("c", "0"): 0.0}
    videos = {part: part for part in "abc"}
    assert chosen(gains, videos, 1) == [("a", "0"), ("a", "1"), ("b", "0")]
    assert chosen(gains, videos, -1) == [("b", "1")]
    more = gains | {("c", "1"): 0.05, ("d", "0"): 0.02}
    videos["d"] = "d"
    assert chosen(more, videos, 1) == [("a", "0"), ("b", "0"), ("c", "1")]


def test_pictures_are_label_maps_in_colours(facts, found, models, truths):
    row = facts.helped[0]
    assert [*row.pictures] == ["truth", SINGLE, FOUND, "disagreement"]
    target = truths["test"].read(row.video, row.frame)
    ids = np.where(target == 255, 4, target)
    np.testing.assert_array_equal(row.pictures["truth"], facts.colours[ids])
    for name, ensemble in ((SINGLE, models[facts.best]), (FOUND, found)):
        labels = ensemble.predict(row.video, [row.frame])[0]
        np.testing.assert_array_equal(row.pictures[name], facts.colours[labels])
    fused = found.predict(row.video, [row.frame])[0]
    others = [each.predict(row.video, [row.frame])[0] != fused for each in models.values()]
    np.testing.assert_array_equal(row.pictures["disagreement"], heat(np.mean(others, axis=0)))


def test_images_come_first_at_the_size_of_labels(data, tmp_path, facts):
    for video, frame in itertools.product(VIDEOS, FRAMES):
        (tmp_path / video).mkdir(exist_ok=True)
        picture = np.full((40, 56, 3), 7 * ord(video) % 256, np.uint8)
        Image.fromarray(picture).save(tmp_path / video / f"{frame}.png")
    shown = facts_of(read_results(data / "results", Elsewhere(images=tmp_path)))
    for row in shown.helped:
        assert next(iter(row.pictures)) == "image"
        image = row.pictures["image"]
        assert image.shape == (20, 28, 3)
        assert (image == 7 * ord(row.video) % 256).all()
    (tmp_path / shown.helped[0].video / f"{shown.helped[0].frame}.png").unlink()
    with pytest.raises(StoreError, match="has no picture of unit"):
        facts_of(read_results(data / "results", Elsewhere(images=tmp_path)))


def test_colours_differ_and_the_data_sets_own_come_first(truths):
    made = class_colours(truths["val"], [str(k) for k in range(124)])
    assert made.shape == (125, 3)
    assert len({tuple(colour) for colour in made}) == 125

    class Known:
        class_map = type("Map", (), {"colours": ((1, 2, 3), (4, 5, 6)), "names": ("a", "b")})

    assert class_colours(Known, ["a", "b"]).tolist() == [[1, 2, 3], [4, 5, 6], [0, 0, 0]]
    assert class_colours(Known, ["b", "a"]).tolist() != [[1, 2, 3], [4, 5, 6], [0, 0, 0]]


def test_channels_cover_each_other_in_their_order():
    colours = np.array([[1, 1, 1], [2, 2, 2], [0, 0, 0]], np.uint8)
    ids = np.array([[[0, 1, 1, 255]], [[2, 2, 3, 255]]], np.uint8)
    shown = painted(ids, colours, channels=True)[0, :, 0]
    assert shown.tolist() == [225, 1, 2, 0]


def test_wide_pictures_are_thinned():
    assert smaller(np.zeros((20, 480, 3))).shape == (20, 480, 3)
    assert smaller(np.zeros((20, 961, 3))).shape == (7, 321, 3)
