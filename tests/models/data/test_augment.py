"""Random views: image and mask stay together, void beyond the border."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fusion.models.data.augment import Augment
from fusion.models.data.clips import standardised

STILL = {"scale": (1.0, 1.0), "flip": 0.0, "colour": 0.0}


def view_of(image, mask, seed, crop=32, **options):
    return Augment(crop, **options)(image, mask, np.random.default_rng(seed), 255)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_image_and_mask_stay_together(clips, flip):
    """A view without scale and colour is a window of the pair, mirrored together."""
    image, mask = clips.pair("clip", "0")
    view, target = view_of(image, mask, 4, **{**STILL, "flip": flip})
    if flip:
        view, target = view.flip(-1), target.flip(-1)
    whole = standardised(image)
    windows = ((y, x, whole[:, y : y + 32, x : x + 32]) for y in range(9) for x in range(19))
    places = [(y, x) for y, x, window in windows if torch.equal(window, view)]
    assert len(places) == 1
    y, x = places[0]
    np.testing.assert_array_equal(target.numpy(), mask[y : y + 32, x : x + 32])


def test_beyond_the_image_is_void(clips):
    image, mask = clips.pair("clip", "0")
    view, target = view_of(image, mask, 0, crop=64, **STILL)
    assert view.shape == (3, 64, 64)
    assert target[40:].eq(255).all()
    assert target[:, 50:].eq(255).all()
    assert not view[:, 40:].any()
    np.testing.assert_array_equal(target[:40, :50].numpy(), mask)


def test_scaled_masks_hold_their_own_values_only(clips):
    image, mask = clips.pair("clip", "0")
    for seed in range(20):
        view, target = view_of(image, mask, seed, scale=(0.4, 2.5))
        assert set(target.unique().tolist()) <= {0, 1, 2, 255}
        assert view.shape == (3, 32, 32)
        assert torch.isfinite(view).all()


def test_colour_changes_the_image_only(clips):
    image, mask = clips.pair("clip", "0")
    plain = view_of(image, mask, 1, **STILL)
    coloured = view_of(image, mask, 1, **{**STILL, "colour": 0.5})
    assert torch.equal(plain[1], coloured[1])
    assert not torch.equal(plain[0], coloured[0])
