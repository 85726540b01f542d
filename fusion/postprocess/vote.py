"""Majority vote of label maps over neighbouring frames; of masks that is their median."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fusion.postprocess.neighbours import most_within, neighbourhoods
from fusion.postprocess.operation import LABELS, Operation, Stream, Video, parameter


@dataclass(frozen=True)
class Vote(Operation):
    """The label that most of the frames s with |t - s| <= radius give a pixel; of several the
    frame's own if it is among them, else the one that comes first in time.
    """

    name: ClassVar = "vote"
    about: ClassVar = "majority vote of labels over neighbouring frames"
    stage: ClassVar = LABELS
    temporal: ClassVar = True

    radius: int = parameter(
        1,
        "frames of the source video to either side",
        low=1,
        high=1000,
        grid=(1, 2, 4),
        in_frames=True,
    )

    def apply(self, stream: Stream, video: Video) -> Stream:
        for near in neighbourhoods(stream, video, self.radius, self.radius):
            own = near.distances.index(0)
            yield near.centre.having(majority([frame.values for frame in near.frames], own))

    def holds(self, video: Video) -> int:
        return 2 + most_within(video, self.radius, self.radius)


def majority(maps: Sequence[NDArray[np.integer]], own: int) -> NDArray[np.integer]:
    """The most frequent value of every pixel; of several that of map `own`, else the first."""
    order = [own, *(place for place in range(len(maps)) if place != own)]
    best, most = maps[own], np.zeros(maps[own].shape, np.uint16)
    for place in order:
        votes = np.zeros(most.shape, np.uint16)
        for other in maps:
            votes += other == maps[place]
        more = votes > most
        best, most = np.where(more, maps[place], best), np.where(more, votes, most)
    return best
