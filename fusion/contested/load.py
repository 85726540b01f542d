"""From stores to maps: each model's probabilities as stores have them, beside the targets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.contested.maps import Maps, VideoMaps
from fusion.ensemble.plan import Budget
from fusion.errors import InputError
from fusion.folds import VIDEOS, Units
from fusion.kernels.contested.layout import Floats
from fusion.kernels.resized import MAP_STEPS, Frames, stepped
from fusion.metrics.evaluation import Part, Parts, frame_counts, parts_of
from fusion.parallel import map_videos

if TYPE_CHECKING:
    from fusion.ensemble import Ensemble
    from fusion.labels import Labels

FEWEST = 4  # groups; up to three are condensed for little, and certified


def has_maps(ensemble: Ensemble, truth: Labels) -> bool:
    """Whether an ensemble is better searched on maps: many groups, resized after they are fused."""
    many = len(ensemble.groups) >= FEWEST and ensemble.resize == "probabilities"
    many = many and ensemble.mean == "arithmetic" and ensemble.channels is None
    return many and all(len(ensemble.native_sizes(v)) == 1 for v in ensemble.scored_videos(truth))


def load_maps(
    ensemble: Ensemble,
    truth: Labels,
    *,
    scheduler: str = "threads",
    progress: str | None = None,
    stride: int = 1,
    units: Units = VIDEOS,
    raw: bool = False,
) -> Maps:
    """The maps of an ensemble's groups on its labelled frames, whatever the ensemble's weights.

    In memory where its budget holds them, else targets alone: maps are then read at every pass.

    Args:
        scheduler, progress: as in `Ensemble.evaluate`.
        stride: s > 1 scores a subsample, every s-th row and column.
        units: whose parts are the set's `videos`.
        raw: probabilities as they are, for heads, whose logarithms tell small ones apart; else in
            steps, which make sums of weightings exact.
    """
    if stride < 1:
        raise InputError(f"stride: got {stride}; give s >= 1 for every s-th row and column")
    parts = parts_of(ensemble, truth, units, ensemble.scored_videos(truth))
    size, memory = sum(map_bytes(ensemble, part) for part in parts.values()), ensemble.memory
    keep = size <= Budget(memory).resident
    task = LoadVideo(ensemble.sharing(scheduler), truth, stride, keep, parts, raw)
    shown: dict[str, Any] = {"progress": progress, "frames": frame_counts(parts)}
    done = map_videos(task, list(parts), scheduler=scheduler, **shown)
    groups, classes = tuple(ensemble.groups), ensemble.classes
    return Maps(groups, classes, tuple(done), tuple(done.values()), memory)


def map_bytes(ensemble: Ensemble, part: Part) -> int:
    """Size of a part's maps in memory."""
    height, width = ensemble.grid(part.video)
    return 4 * len(part.frames) * len(ensemble.groups) * len(ensemble.classes) * height * width


@dataclass(frozen=True)
class LoadVideo:
    """The task of one video: its targets, and its maps unless they are read again at every pass."""

    ensemble: Ensemble
    truth: Labels
    stride: int
    keep: bool
    parts: Parts
    raw: bool = False

    def __call__(self, name: str) -> VideoMaps:
        ensemble, step, (video, frames) = self.ensemble, self.stride, self.parts[name]
        some = (slice(None, None, step),) * 2
        read = [ensemble.target(self.truth, video, frame)[some] for frame in frames]
        targets = np.stack(read)
        if self.keep:
            maps = self.maps(video, frames)
            return VideoMaps.held(Frames(maps, targets, ensemble.size(video), step, self.raw))
        classes, parts = len(ensemble.classes), partial(self.pieces, self.parts[name], targets)
        rows = np.bincount(targets.ravel(), minlength=classes)[:classes]
        cells = len(frames) * math.prod(ensemble.grid(video))
        return VideoMaps(parts, rows, len(ensemble.groups), cells)

    def pieces(self, part: Part, targets: np.ndarray) -> Iterator[Frames]:
        """As many frames at a time as the budget holds."""
        (video, frames), budget = part, Budget(self.ensemble.memory)
        size = self.ensemble.size(video)
        together = max(1, budget.batch * len(frames) // map_bytes(self.ensemble, part))
        for first in range(0, len(frames), together):
            some = slice(first, first + together)
            maps = self.maps(video, frames[some])
            yield Frames(maps, targets[some], size, self.stride, self.raw)

    def maps(self, video: str, frames: Sequence[str]) -> Floats:
        """float32 [T, G, C, h, w], in steps unless they are raw."""
        height, width = self.ensemble.grid(video)
        groups, classes = len(self.ensemble.groups), len(self.ensemble.classes)
        made = np.empty((len(frames), groups, classes, height, width), np.float32)
        for place, (frame, means) in enumerate(self.ensemble.native_means(video, frames)):
            made[place] = means.cpu().numpy()
            if not self.raw:
                made[place] = stepped(made[place], MAP_STEPS)
            if not (made[place].min() >= 0 and made[place].max() <= 1):
                got = f"video {video!r}, frame {frame!r} has scores that are NaN or not in 0..1"
                raise InputError(f"maps: {got}; give finite logits, or probabilities")
        return made
