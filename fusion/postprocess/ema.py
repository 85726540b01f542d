"""Exponential moving average of probabilities over time, over the past or over both sides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fusion.postprocess.neighbours import most_within, neighbourhoods
from fusion.postprocess.operation import MAPS, Operation, Stream, Video, parameter

SPAN = 6  # half-lives of the future that count: what comes later weighs less than 1/64


@dataclass(frozen=True)
class Ema(Operation):
    """P'_t = sum_s a^|t - s| P_s / sum_s a^|t - s|, a = 2^(-1 / half_life), s <= t.

    Both ways also the future, up to SPAN half-lives. Times are frame numbers, so that frames far
    apart hardly know of each other. The weights are those that are there: the first frame of a
    one-way average is itself (the bias correction of Adam; Kingma and Ba, ICLR 2015, section 3).
    """

    name: ClassVar = "ema"
    about: ClassVar = "exponential moving average of probabilities over time"
    stage: ClassVar = MAPS
    temporal: ClassVar = True

    half_life: float = parameter(
        1.0,
        "frames after which a weight has halved",
        low=0.05,
        high=1000,
        grid=(0.5, 1.0, 2.0),
        in_frames=True,
    )
    both_ways: bool = parameter(False, "average over the future too", grid=(False, True))

    def apply(self, stream: Stream, video: Video) -> Stream:
        share, reach = 2.0 ** (-1 / self.half_life), self._reach
        past, weight, last = None, 0.0, 0
        for centre, frames, distances in neighbourhoods(stream, video, 0, reach):
            now = video.times[centre.name]
            if past is None:
                past, weight = centre.values.clone(), 1.0
            else:
                fade = share ** (now - last)
                past, weight = past * fade + centre.values, weight * fade + 1.0
            last, total, mass = now, past, weight
            for frame, distance in zip(frames, distances, strict=True):
                if distance > 0:
                    total = total + frame.values * share**distance
                    mass += share**distance
            yield centre.having(total / mass)

    def holds(self, video: Video) -> int:
        return 2 + most_within(video, 0, self._reach)

    @property
    def _reach(self) -> float:
        return SPAN * self.half_life if self.both_ways else 0.0
