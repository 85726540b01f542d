"""Mean of probabilities over a centred window of frames, along the motion where that is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from fusion.postprocess.flow import MOTIONS, Motion
from fusion.postprocess.neighbours import Neighbourhood, most_within, neighbourhoods
from fusion.postprocess.operation import MAPS, Frame, Operation, Stream, Video, parameter


@dataclass(frozen=True)
class Window(Operation):
    """P'_t(x) = mean of P_s(x) over the frames s with |t - s| <= radius.

    With motion P_s is looked up where x has gone, and left out where the flow back does not return
    to x (`fusion.postprocess.flow`).
    """

    name: ClassVar = "window"
    about: ClassVar = "mean of probabilities over neighbouring frames"
    stage: ClassVar = MAPS
    temporal: ClassVar = True

    radius: int = parameter(
        1,
        "frames of the source video to either side",
        low=1,
        high=1000,
        grid=(1, 2, 4),
        in_frames=True,
    )
    motion: str = parameter(
        "none",
        "none; or follow it, as pictures or the fused maps themselves show it",
        choices=MOTIONS,
        grid=MOTIONS,
    )

    @property
    def needs_pictures(self) -> bool:
        return self.motion == "images"

    def apply(self, stream: Stream, video: Video) -> Stream:
        motion = None if self.motion == "none" else Motion(video, self.motion)
        for near in neighbourhoods(stream, video, self.radius, self.radius):
            yield self._moved(near, motion) if motion else self._mean(near)

    def holds(self, video: Video) -> int:
        return 2 + most_within(video, self.radius, self.radius)

    @staticmethod
    def _mean(near: Neighbourhood) -> Frame:
        total = near.frames[0].values
        for frame in near.frames[1:]:
            total = total + frame.values
        return near.centre.having(total / len(near.frames))

    @staticmethod
    def _moved(near: Neighbourhood, motion: Motion) -> Frame:
        centre = near.centre
        motion.keep(near.frames)
        total, mass = centre.values, torch.ones((), device=centre.values.device)
        for frame in near.frames:
            if frame.name != centre.name:
                values, there = motion.moved(frame, centre)
                total, mass = total + values * there, mass + there
        return centre.having(total / mass)
