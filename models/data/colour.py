"""Photometric distortion, as the published configurations of mmsegmentation train with.

Liu et al., "SSD: Single Shot MultiBox Detector", ECCV 2016, section 2.2 (their data augmentation);
mmsegmentation, datasets/transforms/transforms.py, PhotoMetricDistortion and its defaults.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BRIGHTNESS, CONTRAST, SATURATION, HUE = 32, (0.5, 1.5), (0.5, 1.5), 18 / 180

Pixels = NDArray[np.uint8]


def distorted(pixels: Pixels, draw: np.random.Generator) -> Pixels:
    """An image in other light, uint8 [H, W, 3].

    Each with probability one half: brightness plus -32..32; contrast times 0.5..1.5, before or
    after the next two; saturation times 0.5..1.5; hue turned by up to a tenth of a circle.
    """
    chosen = draw.random(5) < 0.5
    shift, turn = draw.uniform(-BRIGHTNESS, BRIGHTNESS), draw.uniform(-HUE, HUE)
    contrast, saturation = draw.uniform(*CONTRAST), draw.uniform(*SATURATION)
    bright, contrasted, saturated, turned, contrast_first = chosen
    if bright:
        pixels = linear(pixels, 1.0, shift)
    if contrasted and contrast_first:
        pixels = linear(pixels, contrast, 0.0)
    if saturated or turned:
        factor, angle = saturation if saturated else 1.0, turn if turned else 0.0
        pixels = tinted(pixels, factor, angle)
    if contrasted and not contrast_first:
        pixels = linear(pixels, contrast, 0.0)
    return pixels


def linear(pixels: Pixels, factor: float, shift: float) -> Pixels:
    """pixels * factor + shift in 0..255, cut off to whole numbers as mmsegmentation does."""
    moved = pixels.astype(np.float32) * factor + shift
    return np.clip(moved, 0, 255).astype(np.uint8)


def tinted(pixels: Pixels, factor: float, angle: float) -> Pixels:
    """Saturation times a factor, hue turned by a part of a circle, [H, W, 3]; in 256 steps each."""
    turned = np.array(Image.fromarray(pixels).convert("HSV"))
    turned[..., 0] += np.uint8(round(angle * 256) % 256)
    turned[..., 1] = linear(turned[..., 1], factor, 0.0)
    return np.array(Image.fromarray(turned, mode="HSV").convert("RGB"))
