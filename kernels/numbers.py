"""Numbers that stores, label maps and kernels must agree on, here alone; NumPy only.

A gap code q stands for the logit -24 (q / 255)^2 below its pixel's top class, whose code is 0. An
angle code q stands for the logit 2 ln tan((q + 1/2) pi / 512) of an independent channel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

GAP_RANGE = 24.0  # the largest gap below the top logit that a code keeps; exp(-24) = 4e-11
LEAST_PROBABILITY = float(np.exp(-GAP_RANGE))  # the floor of what a logarithm is taken of
LAST_CODE = 255
DECODE_TABLE = (-GAP_RANGE * (np.arange(LAST_CODE + 1) / LAST_CODE) ** 2).astype(np.float32)

_HALVES = np.arange(1, 512, dtype=np.float64) * (np.pi / 1024)
_LOGITS = 2 * np.log(np.tan(_HALVES))  # at k / 2 steps of the angle, k = 1 .. 511
_LOGITS[255] = 0.0  # tan(pi / 4) is 1
ANGLE_BOUNDS = _LOGITS[1::2].astype(np.float32)  # [255]: code q lies above bound q - 1
ANGLE_TABLE = _LOGITS[0::2].astype(np.float32)  # [256]

NARROW_VOID, WIDE_VOID = 255, 65535  # the last value of uint8 and of uint16 names no class
MOST_CLASSES = WIDE_VOID
MOST_PIXELS = 1 << 40  # of a picture; more is a mistake
MOST_RATIO = 2.0**20  # of two class multipliers: products of float32 scores stay normal numbers


def as_read(array: Any, kind: str | type[np.generic] | np.dtype[Any]) -> NDArray[Any]:
    """The array as compiled loops read it: of a type, in C order, no number at an odd address."""
    return np.require(array, kind, ("C", "ALIGNED"))


def void_label(classes: int | None) -> int:
    """The label of pixels without a class: 255, or 65535 in the uint16 maps of over 255 classes."""
    return NARROW_VOID if classes is None or classes <= NARROW_VOID else WIDE_VOID


# Temperatures: in between every logit over T is a float32, and what stands for -inf (-1e30) stays
# below all others; 1 / T is no float32 any more below 2.9e-39, where every pixel would be NaN.
COLDEST, HOTTEST = 2.0**-64, 2.0**64
TEMPERATURES = f"from {COLDEST:.2g} to {HOTTEST:.2g}"


def is_temperature(number: float) -> bool:
    """Whether a number may divide logits."""
    return COLDEST <= number <= HOTTEST  # NaN neither
