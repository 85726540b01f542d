"""Percentile bootstrap over videos: how far a score may move with other videos of the same kind.

V videos, C classes, S samples. Each sample draws V videos with replacement, sums their counts and
takes the dataset mIoU (Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13).
Pixels and frames of one video are not independent; videos are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.metrics.confusion import counts
from fusion.metrics.objectives import miou_of_counts

Interval = tuple[float, float]


def resampled_miou(
    confusions: NDArray[np.int64], convention: str, samples: int, seed: int
) -> NDArray[np.float64]:
    """mIoU [S] of S draws from the matrices [V, C, C].

    The draws depend on V, `samples` and `seed` only, which pairs two calls.
    """
    videos = len(confusions)
    draws = np.random.default_rng(seed).integers(0, videos, size=(samples, videos))
    times = np.zeros((samples, videos))
    np.add.at(times, (np.arange(samples)[:, None], draws), 1.0)
    # float64 sums of pixel counts are exact below 2^53, so a BLAS's order of adding does not show
    inter, rows, columns = (times @ part.astype(np.float64) for part in counts(confusions))
    return miou_of_counts(inter, rows, columns, convention)


def percentile_interval(values: NDArray[np.float64], level: float) -> Interval:
    """The central fraction `level` of the values [S], as (low, high)."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def check_options(level: float, samples: int) -> None:
    if not 0 < level < 1:
        raise InputError(f"interval: level is {level}; give a fraction of 1, such as 0.95")
    if samples < 1:
        raise InputError(f"interval: samples is {samples}; give at least 1 (2000 is usual)")
