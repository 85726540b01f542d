"""Kornia's operations by name: their own results, and random numbers that stay the sample's."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch

from fusion.errors import InputError
from fusion.models.data.augment import Augment
from fusion.models.data.operations import applied, operations_of
from fusion.models.data.samples import Samples

STILL = {"scale": (1.0, 1.0), "flip": 0.0, "colour": 0.0}
BLUR = {"RandomGaussianBlur": {"kernel_size": [3, 3], "sigma": [0.5, 2.0], "p": 1.0}}


def draw(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def image():
    return torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(0))


def test_an_operation_is_kornia_s_own(image):
    table = {"RandomGrayscale": {"p": 1.0}, "RandomInvert": {"p": 1.0}}
    found = applied(operations_of(table, 64), image, draw())
    grey = (image * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(dim=0)
    torch.testing.assert_close(found, 1 - grey.expand(3, -1, -1))
    assert applied([], image, draw()) is image


def test_what_is_drawn_follows_from_the_sample(clips, image):
    operations = operations_of({**BLUR, "RandomGaussianNoise": {"std": 0.1}}, 64)
    one, other = applied(operations, image, draw(1)), applied(operations, image, draw(2))
    torch.manual_seed(4)
    before = torch.random.get_rng_state()
    assert torch.equal(applied(operations, image, draw(1)), one)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(one, other)
    assert 0 <= one.min() <= one.max() <= 1
    samples = [Samples(clips, Augment(32, operations=BLUR), 3) for _ in range(2)]
    assert torch.equal(samples[0][5][0], samples[1][5][0])


def test_only_the_image_is_changed(clips):
    picture, mask = clips.pair("clip", "0")
    plain = Augment(32, **STILL)(picture, mask, draw(), 255)
    blurred = Augment(32, **STILL, operations=BLUR)(picture, mask, draw(), 255)
    assert torch.equal(plain[1], blurred[1])
    assert not torch.equal(plain[0], blurred[0])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"RandomGausianBlur": {}}, "no 'RandomGausianBlur' among .*; did you mean 'RandomGaussi"),
        ({"RandomHorizontalFlip": {}}, "no 'RandomHorizontalFlip' among kornia's operations that"),
        ({"Normalize": {"mean": 0, "std": 1}}, "no 'Normalize' among"),
        ({"RandomGrayscale": {"probability": 1}}, "RandomGrayscale .* do not fit .*probability"),
        ({"RandomGrayscale": 1}, "RandomGrayscale is 1; give a table of its keys"),
        ({"RandomJpeg": {}}, "no 'RandomJpeg' among .*; did you mean 'RandomJPEG'"),
        (
            {"RandomGaussianBlur": {"kernel_size": [2, 2], "sigma": [0.1, 2.0], "p": 0.01}},
            r"RandomGaussianBlur \{.*\} do not fit \(.*odd",
        ),
    ],
)
def test_what_cannot_be_done(table, message):
    with pytest.raises(InputError, match=f"augment: operations: {message}"):
        operations_of(table, 64)


def test_a_kernel_that_a_small_view_has_no_room_for(image):
    table = {"RandomGaussianBlur": {"kernel_size": [61, 61], "sigma": [1.0, 2.0], "p": 1.0}}
    with pytest.raises(InputError, match=r"RandomGaussianBlur and a view of \[20, 24\] do not fit"):
        applied(operations_of(table, 64), image, draw())


def test_without_kornia(monkeypatch):
    assert operations_of({}, 64) == []
    monkeypatch.setitem(sys.modules, "kornia", None)
    with pytest.raises(InputError, match=re.escape("not installed; pip install kornia")):
        operations_of(BLUR, 64)
