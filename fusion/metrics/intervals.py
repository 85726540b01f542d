"""Percentile bootstrap over videos: how far a score may move with other videos of the same kind.

V videos, C classes, S samples. Each sample draws V videos with replacement, sums their counts and
takes the dataset mIoU (Efron and Tibshirani, "An Introduction to the Bootstrap", chapter 13).
Pixels and frames of one video are not independent; videos are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np

from fusion.errors import InputError
from fusion.metrics.objectives import counts
from fusion.metrics.objectives import Counts, Floats, miou_of_counts

Interval = tuple[float, float]


def resampled_miou(confusions: Counts, convention: str, samples: int, seed: int) -> Floats:
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


def miou_interval(
    matrices: Sequence[Sequence[Counts]],
    convention: str,
    level: float,
    samples: int,
    seed: int,
) -> Interval:
    """The central fraction `level` of S draws, as (low, high); nan below two videos.

    `matrices` are V of [C, C] of one set of scores, or of two whose difference is drawn.
    """
    if not 0 < level < 1:
        raise InputError(f"interval: level is {level}; give a fraction of 1, such as 0.95")
    if samples < 1:
        raise InputError(f"interval: samples is {samples}; give at least 1 (2000 is usual)")
    if len(matrices[0]) < 2:
        return math.nan, math.nan
    drawn = (resampled_miou(np.stack(each), convention, samples, seed) for each in matrices)
    low, high = np.quantile(reduce(np.subtract, drawn), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
