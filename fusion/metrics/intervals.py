"""Intervals of scores, gains and predictions: how far another draw of videos may be from this one.

V videos, C classes, U units: videos that belong together (clips of one drive, slices of one
patient) and so are left out together. Pixels and frames of one video are not independent; units
are. All intervals are one instrument, the delete-one-unit jackknife with Student's t (Efron and
Tibshirani, "An Introduction to the Bootstrap", chapter 11): with f(-u) the score without unit u,

    se^2 = (U - 1) / U  sum_u (f(-u) - mean f(-u))^2        ends: f -+ t(U - 1) se

Scores are fractions, so theirs is taken on the scale asin(sqrt f), which keeps the ends inside 0 to
1; differences stay as they are. A prediction for n new videos has se^2 (1 + V / n): the spread of
the estimate, and that of the new sample around it. Nothing is drawn: no seed, and no dependence on
the order of videos. nan below two units, and where a single unit holds all that is scored.

Why not a bootstrap: benchmarks/README.md, "Intervals", has the coverage of five candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.arguments import checked
from fusion.errors import InputError
from fusion.metrics.objectives import CONVENTIONS, Counts, Floats, Objective, objective

Interval = tuple[float, float]
MOST_SAMPLES = 10_000_000
UnitIndex = Sequence[int] | Counts | None
UNKNOWN = (math.nan, math.nan)
DRAWN = 1 << 22  # counts of all configurations in all draws that are worked on at a time


def interval(
    confusions: ArrayLike,
    wanted: str | Objective = "vspw",
    level: float = 0.95,
    *,
    units: UnitIndex = None,
) -> Interval:
    """Where the score of all videos of this kind is, of which these are a sample.

    Args:
        confusions: int64 [V, C, C], rows targets; videos without a scored pixel do not count.
        wanted: what is scored.
        level: the fraction of such intervals that shall hold it.
        units: index of each video's unit; every video its own by default.

    Returns:
        (low, high), fractions around the score of these videos; (nan, nan) where it is unknown.

    Raises:
        InputError: a level outside 0 to 1, or another number of units than of videos.
    """
    return _score_interval(confusions, wanted, level, units, spread=1.0)


def prediction_interval(
    confusions: ArrayLike,
    wanted: str | Objective = "vspw",
    videos: int | None = None,
    level: float = 0.95,
    *,
    units: UnitIndex = None,
    choice: float = 0.0,
) -> Interval:
    """As `interval`, of the score of n new videos: `videos`, by default as many as these.

    They are taken to come in units of the same size. choice: what choosing on these videos adds to
    the estimate's variance, as a share of it. InputError too for less than one video.
    """
    if videos is not None and videos < 1:
        raise InputError(f"prediction: videos is {videos}; give the number of new ones, at least 1")
    known = int(np.any(confusions, axis=(1, 2)).sum())
    spread = math.sqrt(1 + choice + (known / videos if videos else 1.0))
    return _score_interval(confusions, wanted, level, units, spread)


def difference_interval(
    mine: ArrayLike,
    other: ArrayLike,
    wanted: str | Objective = "vspw",
    level: float = 0.95,
    *,
    units: UnitIndex = None,
) -> Interval:
    """As `interval`, of the score of `mine` minus that of `other`, on the same videos in order."""
    return Gain.between(mine, other, wanted, level=level, units=units).interval


def standard_error(
    confusions: ArrayLike, wanted: str | Objective = "vspw", *, units: UnitIndex = None
) -> float:
    """Of the score, by the jackknife over units; nan where it is unknown."""
    return _error(_left_out((confusions,), wanted, units)[1:])


@checked
@dataclass(frozen=True)
class Gain:
    """What one choice is worth over another, on videos that neither was chosen on.

    value: the difference of the scores. interval: of it, at `level`, (nan, nan) where it is
    unknown. over: what is compared with. units: that stand behind the interval. what: is compared.
    error: the standard error of the value, nan where it is unknown.
    """

    value: float
    interval: Interval
    over: str
    units: int
    level: float = 0.95
    what: str = "mIoU"
    error: float = math.nan

    @classmethod
    def between(
        cls,
        mine: ArrayLike,
        other: ArrayLike,
        wanted: str | Objective = "vspw",
        over: str = "uniform weights",
        level: float = 0.95,
        *,
        units: UnitIndex = None,
    ) -> Gain:
        """Of held-out matrices int64 [V, C, C] over others of the same videos in order."""
        values = _left_out((mine, other), wanted, units)
        what = "mIoU" if (found := objective(wanted).name) in CONVENTIONS else found
        return cls.jackknifed(values, over, what, level)

    @classmethod
    def jackknifed(cls, values: Floats, over: str, what: str, level: float = 0.95) -> Gain:
        """Of a difference [1 + U] of two scores of any kind: of all units, then without each."""
        known = (float(values[0]), _around(values, level), over, len(values) - 1, level, what)
        return cls(*known, _error(values[1:]))

    def widened(self, factor: float) -> Gain:
        """The same with an interval and an error so many times as wide, around the value."""
        low, high = (self.value + factor * (end - self.value) for end in self.interval)
        return replace(self, interval=(low, high), error=factor * self.error)

    @property
    def distinguishable(self) -> bool:
        """Whether the interval leaves out zero; never where it is unknown."""
        low, high = self.interval
        return low > 0 or high < 0

    @property
    def beyond_standard_error(self) -> bool:
        """Whether the value is above one standard error; never where that is unknown."""
        return self.value > self.error

    def __str__(self) -> str:
        said = f"gain over {self.over}: {100 * self.value:+.2f} {self.what}"
        if math.isnan(self.interval[0]):
            few = "one video" if self.units == 1 else f"{self.units} units"
            return f"{said}; with {few} nothing says whether it is more than chance"
        low, high = (f"{100 * end:+.2f}" for end in self.interval)
        verdict = "" if self.distinguishable else "not "
        return f"{said}, interval {low} to {high}: {verdict}distinguishable from zero"


@checked
def bias_corrected(
    counts: Counts,
    rows: Counts,
    wanted: str | Objective = "vspw",
    samples: int = 1000,
    seed: int = 0,
    *,
    units: UnitIndex = None,
    level: float = 0.95,
) -> tuple[float, Interval]:
    """What the best of B configurations is worth on other videos, from their held-out counts.

    The best of many looks better than it is. Bootstrap bias-corrected cross-validation draws units
    with replacement, picks the best configuration on those drawn and scores it on those not drawn
    (Tsamardinos, Greasidou and Borboudakis, "Bootstrapping the out-of-sample predictions for
    efficient and accurate cross-validation", Machine Learning 107, 2018, algorithm 5).

    Args:
        counts: int64 [V, B, 2, C], intersections and predictions of each configuration on videos
            that it was not chosen on.
        rows: int64 [V, C], pixels by target.
        wanted: by what the best is picked, and scored.
        samples: draws.
        seed: of the draws.
        units: index of each video's unit; every video its own by default.
        level: of the interval, percentiles of the draws as in the paper.

    Returns:
        The mean of the draws' scores, and (low, high); nan below two units.

    Raises:
        InputError: as `interval` does, or fewer than one sample.
    """
    _check_level(level)
    if not 1 <= samples <= MOST_SAMPLES or seed < 0:
        advice = f"give 1 to {MOST_SAMPLES} samples (1000 is usual), and a seed of 0 or more"
        raise InputError(f"bias_corrected: samples is {samples}, seed is {seed}; {advice}")
    shapes = np.shape(counts), np.shape(rows)
    if len(shapes[0]) != 4 or shapes[1] != (shapes[0][0], shapes[0][3]) or shapes[0][2] != 2:
        got = f"bias_corrected: got counts {list(shapes[0])}, rows {list(shapes[1])}"
        raise InputError(f"{got}; give [V, B, 2, C] and [V, C]")
    kept = rows.any(axis=1)
    member = _membership(kept, units)
    if len(member) < 2:
        return math.nan, UNKNOWN
    inter, columns = np.moveaxis(counts[kept], (2, 0), (0, 2))  # each [B, V, C]
    scored = partial(objective(wanted).drawn, inter, rows[kept], columns)
    draws = np.random.default_rng(seed).integers(0, len(member), (samples, len(member)))
    found: list[Floats] = []
    step = max(1, DRAWN // (inter.shape[0] * inter.shape[2]))
    for first in range(0, samples, step):
        times = np.stack([np.bincount(d, minlength=len(member)) for d in draws[first:][:step]])
        best = np.nan_to_num(scored(times @ member), nan=-1.0).argmax(axis=0)
        rest = scored((times == 0) @ member)
        found.append(np.take_along_axis(rest, best[None], axis=0)[0])
    values = np.concatenate(found)
    values = values[~np.isnan(values)]  # a draw of every unit leaves none to score on
    if not len(values):
        return math.nan, UNKNOWN
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(values.mean()), (float(low), float(high))


def indistinguishable(
    counts: Counts,
    one: Counts,
    rows: Counts,
    wanted: str | Objective = "vspw",
    level: float = 0.95,
    *,
    units: UnitIndex = None,
) -> NDArray[np.bool_]:
    """Which of B configurations differ from one by no more than chance, as `Gain.between` says.

    Args:
        counts: int64 [V, B, 2, C], intersections and predictions of each configuration.
        one: int64 [V, 2, C], those of the one that all are compared with.
        rows: int64 [V, C], pixels by target.
        wanted, level, units: as in `interval`.

    Returns:
        bool [B]; all of them where nothing is known, below two units.
    """
    shapes = np.shape(counts), np.shape(rows)
    if len(shapes[0]) != 4 or shapes[1] != (shapes[0][0], shapes[0][3]) or shapes[0][2] != 2:
        got = f"bias_corrected: got counts {list(shapes[0])}, rows {list(shapes[1])}"
        raise InputError(f"{got}; give [V, B, 2, C] and [V, C]")
    kept = rows.any(axis=1)
    member = _membership(kept, units)
    times = np.concatenate([np.ones((1, member.shape[1])), 1 - member])
    inter, columns = np.moveaxis(counts[kept], (2, 0), (0, 2))  # each [B, V, C]
    scored = partial(objective(wanted).drawn, times=times)
    values = scored(inter, rows[kept], columns) - scored(one[kept, 0], rows[kept], one[kept, 1])
    ends = (_around(each, level) for each in values)
    return np.array([not (low > 0 or high < 0) for low, high in ends], bool)


def _score_interval(
    confusions: ArrayLike, wanted: str | Objective, level: float, units: UnitIndex, spread: float
) -> Interval:
    values = _left_out((confusions,), wanted, units)
    ends = _around(np.arcsin(np.sqrt(values)), level, spread)
    low, high = (math.sin(min(max(end, 0.0), math.pi / 2)) ** 2 for end in ends)
    # nan stays nan; there and back again may lose the last bit of the score itself
    return (low, high) if math.isnan(low) else (min(low, values[0]), max(high, values[0]))


def _around(values: Floats, level: float, spread: float = 1.0) -> Interval:
    """The ends around values[0], from the values [1:] without each unit."""
    _check_level(level)
    error = _error(values[1:])
    if math.isnan(error):
        return UNKNOWN
    half = student((1 + level) / 2, len(values) - 2) * error * spread
    return float(values[0] - half), float(values[0] + half)


def _error(without: Floats) -> float:
    """Standard error of a value, from the values [U] without each unit."""
    units = len(without)
    if units < 2:
        return math.nan
    # from the first one, so that equal values have no error at all, whatever their mean rounds to
    apart = without - without[0]
    return math.sqrt((units - 1) / units * float(((apart - apart.mean()) ** 2).sum()))


def _left_out(sets: Sequence[ArrayLike], wanted: str | Objective, units: UnitIndex) -> Floats:
    """The score [1 + U] of all videos, then without each unit; of two sets the difference."""
    arrays = [np.asarray(each) for each in sets]
    kept = np.any(arrays, axis=(0, 2, 3))
    member = _membership(kept, units)
    times = np.concatenate([np.ones((1, member.shape[1])), 1 - member])
    scores = [objective(wanted).resampled(each[kept], times) for each in arrays]
    return scores[0] if len(scores) == 1 else scores[0] - scores[1]


def _membership(kept: ArrayLike, units: UnitIndex) -> Floats:
    """[U, V], 1 where a video belongs to a unit; of the videos that are kept."""
    kept = np.asarray(kept, bool)
    index = np.arange(len(kept)) if units is None else np.asarray(units)
    if index.shape != kept.shape:
        raise InputError(f"units: got {index.size} for {len(kept)} videos; give one of each video")
    index = index[kept]
    return (np.unique(index)[:, None] == index).astype(np.float64)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"interval: level is {level}; give a fraction of 1, such as 0.95")


@lru_cache
def student(share: float, freedom: int) -> float:
    """The quantile t >= 0 of Student's distribution, for a share >= 1/2 below it.

    By bisection of its distribution function for whole degrees of freedom (Abramowitz and Stegun,
    26.7.3 and 26.7.4).
    """

    def below(angle: float) -> float:  # t = sqrt(freedom) tan(angle)
        odd, cosine = freedom % 2, math.cos(angle)
        term, terms = (cosine if odd else 1.0), 0.0
        for k in range(1 + odd, freedom, 2):
            terms, term = terms + term, term * cosine**2 * k / (k + 1)
        inside = math.sin(angle) * terms
        return (1 + (2 / math.pi * (angle + inside) if odd else inside)) / 2

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < share else (low, middle)
    return math.sqrt(freedom) * math.tan(low)
