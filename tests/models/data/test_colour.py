"""Photometric distortion beside the standard library's colours and mmsegmentation's formulas."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from fusion.models.data import colour
from fusion.models.data.colour import distorted, linear, tinted


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (8, 9, 3)).astype(np.uint8)


def test_linear_by_hand():
    """`PhotoMetricDistortion.convert`: float32, clip, and the fraction cut off."""
    found = linear(np.array([[[0, 100, 255]]], np.uint8), 1.5, -20.4)
    assert found.tolist() == [[[0, 129, 255]]]


@pytest.mark.parametrize(("factor", "angle"), [(1.0, 0.1), (0.5, 0.0), (1.4, -0.08)])
def test_tinted_beside_colorsys(pixels, factor, angle):
    found = tinted(pixels, factor, angle)
    expected = np.empty(pixels.shape)
    for place in np.ndindex(pixels.shape[:2]):
        hue, saturation, value = colorsys.rgb_to_hsv(*(pixels[place] / 255))
        turned = (hue + angle) % 1, min(1, saturation * factor), value
        expected[place] = np.array(colorsys.hsv_to_rgb(*turned)) * 255
    # a step of the 256 hues is 6 of 255 in a saturated colour
    assert np.abs(found - expected).max() <= 8
    assert np.abs(found - expected).mean() <= 2


def test_grey_has_no_hue(pixels):
    grey = np.repeat(pixels[..., :1], 3, axis=2)
    np.testing.assert_array_equal(tinted(grey, 1.5, 0.1), grey)


def test_each_part_comes_half_of_the_time(pixels, monkeypatch):
    """And in the order of the authors: contrast before or after saturation and hue."""
    seen = []
    monkeypatch.setattr(colour, "linear", lambda p, f, s: seen[-1].append(("linear", f, s)) or p)
    monkeypatch.setattr(colour, "tinted", lambda p, f, a: seen[-1].append(("tinted", f, a)) or p)
    draw = np.random.default_rng(1)
    for _ in range(600):
        seen.append([])
        distorted(pixels, draw)
    bright = [c for one in seen for c in one if c[0] == "linear" and c[2]]
    contrast = [c for one in seen for c in one if c[0] == "linear" and not c[2]]
    tints = [c for one in seen for c in one if c[0] == "tinted"]
    for part, expected in ((bright, 300), (contrast, 300), (tints, 450)):
        assert abs(len(part) - expected) < 60
    assert all(-32 <= shift <= 32 and factor == 1 for _, factor, shift in bright)
    assert all(0.5 <= factor <= 1.5 for _, factor, _ in contrast)
    assert all(0.5 <= factor <= 1.5 and -0.1 <= angle <= 0.1 for _, factor, angle in tints)
    assert sum(factor != 1 for _, factor, _ in tints) == pytest.approx(300, abs=60)
    both = [[c[0] for c in one if c not in bright] for one in seen]
    assert abs(both.count(["linear", "tinted"]) - both.count(["tinted", "linear"])) < 60
