"""Samples by number, epochs, processes and folds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from fusion.errors import InputError
from fusion.labels import write_labels
from fusion.models.data.augment import Augment
from fusion.models.data.clips import Clips
from fusion.models.data.samples import Samples, Sampling, batches, folds

STILL = Augment(crop=32, scale=(1.0, 1.0), flip=0.0, colour=0.0)


def test_samples_are_functions_of_their_number(vspw):
    clips = Clips.vspw(vspw, "train")
    one, other = Samples(clips, Augment(crop=32), 5), Samples(clips, Augment(crop=32), 5)
    numbers = [3, 40, 0, 17]
    wanted = {k: one[k] for k in numbers}
    for k in reversed(numbers):
        for left, right in zip(wanted[k], other[k], strict=True):
            assert torch.equal(left, right)
    assert not torch.equal(one[0][0], Samples(clips, Augment(crop=32), 6)[0][0])


def test_every_sample_draws_its_own_view(vspw):
    samples = Samples(Clips.vspw(vspw, "train"), lambda image, mask, draw, void: draw.random(), 5)
    assert len({samples[k] for k in range(50)}) == 50


def test_an_epoch_has_every_frame_once(vspw, monkeypatch):
    seen, original = [], Clips.pair

    def noted(self, *names):
        seen.append(names)
        return original(self, *names)

    monkeypatch.setattr(Clips, "pair", noted)
    samples = Samples(Clips.vspw(vspw, "train"), STILL, 0)
    count = len(samples.pairs)
    for k in range(2 * count):
        samples[k]
    assert sorted(seen[:count]) == sorted(seen[count:]) == sorted(samples.pairs)
    assert seen[:count] != seen[count:]


def test_processes_share_the_numbers_out():
    pairs = zip(*(batches(2, 5, 3, rank, 2) for rank in range(2)), strict=True)
    numbers = [number for pair in pairs for batch in pair for number in batch]
    assert numbers == list(range(12, 30))
    assert len(list(batches(2, 5, 3))) == 3


def test_folds_partition_the_videos():
    videos = [f"v{k}" for k in range(11)]
    parts = folds(videos, 4, seed=1)
    assert sorted(sum(parts, ())) == sorted(videos)
    assert sorted(map(len, parts)) == [2, 3, 3, 3]
    assert parts == folds(videos, 4, seed=1) != folds(videos, 4, seed=2)
    for count in (1, 12):
        with pytest.raises(InputError, match=f"folds: got {count} for 11 videos"):
            folds(videos, count)


def test_rare_classes_come_more_often(clips_of_classes):
    """Class 2 is in one of 16 frames: sqrt(.25 / (1 / 16)) = 2 times an epoch."""
    samples = Samples(clips_of_classes, STILL, 0, sampling=Sampling(balance=0.25))
    assert len(samples.epochs) == 17
    seen = [frame for epoch in range(3) for frame in samples.epochs.frames(0, epoch).tolist()]
    rare = samples.pairs.index(("v3", "2"))
    assert [seen.count(k) for k in range(16)] == [6 if k == rare else 3 for k in range(16)]
    of_videos = Sampling(balance=0.99, frames_per_video=2)
    samples = Samples(clips_of_classes, STILL, 0, sampling=of_videos)
    assert len(samples.epochs) == 2 * 5  # of four videos, that one sqrt(.99 * 4) = 1.99 times


def test_some_frames_of_each_video(clips_of_classes):
    samples = Samples(clips_of_classes, STILL, 0, sampling=Sampling(every=3))
    assert samples.pairs == [(f"v{k}", str(t)) for k in range(4) for t in (0, 3)]
    samples = Samples(clips_of_classes, STILL, 0, sampling=Sampling(frames_per_video=2))
    frames = [samples.pairs[k] for k in samples.epochs.frames(0, 0)]
    assert sorted(video for video, _ in frames) == sorted(["v0", "v1", "v2", "v3"] * 2)
    both = Samples(clips_of_classes, STILL, 0, sampling=Sampling(every=2, balance=0.5))
    assert len(both.pairs) == 8


@pytest.fixture
def clips_of_classes(tmp_path):
    """Four videos of four frames; class 1 in a quarter of them, class 2 in frame 2 of v3."""
    for k in range(4):
        for t in range(4):
            mask = np.zeros((32, 32), np.uint8)
            mask[0, 0] = t == 1
            mask[1, 1] = 2 * (t == 2 and k == 3)
            write_labels(tmp_path / "masks" / f"v{k}" / f"{t}.png", mask)
            path = tmp_path / "images" / f"v{k}" / f"{t}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    return Clips.folder(tmp_path / "images", tmp_path / "masks", classes="abc")
