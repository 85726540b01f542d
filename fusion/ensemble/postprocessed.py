"""Fused frames through an ensemble's postprocessing.

    maps [C, h, w] -> operations on maps -> interpolated [C, H, W] -> operations on probabilities
    -> labels [H, W] -> operations on labels

Smoothing in time is linear, and so is interpolation: it is done before, on a fraction of the
pixels. Frames that nobody asked for are read where operations look at neighbours, and dropped as
soon as no later operation does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from fusion import kernels
from fusion.ensemble.plan import Plan
from fusion.ensemble.stream import Band, Fusion, Means
from fusion.errors import InputError
from fusion.kernels.arithmetic import Fused
from fusion.postprocess.operation import (
    LABELS,
    MAPS,
    PROBABILITIES,
    STAGES,
    Frame,
    Stream,
    Video,
)
from fusion.postprocess.pipeline import Pipeline


@dataclass(frozen=True)
class Postprocessed:
    """A video under a recipe and a pipeline.

    Args:
        recipe: what is fused, and how.
        pipeline: what is done to it.
        video: whose frames they are.
        plan: of the video, for what `needed` says.
    """

    recipe: Fusion
    pipeline: Pipeline
    video: Video
    plan: Plan

    def bands(self, frames: Sequence[str], outputs: Sequence[str]) -> Iterator[Band]:
        """A band a frame, all of its rows.

        Args:
            frames: ids, in stored order where operations look at neighbours.
            outputs: what is asked for.

        Raises:
            InputError: frames in another order, and what operations say.
        """
        left = list(frames)
        read = self._read(left)
        if not left:
            return
        for frame in self._labels(self._pixels(read, set(left)), set(left)):
            fused = frame.beside
            assert fused is not None
            if frame.values is not None:
                fused = replace(fused, labels=torch.from_numpy(np.ascontiguousarray(frame.values)))
            asked = {name: getattr(fused, name) for name in outputs}
            yield frame.name, (0, self.plan.size[0]), Fused(**asked)
            left.remove(frame.name)
            if not left:  # nobody asked for what comes later
                return

    def maps(self, frames: Sequence[str]) -> Means:
        """(frame id, probabilities [C, h, w]) after the operations on maps alone.

        Raises as `bands`.
        """
        wanted, stream = set(frames), self._maps(self._read(frames))
        return ((frame.name, frame.values) for frame in stream if frame.name in wanted)

    def _read(self, frames: Sequence[str]) -> Sequence[str]:
        """The frames that have to be read for these."""
        if not any(each.temporal for each in self.pipeline):
            return tuple(frames)  # a copy: the caller's list shrinks while they are given
        wanted = set(frames)
        if list(frames) != [frame for frame in self.video.frames if frame in wanted]:
            got = "frames in another order than the stores have them"
            raise InputError(f"frames: got {got}; postprocess {self.pipeline} takes theirs")
        return self.video.frames

    def _maps(self, read: Sequence[str]) -> Stream:
        maps = (Frame(*each) for each in self.recipe.maps(self.video.name, read, self.plan))
        return self.pipeline.apply(MAPS, maps, self.video)

    def _labels(self, stream: Stream, wanted: set[str]) -> Stream:
        """Frames with their labels after all operations on these; only those that are wanted."""
        stream = self.pipeline.apply(LABELS, stream, self.video)
        return (frame for frame in stream if frame.name in wanted)

    def _pixels(self, read: Sequence[str], wanted: set[str]) -> Stream:
        """Frames with labels as values, where there are any, and all that is needed beside."""
        stream = self._whole(read, wanted)
        if self.pipeline.of(PROBABILITIES):
            stream = self.pipeline.apply(PROBABILITIES, stream, self.video)
            stream = self._kept(stream, PROBABILITIES, wanted)
            stream = (Frame(frame.name, self._decided(frame.values)) for frame in stream)
        for frame in stream:
            fused = frame.values
            labels = None if fused.labels is None else fused.labels.cpu().numpy()
            yield Frame(frame.name, labels, fused)

    def _whole(self, read: Sequence[str], wanted: set[str]) -> Stream:
        """Frames at label resolution: `Fused` as values, probabilities alone for operations."""
        alone = bool(self.pipeline.of(PROBABILITIES))
        if not self.pipeline.of(MAPS):
            read = read if self._later(MAPS) else [frame for frame in read if frame in wanted]
            bands: list[Fused] = []
            for name, (_, end), band in self.recipe.bands(self.video.name, read, self.plan):
                bands.append(band)
                if end == self.plan.size[0]:
                    fused, bands = joined(bands), []
                    yield Frame(name, fused.probabilities if alone else fused)
            return
        for frame in self._kept(self._maps(read), MAPS, wanted):
            fused = self._interpolated(frame.values)
            yield Frame(frame.name, fused.probabilities if alone else fused)

    def _interpolated(self, values: torch.Tensor) -> Fused:
        how: dict[str, Any] = {"values": "probabilities", "outputs": self.plan.outputs}
        how |= {"multipliers": self.recipe.multipliers, "channels": self.recipe.channels}
        size = self.plan.size
        return joined(
            [
                kernels.upsample_softmax_average([values], [1.0], size, rows=rows, **how)
                for rows in self.plan.bands
            ]
        )

    def _decided(self, values: torch.Tensor) -> Fused:
        how: dict[str, Any] = {"values": "probabilities", "outputs": self.plan.outputs}
        how |= {"multipliers": self.recipe.multipliers, "channels": self.recipe.channels}
        return kernels.softmax_average([values], [1.0], **how)

    def _kept(self, stream: Stream, stage: str, wanted: set[str]) -> Stream:
        """All frames where a later operation looks at neighbours, else those that are wanted."""
        return (frame for frame in stream if self._later(stage) or frame.name in wanted)

    def _later(self, stage: str) -> bool:
        stages = STAGES[STAGES.index(stage) + 1 :]
        return any(each.temporal for later in stages for each in self.pipeline.of(later))


def joined(bands: Sequence[Fused]) -> Fused:
    """Bands of a frame, one below the other."""
    if len(bands) == 1:
        return bands[0]
    names = bands[0].asked()
    return Fused(**{name: torch.cat([getattr(b, name) for b in bands], dim=-2) for name in names})


def needed(pipeline: Pipeline, outputs: Sequence[str]) -> tuple[str, ...]:
    """What has to be fused for these outputs; InputError for one that nothing can be done to."""
    if "group_means" in outputs:
        got = f"group_means with postprocess {pipeline}"
        raise InputError(f"outputs: got {got}; ask the ensemble's plain() for them")
    names = dict.fromkeys(outputs)
    if pipeline.of(LABELS):
        names["labels"] = None
    if pipeline.looks_at_probabilities or pipeline.of(PROBABILITIES):
        names["probabilities"] = None
    return tuple(names)


def held_bytes(pipeline: Pipeline, video: Video, grid: tuple[int, int], labels: int) -> int:
    """Bytes of the frames that operations hold at most.

    Args:
        pipeline: the operations.
        video: whose frames.
        grid: (h, w) of maps.
        labels: bytes of a pixel's label, or of its masks.
    """
    pixels, classes = math.prod(video.size), len(video.classes)
    beside = 4 * classes * pipeline.looks_at_probabilities
    sizes = {MAPS: 4 * classes * math.prod(grid), PROBABILITIES: 4 * classes * pixels}
    sizes[LABELS] = (labels + beside) * pixels
    return sum(
        sizes[stage] * pipeline.holds(stage, video) for stage in STAGES if pipeline.of(stage)
    )
