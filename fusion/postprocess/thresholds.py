"""Labels that are not certain enough fall back to another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError
from fusion.postprocess.classes import by_class, class_ids
from fusion.postprocess.operation import LABELS, Operation, Stream, Video, parameter

SECOND, VOID = "second", "void"


@dataclass(frozen=True)
class Thresholds(Operation):
    """Where the probability of a label's class is below that class's threshold it falls back.

    To a class, by default the first (background); to the class of most probability among the
    others that reach their own thresholds (`second`; where there is none the label stays); or to
    no label (`void`, which cannot be scored). A class that bears one of these names is meant by it.
    """

    name: ClassVar = "thresholds"
    about: ClassVar = "labels below their class's probability fall back to another"
    stage: ClassVar = LABELS
    looks_at: ClassVar = True
    channels: ClassVar = False  # these have thresholds of their own

    least: float = parameter(
        0.5, "probability that a label needs", low=0, high=1, grid=(0.3, 0.4, 0.5, 0.6)
    )
    by_class: Mapping[str, float] | tuple[float, ...] = parameter(
        {}, "that of some classes in the place of `least`"
    )
    fallback: str = parameter("", "a class (none: the first), second (the next best), or void")

    def check(self, classes: Sequence[str], *, independent: bool) -> None:
        super().check(classes, independent=independent)
        limits, words = self._limits(classes), (*classes, SECOND, VOID)
        class_ids(f"{self.name}: fallback", [self.fallback or classes[0]], words)
        if self.fallback == SECOND and SECOND not in classes and (limits == limits[0]).all():
            got = f"fallback={SECOND} under one threshold for all, which no second class reaches"
            raise InputError(f"{self.name}: {got}; give by_class, or another fallback")

    def _limits(self, classes: Sequence[str]) -> NDArray[np.float32]:
        what = f"{self.name}: by_class"
        return np.array(by_class(what, self.by_class, classes, self.least, 0, 1), np.float32)

    def apply(self, stream: Stream, video: Video) -> Stream:
        limits = self._limits(video.classes)
        for frame in stream:
            assert frame.beside is not None
            assert frame.beside.probabilities is not None
            probabilities = frame.beside.probabilities.cpu().numpy()
            yield frame.having(self._fallen(frame.values, probabilities, limits, video.classes))

    def _fallen(
        self,
        labels: NDArray[np.integer],
        probabilities: NDArray[np.float32],
        limits: NDArray[np.float32],
        classes: Sequence[str],
    ) -> NDArray[np.integer]:
        known = np.minimum(labels, len(classes) - 1)  # void has no threshold
        own = np.take_along_axis(probabilities, known[None].astype(np.int64), 0)[0]
        low = (own < limits[known]) & (labels < len(classes))
        made = labels.copy()
        fallback = self.fallback or classes[0]
        if fallback in classes:
            made[low] = classes.index(fallback)
        elif fallback == VOID:
            made[low] = np.iinfo(labels.dtype).max
        else:
            rest = np.where(probabilities[:, low] < limits[:, None], -1, probabilities[:, low])
            rest[labels[low], np.arange(rest.shape[1])] = -1
            best = rest.argmax(0)
            made[low] = np.where(rest.max(0) < 0, labels[low], best)
        return made
