"""Cells: counted by a loop, drawn without bias, and never more than memory holds."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from fusion.contested import Maps
from fusion.contested.maps import VideoMaps
from fusion.kernels.numbers import LEAST_PROBABILITY
from fusion.kernels.resized import MAP_STEPS, Frames, stepped
from fusion.search.learned.cells import MOST_CELLS, Cells, Sample, cell_counts, drawn
from tests.search.simulated import both_ways

CLASSES = 4


def frames_of(size, native, stride=1, frames=2, seed=0, void=0.1) -> Frames:
    """Class c at random with a share that falls with c; some void."""
    rng = np.random.default_rng(seed)
    shape = (frames, *(len(range(0, length, stride)) for length in size))
    targets = rng.choice(CLASSES, shape, p=[0.7, 0.2, 0.09, 0.01]).astype(np.uint8)
    targets[rng.random(shape) < void] = 255
    odds = np.exp(rng.normal(0, 2, (frames, 3, CLASSES, *native)))
    maps = stepped((odds / odds.sum(axis=2, keepdims=True)).astype(np.float32), MAP_STEPS)
    return Frames(maps, targets, size, stride)


@pytest.mark.parametrize(
    ("size", "native", "stride"),
    [
        ((24, 40), (6, 10), 1),
        ((25, 31), (6, 10), 1),
        ((25, 31), (7, 9), 3),
        ((8, 8), (8, 8), 1),
        ((5, 6), (9, 11), 1),
        ((30, 20), (4, 3), 4),
    ],
)
def test_label_pixels_are_counted_in_the_cell_they_lie_in(size, native, stride):
    frames = frames_of(size, native, stride)
    for place, targets in enumerate(frames.targets):
        expected = np.zeros((*native, CLASSES), np.int64)
        for row, column in np.ndindex(targets.shape):
            if targets[row, column] < CLASSES:
                y, x = (
                    int((n * stride + 0.5) / length * cells)
                    for n, length, cells in zip((row, column), size, native, strict=True)
                )
                expected[y, x, targets[row, column]] += 1
        found = cell_counts(frames, place, CLASSES)
        assert np.array_equal(found, expected.reshape(-1, CLASSES))
        assert found.sum() == (targets < CLASSES).sum()


@pytest.mark.parametrize("quota", [20, 90, 200])
def test_sums_over_draws_estimate_all_label_counts(quota):
    """Of every class, and of every class where some model is sure: within four standard errors."""
    video = VideoMaps.held(frames_of((20, 24), (10, 12)))
    assert 0 < video.rows.min() < 12
    whole = drawn(video, 1e9, np.random.default_rng(0))
    draws = [drawn(video, quota, np.random.default_rng([7, seed])) for seed in range(600)]
    marked = [np.log(0.5), -1.0]

    def sums(sample: Sample) -> np.ndarray:
        sure = [sample.logs[:, 0, 0] > mark for mark in marked]
        return np.stack([sample.counts.sum(axis=0), *(sample.counts[s].sum(axis=0) for s in sure)])

    each = np.stack([sums(sample) for sample in draws])
    error = each.std(axis=0) / np.sqrt(len(draws))
    assert np.array_equal(sums(whole)[0], video.rows)
    assert (np.abs(each.mean(axis=0) - sums(whole)) <= 4 * error + 1e-9).all()
    number = [len(sample.logs) for sample in draws]
    assert np.mean(number) <= quota + 4 * np.std(number) / np.sqrt(len(draws))


def test_rare_classes_are_seen_more_often_than_by_their_share():
    video = VideoMaps.held(frames_of((40, 48), (20, 24)))
    draws = [drawn(video, 100, np.random.default_rng(seed)) for seed in range(40)]
    seen = np.mean([(sample.counts > 0).sum(axis=0) for sample in draws], axis=0)
    assert seen[3] / seen[0] > 3 * video.rows[3] / video.rows[0]


def test_a_large_quota_takes_all_cells_as_they_are():
    frames = frames_of((24, 40), (6, 10))
    video = VideoMaps.held(frames)
    sample = drawn(video, 1e9, np.random.default_rng(0))
    whole = np.concatenate([cell_counts(frames, place, CLASSES) for place in range(2)])
    labelled = whole.sum(axis=1) > 0
    assert np.array_equal(sample.counts, whole[labelled])
    maps = frames.maps.transpose(0, 3, 4, 1, 2).reshape(-1, 3, CLASSES)[labelled]
    assert np.array_equal(sample.logs, np.log(np.maximum(maps, LEAST_PROBABILITY)))
    assert (sample.logs.dtype, sample.counts.dtype) == (np.float32, np.float32)


def test_a_void_video_has_no_cells():
    frames = frames_of((24, 40), (6, 10))
    void = VideoMaps.held(replace(frames, targets=np.full_like(frames.targets, 255)))
    sample = drawn(void, 100, np.random.default_rng(0))
    assert (sample.logs.shape, sample.counts.shape) == ((0, 3, CLASSES), (0, CLASSES))
    joined = Sample.joined([sample, drawn(VideoMaps.held(frames), 50, np.random.default_rng(0))])
    assert set(joined.case) == {1}


def test_maps_that_are_read_again_give_the_same_cells():
    first, second = (frames_of((24, 40), (6, 10), seed=seed) for seed in range(2))
    held = VideoMaps.held(first, second)
    again = VideoMaps(partial(iter, (first, second)), held.rows, held.models, held.cells)
    mine, theirs = (drawn(video, 60, np.random.default_rng(3)) for video in (held, again))
    assert np.array_equal(mine.logs, theirs.logs)
    assert np.array_equal(mine.counts, theirs.counts)


def same(mine: Sample, theirs: Sample) -> bool:
    return np.array_equal(mine.logs, theirs.logs) and np.array_equal(mine.counts, theirs.counts)


def test_other_videos_do_not_touch_a_draw():
    """Neither their place nor what their labels say."""
    maps, _ = both_ways(count=4)
    whole = Cells(maps, 100, 3, Cells.within(maps).device)
    turned = replace(whole, maps=maps.subset(["v3", "v1", "v0", "v2"]))
    (frames,) = maps.pixels[2].frames()
    other = VideoMaps.held(replace(frames, targets=np.ascontiguousarray(frames.targets[:, ::-1])))
    changed = replace(maps, pixels=(*maps.pixels[:2], other, maps.pixels[3]))
    relabelled = replace(whole, maps=changed)
    for video in ("v0", "v1", "v3"):
        assert same(whole.samples[video], turned.samples[video])
        assert same(whole.samples[video], relabelled.samples[video])
    assert not same(whole.samples["v2"], relabelled.samples["v2"])
    assert not same(whole.samples["v0"], replace(whole, seed=4).samples["v0"])
    fewer = whole.subset(["v3", "v0"])
    assert list(fewer.samples) == ["v3", "v0"]
    assert fewer.samples["v3"] is whole.samples["v3"]
    assert fewer.maps.videos == ("v3", "v0")


def test_cells_stay_within_memory():
    maps, _ = both_ways(count=4)
    bytes_each = 4 * (5 + 1) * 4
    assert Cells.within(maps).most == MOST_CELLS
    for cells in (1, 40, 90):
        some = Cells.within(Maps(**{**vars(maps), "memory": 8 * bytes_each * cells}))
        assert some.most == cells
        number = sum(len(sample.logs) for sample in some.samples.values())
        assert number <= cells + 4 * np.sqrt(cells)  # each by itself: Poisson
    assert Cells.within(replace(maps, memory=1)).most == 1
