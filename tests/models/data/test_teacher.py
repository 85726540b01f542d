"""A store that teaches: its probabilities stay with the image, whatever the view."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from fusion.errors import InputError, StoreError
from fusion.models.data.augment import Augment
from fusion.models.data.clips import standardised
from fusion.models.data.samples import Samples
from fusion.models.data.teacher import StoreTeacher, is_store
from fusion.stores import LogitWriter

STILL = {"scale": (1.0, 1.0), "colour": 0.0}
PAIRS = [("clip", "0"), ("clip", "1")]


def fill(path, probabilities, classes=("a", "b", "c"), video="clip", size=(40, 50), **options):
    options = {"values": "probabilities", "profile": "exact", **options}
    with LogitWriter(path, classes, **options) as writer:
        frames = [str(t) for t in range(len(probabilities))]
        with writer.video(video, frames=frames, size=size) as out:
            out.extend(probabilities)
    return path


@pytest.fixture
def maps():
    draw = np.random.default_rng(0)
    return draw.dirichlet(np.ones(3), (2, 40, 50)).transpose(0, 3, 1, 2).astype(np.float32)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_probabilities_stay_with_the_image(clips, tmp_path, maps, flip):
    """Of maps as large as the image, a view has the mean of the four pixels around a centre."""
    teacher = StoreTeacher(fill(tmp_path / "t.zarr", maps), clips.classes, PAIRS)
    samples = Samples(clips, Augment(32, flip=flip, **STILL), 3, teacher)
    for number in range(4):
        view, target, taught = samples[number]
        assert taught.shape == (3, 8, 8)
        if flip:
            view, target, taught = view.flip(-1), target.flip(-1), taught.flip(-1)
        found = [
            (t, y, x)
            for t in range(2)
            for y in range(9)
            for x in range(19)
            if torch.equal(
                standardised(clips.image("clip", str(t)))[:, y : y + 32, x : x + 32], view
            )
        ]
        ((t, y, x),) = found
        window = maps[t][:, y : y + 32, x : x + 32]
        wanted = np.mean([window[:, i::4, j::4] for i in (1, 2) for j in (1, 2)], axis=0)
        np.testing.assert_allclose(taught.numpy(), wanted, atol=2e-3)  # float16 logarithms


def test_scaled_views_agree_with_their_masks(clips, tmp_path):
    """A teacher that knows the masks gives their classes wherever it is sure of one."""
    masks = [np.array(clips.pair(*pair)[1]) for pair in PAIRS]
    known = np.stack([np.where(mask == 255, 1, mask) for mask in masks])
    sure = (np.arange(3)[:, None, None] == known[:, None]) * 0.98 + 0.01
    teacher = StoreTeacher(fill(tmp_path / "t.zarr", sure), clips.classes, PAIRS)
    samples = Samples(clips, Augment(32, scale=(0.5, 3.0)), 1, teacher)
    agree = beyond = 0
    for number in range(30):
        _, target, taught = samples[number]
        centre = target[2::4, 2::4]
        inner = (taught.max(dim=0).values > 0.9) & (centre != 255)
        agree += (taught.argmax(dim=0) == centre)[inner].float().mean().item() / 30
        outside = taught.sum(dim=0) == 0
        beyond += int(outside.sum())
        assert (centre[outside] == 255).all()
        np.testing.assert_allclose(taught.sum(dim=0)[~outside], 1, atol=1e-5)
    assert agree > 0.97
    assert beyond > 0


def test_without_a_teacher_nothing_changes(clips, tmp_path, maps):
    teacher = StoreTeacher(fill(tmp_path / "t.zarr", maps), clips.classes, PAIRS)
    for number in range(5):
        plain = Samples(clips, Augment(32), 7)[number]
        taught = Samples(clips, Augment(32), 7, teacher)[number]
        assert len(plain) == 2
        assert all(torch.equal(one, two) for one, two in zip(plain, taught, strict=False))


def test_stores_that_do_not_fit(clips, tmp_path, maps):
    def asked(path):
        return Samples(clips, Augment(32), 0, StoreTeacher(path, clips.classes, PAIRS))[0]

    def said(text, **facts):
        store = fill(tmp_path / f"{len(list(tmp_path.iterdir()))}.zarr", maps, **facts)
        with pytest.raises(InputError, match=rf"loss: teacher .*{re.escape(text)}"):
            asked(store)

    said("has classes a, c, b, the student a, b, c; give a store", classes=("a", "c", "b"))
    said("holds sigmoid-probabilities, which are no", values="sigmoid-probabilities")
    said("holds scores, which are no distribution", values="scores")
    said("lacks 1 videos of the training data, the first 'clip'; predict them", video="clap")
    said("video 'clip' is of 80x100 images, here 40x50; give a store of", size=(80, 100))
    maps = maps[:1]
    said("video 'clip' has no frame '1'; predict it too")
    (tmp_path / "folder").mkdir()
    assert is_store(str(tmp_path / "folder"))
    assert not is_store("")
    with pytest.raises(StoreError):
        StoreTeacher(tmp_path / "folder", clips.classes, PAIRS)
