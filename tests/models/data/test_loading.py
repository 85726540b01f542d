"""Batches by workers and without: the same bits, and the same sentence where something is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion.errors import InputError, StoreError
from fusion.labels import write_labels
from fusion.models.data.augment import Augment
from fusion.models.data.loading import loaded
from fusion.models.data.samples import Samples, Sampling, batches

FRAMES = 6


@pytest.fixture
def clips(folder, clips):
    """The clips of `folder`, of six frames."""
    for t in range(2, FRAMES):
        for kind in ("images", "labels"):
            content = (folder / kind / "clip" / "0.png").read_bytes()
            (folder / kind / "clip" / f"{t}.png").write_bytes(content)
    return clips


def samples(clips, **keys):
    return Samples(clips, Augment(32), 5, sampling=Sampling(**keys))


def all_of(made, workers=0, last=FRAMES):
    return list(loaded(made, batches(0, last // 2, 2), workers=workers))


def test_workers_make_the_same_batches(clips):
    alone, helped = all_of(samples(clips)), all_of(samples(clips), workers=2)
    assert len(alone) == FRAMES // 2
    for left, right in zip(alone, helped, strict=True):
        assert left[0].shape == (2, 3, 32, 32)
        assert all(torch.equal(one, two) for one, two in zip(left, right, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_in_one_sentence(folder, clips, workers):
    (folder / "images" / "clip" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    got = r"^images: \S*clip/3\.png cannot be decoded .*; restore the file, or go on without"
    with pytest.raises(StoreError, match=got) as caught:
        all_of(samples(clips), workers)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_ids_outside_the_classes_are_named_with_their_file(folder, clips, workers):
    mask = np.zeros((40, 50), np.uint8)
    mask[0, :7] = 9
    write_labels(folder / "labels" / "clip" / "2.png", mask, overwrite=True)
    got = r"^labels: \S*clip/2\.png holds 9 outside 0\.\.2 \(void is 255\): 9 has 7 pixels"
    for keys in ({}, {"damaged": "skip"}):  # nothing is wrong with the file
        with pytest.raises(InputError, match=got):
            all_of(samples(clips, **keys), workers)


def test_damaged_files_are_skipped_where_that_is_asked_for(folder, clips, capsys):
    for name in ("images/clip/3.png", "labels/clip/5.png"):
        path = folder / name
        path.write_bytes(path.read_bytes()[:60])
    made = samples(clips, damaged="skip")
    alone = all_of(made, last=3 * FRAMES)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert said[0].startswith("warning: ")
    assert "; skipped, as damaged = 'skip' says" in said[0]
    assert said[1] == "warning: images: 2 damaged files were skipped"
    helped = all_of(samples(clips, damaged="skip"), workers=2, last=3 * FRAMES)
    for left, right in zip(alone, helped, strict=True):
        assert all(torch.equal(one, two) for one, two in zip(left, right, strict=True))
    # the sample of a number is the same, whichever were asked for before
    again = samples(clips, damaged="skip")[7]
    assert torch.equal(again[0], alone[3][0][1])


def test_damaged_masks_hold_no_class_that_would_come_more_often(folder, clips):
    (folder / "labels" / "clip" / "5.png").write_bytes(b"")
    with pytest.raises(StoreError, match=r"clip/5\.png is"):
        samples(clips, balance=0.5)
    assert len(samples(clips, balance=0.5, damaged="skip").epochs) == FRAMES


def test_nothing_but_damage_is_no_loop_without_end(folder, clips):
    for path in (folder / "images" / "clip").iterdir():
        path.write_bytes(b"")
    with pytest.raises(StoreError, match=r"none of 6 samples of .* can be decoded"):
        samples(clips, damaged="skip")[0]
