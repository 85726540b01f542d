"""Validation while training: the mIoU of the network as it is, by the one evaluation.

Frames are predicted as `fusion.models.predict` stores them without loss, and counted as
`fusion.evaluate` counts, so the score is that of the store which the weights would fill.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion.arrays import fuse
from fusion.labels import Labels
from fusion.metrics import miou
from fusion.metrics.evaluation import VideoConfusion
from fusion.models.data.clips import Clips, standardised
from fusion.models.registry import Network
from fusion.models.training.distributed import World, added
from fusion.models.tta import ONE_VIEW
from fusion.overlap import SOME, overlapped
from fusion.progress import bar

_KEPT = ("samples", "last", "score", "best", "best_step", "worse")  # of a `Watch`


@dataclass(frozen=True, eq=False)
class Live:
    """A network's predictions, made when they are asked for: `evaluation.Predictions`."""

    network: Network
    clips: Clips
    device: torch.device
    channels: tuple[str, ...] | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return self.clips.classes

    def predicted(self, video: str, frames: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
        """(frame id, ids [H, W]) of these frames."""

        def read(frame: str) -> Tensor:
            return standardised(self.clips.image(video, frame))[None]

        for frame, image in zip(frames, overlapped(read, frames, SOME), strict=True):
            outputs = ONE_VIEW.predict(self.network, image.to(self.device)).float()
            how: dict[str, Any] = {"values": self.network.values, "size": tuple(image.shape[-2:])}
            yield frame, fuse([outputs], labels=True, **how)[0].cpu().numpy()

    def scored_videos(self, truth: Labels) -> tuple[str, ...]:
        return truth.videos

    def labelled_frames(self, truth: Labels, video: str) -> list[str]:
        return truth.frames(video)

    def target(self, truth: Labels, video: str, frame: str) -> np.ndarray:
        return self.clips.pair(video, frame)[1]


def score(
    network: Network, clips: Clips, place: World, stopped: Callable[[], bool] = lambda: False
) -> float | None:
    """Dataset mIoU, a fraction, of all processes' clips together; NaN where no pixel counts.

    Args:
        network: left in training mode.
        clips: labelled; each process takes its share of the videos.
        place: this process.
        stopped: asked before each video; once it is true the score is None, in every process.
    """
    count, videos = VideoConfusion(Live(network, clips, place.device), clips.masks), clips.videos
    total, whole = np.zeros((len(clips.classes),) * 2, np.int64), 1
    mine, hidden = videos[place.rank :: place.size], {} if place.first else {"disable": True}
    network.eval()
    with bar("validation", unit="video", iterable=mine, leave=False, **hidden) as shown:
        for video in shown:
            if stopped():
                whole = 0
                break
            total += count(video)
    network.train()
    ended = added(torch.tensor([*total.ravel().tolist(), whole]), place)
    if int(ended[-1]) < place.size:
        return None
    return float(miou(ended[:-1].view(total.shape).numpy()))


@dataclass
class Watch:
    """What validations have said so far.

    every, patience: as `config.Val`. samples: which frames they look at. last: step of the last
    one. score: its mIoU. best, best_step: of the best of them. worse: how many came since.
    """

    every: int = 0
    patience: int = 0
    samples: str = ""
    last: int = 0
    score: float | None = None
    best: float | None = None
    best_step: int = 0
    worse: int = 0

    @classmethod
    def of(cls, every: int, patience: int, clips: Clips | None) -> Watch:
        known = "" if clips is None else repr((clips.labelled(), clips.classes))
        return cls(every, patience, hashlib.sha256(known.encode()).hexdigest() if known else "")

    def due(self, step: int) -> bool:
        """Whether the weights after so many steps are to be looked at, and have not been."""
        return bool(self.every) and step % self.every == 0 and step > self.last

    @property
    def over(self) -> bool:
        """Whether patience is."""
        return bool(self.patience) and self.worse >= self.patience

    def saw(self, step: int, score: float) -> bool:
        """Notes a validation; whether it is the best."""
        self.score = None if math.isnan(score) else score
        better = self.score is not None and (self.best is None or self.score > self.best)
        if better:
            self.best, self.best_step = self.score, step
        self.last, self.worse = step, 0 if better else self.worse + 1
        return better

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; nothing without validation."""
        return {name: getattr(self, name) for name in _KEPT} if self.every else {}

    def restore(self, state: dict[str, Any]) -> bool:
        """Goes on from what `state` gave; False, and anew, where other frames were looked at."""
        if not state:
            return True
        if state["samples"] == self.samples:
            for name in _KEPT:
                setattr(self, name, state[name])
        return state["samples"] == self.samples
