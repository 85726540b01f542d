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


def test_a_crop_from_the_images(capsys):
    """The largest multiple of 32 in the median shorter side, of 480 at most."""
    for sizes, stride, crop in [
        ([(64, 96)], 32, 64),
        ([(480, 853), (480, 640), (100, 100)], 32, 480),
        ([(1024, 2048)], 32, 480),
        ([(200, 90), (150, 300), (170, 400)], 4, 128),
        ([(20, 30)], 32, 32),
        ([(300, 300)], 14, 224),  # multiples of both
    ]:
        assert Augment().fitted(np.array(sizes), stride).crop == crop
    assert "augment: crop is 64, for images of 64x96\n" in capsys.readouterr().err


def test_a_crop_that_is_mostly_padding_is_said(capsys):
    """480 on 64 x 96: at scale s, s^2 of 64 x 96 / 480^2 is seen, and E s^2 = 1.75."""
    fitted = Augment(480).fitted(np.array([[64, 96]]), 32)
    assert fitted == Augment(480)
    assert Augment(480).padding(np.array([[64, 96]])) == pytest.approx(
        1 - 1.75 * 64 * 96 / 480**2, abs=1e-3
    )
    said = capsys.readouterr().err
    assert "crop is 480 and images 64x96, so that 95% of what is trained on lies beyond" in said
    Augment(96).fitted(np.array([[64, 96]]), 32)
    assert capsys.readouterr().err == ""


def test_crops_of_one_class_are_drawn_again(clips):
    """mmsegmentation's RandomCrop with cat_max_ratio, its loop written out."""
    image, _ = clips.pair("clip", "0")
    mask = np.zeros((40, 50), np.uint8)
    mask[:5, :6], mask[20:, :2] = 1, 255  # only crops at the upper left see much of class 1

    def theirs(draw):
        draw.uniform(1.0, 1.0)

        def box():
            left, top = draw.integers(0, 50 - 32 + 1), draw.integers(0, 40 - 32 + 1)
            return slice(top, top + 32), slice(left, left + 32)

        crop = box()
        for _ in range(10):
            labels, counts = np.unique(mask[crop], return_counts=True)
            counts = counts[labels != 255]
            if len(counts) > 1 and np.max(counts) / np.sum(counts) < 0.99:
                break
            crop = box()
        return mask[crop]

    differ = 0
    for seed in range(30):
        target = view_of(image, mask, seed, cat_max_ratio=0.99, **STILL)[1]
        np.testing.assert_array_equal(target.numpy(), theirs(np.random.default_rng(seed)))
        differ += not torch.equal(target, view_of(image, mask, seed, **STILL)[1])
    assert differ > 5


def test_photometric_distortion_changes_the_image_only(clips):
    image, mask = clips.pair("clip", "0")
    plain = view_of(image, mask, 1, **STILL)
    distorted = view_of(image, mask, 1, **STILL, photometric=True)
    assert torch.equal(plain[1], distorted[1])
    assert not torch.equal(plain[0], distorted[0])
