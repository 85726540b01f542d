"""Samples by number, epochs, processes and folds."""

from __future__ import annotations

import pytest
import torch

from fusion.errors import InputError
from fusion.models.data.augment import Augment
from fusion.models.data.clips import Clips
from fusion.models.data.samples import Samples, batches, folds

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
