"""What a pipeline gives on some parts, and whether that is more than another gives.

U units, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np

from fusion.metrics import Scores
from fusion.metrics.consistency import pooled
from fusion.metrics.intervals import Gain
from fusion.metrics.objectives import Counts, Floats, Objective
from fusion.search.held import UnitOf

SCORE = "score"
CONSISTENCY = {"vc8": 8, "vc16": 16}  # frames of a window
AIMS = (SCORE, *CONSISTENCY)


class Measure(NamedTuple):
    """Of a part: confusion matrix, and by length the windows that begin in it.

    cells, counts: places in the flattened [C, C] that are not 0, which are few, and what is there.
    """

    classes: int
    cells: Counts
    counts: Counts
    windows: Mapping[int, Sequence[float]]

    @classmethod
    def of(cls, confusion: Counts, windows: Mapping[int, Sequence[float]]) -> Self:
        """Of a matrix int64 [C, C]."""
        cells = np.flatnonzero(confusion)
        return cls(len(confusion), cells, confusion.ravel()[cells], windows)

    @property
    def confusion(self) -> Counts:
        """int64 [C, C]."""
        whole = np.zeros(self.classes**2, np.int64)
        whole[self.cells] = self.counts
        return whole.reshape(self.classes, self.classes)


@dataclass(frozen=True)
class Outcome:
    """Parts under a pipeline, or each under its own.

    name: of what it is. measures: of every part. classes, objective, units: the run's.
    """

    name: str
    measures: Mapping[str, Measure]
    classes: Sequence[str]
    objective: str | Objective
    units: UnitOf

    @cached_property
    def scores(self) -> Scores:
        """By confusion matrices."""
        matrices = {part: each.confusion for part, each in self.measures.items()}
        return Scores(matrices, self.classes, self.objective)

    def consistency(self, frames: int) -> float:
        """Video consistency over so many frames; nan where no window is as long."""
        return pooled(s for each in self.measures.values() for s in each.windows[frames])

    def value(self, aim: str) -> float:
        """What is to be as high as can be."""
        known = self.scores.score if aim == SCORE else self.consistency(CONSISTENCY[aim])
        return -1.0 if math.isnan(known) else known

    def gain(self, over: Outcome, aim: str = SCORE) -> Gain:
        """Paired, by units."""
        if aim == SCORE:
            return self.scores.gain(over.scores, over.name, units=self.units)
        frames = CONSISTENCY[aim]
        values = self._without_each(frames) - over._without_each(frames)
        return Gain.jackknifed(values, over.name, aim.upper())

    def _without_each(self, frames: int) -> Floats:
        """Video consistency [1 + U] of all units, then without each; of those with windows."""
        by_unit: dict[str, list[float]] = {}
        for part, each in self.measures.items():
            known = [score for score in each.windows[frames] if not math.isnan(score)]
            if known:
                by_unit.setdefault(self.units[part], []).extend(known)
        sums = np.array([math.fsum(some) for some in by_unit.values()])
        counts = np.array([len(some) for some in by_unit.values()])
        if len(counts) < 2:
            return np.array([self.consistency(frames)])
        rest = (sums.sum() - sums) / (counts.sum() - counts)
        return np.concatenate([[self.consistency(frames)], rest])


def on_front(points: Sequence[Sequence[float]]) -> list[bool]:
    """Which points no other is at least as high as in everything, and higher in something.

    Of equal ones the first. nan counts as lowest.
    """
    values = np.nan_to_num(np.asarray(points, np.float64), nan=-np.inf)
    at_least = (values[:, None] >= values).all(axis=-1)  # [i, j]: i as high as j in everything
    higher = (values[:, None] > values).any(axis=-1)
    earlier = np.triu(at_least & at_least.T, 1)  # equal, and i comes before j
    beaten: list[bool] = np.any((at_least & higher) | earlier, axis=0).tolist()
    return [not each for each in beaten]
