"""Cells: what heads are trained on. A few pixels of every video at store resolution, and labels.

A cell is a pixel of the stores' grid; its label is how many label pixels of each class it covers.
Neighbours say nearly the same, so some of them are drawn: those with classes that are rare in their
video more often, each with the weight that makes up for it (importance sampling), so that sums over
cells estimate sums over all labelled pixels.

A video's draw depends on that video alone, but for its share of all cells, which is its share of
all labelled pixels: nothing of what a held-out video looks like touches the others.
U units, C classes, N cells.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fusion.contested import Maps
from fusion.contested.maps import VideoMaps
from fusion.kernels.numbers import LEAST_PROBABILITY
from fusion.kernels.resized import Frames

Floats = NDArray[np.float32]
CPU = torch.device("cpu")
MOST_CELLS = 20_000  # of all videos: benchmarks/README.md says what more of them gain
SHARE = 8  # of the memory for pixels: what cells may take is one part in so many


@dataclass(frozen=True, eq=False)
class Sample:
    """Cells of some videos.

    logs: float32 [N, U, C], log-probabilities. counts: float32 [N, C], label pixels of each class,
    times the cell's importance. case: int64 [N], which video a cell is of, from 0.
    """

    logs: Floats
    counts: Floats
    case: NDArray[np.int64]

    @classmethod
    def joined(cls, samples: Sequence[Sample]) -> Sample:
        """Of several videos, each a case."""
        sizes = [len(each.logs) for each in samples]
        logs, counts = ([getattr(s, name) for s in samples] for name in ("logs", "counts"))
        case = np.repeat(np.arange(len(samples)), sizes)
        return cls(np.concatenate(logs), np.concatenate(counts), case)


@dataclass(frozen=True, eq=False)
class Cells:
    """Maps, and the cells that are drawn of them when they are first asked for.

    Args:
        maps: of single units, whose `videos` the samples are of.
        most: cells of all videos together, about.
        seed: of the draw.
        device: where heads are trained on them.
        folder: where what was trained is kept, None for nowhere.
    """

    maps: Maps
    most: int
    seed: int
    device: torch.device = CPU
    folder: Path | None = None

    @classmethod
    def within(cls, maps: Maps, seed: int = 0, **more: Any) -> Cells:
        """As many as are of use, within the maps' memory. more: device, folder."""
        each = 4 * (len(maps.groups) + 1) * len(maps.classes)
        return cls(maps, max(1, min(MOST_CELLS, maps.memory // SHARE // each)), seed, **more)

    @cached_property
    def samples(self) -> dict[str, Sample]:
        """By video."""
        total, found = max(1, self.maps.scored), {}
        for name, video in zip(self.maps.videos, self.maps.pixels, strict=True):
            rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
            found[name] = drawn(video, self.most * int(video.rows.sum()) / total, rng)
        return found

    def subset(self, videos: Sequence[str]) -> Cells:
        """The same for some of the videos, with the cells that were drawn of them."""
        fewer = replace(self, maps=self.maps.subset(videos))
        known = {name: self.samples[name] for name in videos}
        fewer.__dict__["samples"] = known
        return fewer


def drawn(video: VideoMaps, quota: float, rng: np.random.Generator) -> Sample:
    """About `quota` cells of a video, each drawn by itself (Poisson sampling).

    The chance is proportional to sum_k n_k / sqrt(N_k), n_k the label pixels of class k in the cell
    and N_k those in the video: of a class with N_k pixels about sqrt(N_k) in proportion are seen.
    """
    rarity = 1 / np.sqrt(np.maximum(video.rows, 1))
    scale = quota / max((video.rows * rarity).sum(), 1e-30)
    units, classes = video.models, len(video.rows)
    logs, counts = [np.zeros((0, units, classes), np.float32)], [np.zeros((0, classes), np.float32)]
    for frames in video.frames():
        for place in range(len(frames.targets)):
            here = cell_counts(frames, place, classes)
            chance = np.minimum(1, scale * (here @ rarity))
            taken = np.flatnonzero(rng.random(len(here)) < chance)
            maps = frames.maps[place].reshape(units, classes, -1)[:, :, taken]
            logs.append(np.log(np.maximum(maps, LEAST_PROBABILITY)).transpose(2, 0, 1))
            # whole numbers, so that matrices of cells are exact; rounded by chance, up as often as
            # the fraction says: rint would count a pixel that stands for 1.4 as one, always
            stands_for = here[taken] / chance[taken, None]
            counts.append(np.floor(stands_for + rng.random(stands_for.shape)).astype(np.float32))
    joined, case = np.concatenate(logs), np.zeros(sum(map(len, logs)), np.int64)
    return Sample(np.ascontiguousarray(joined), np.concatenate(counts), case)


def cell_counts(frames: Frames, place: int, classes: int) -> NDArray[np.int64]:
    """int64 [h w, C]: label pixels of each class that lie in each cell of a frame's grid."""
    targets, (height, width) = frames.targets[place], frames.maps.shape[3:]
    rows, columns = (
        cells_of(length, frames.stride, cells)
        for length, cells in zip(frames.size, (height, width), strict=True)
    )
    cell = rows[:, None] * width + columns
    counted = targets < classes
    index = cell[counted] * classes + targets[counted]
    return np.bincount(index, minlength=height * width * classes).reshape(-1, classes)


def cells_of(length: int, stride: int, cells: int) -> NDArray[np.int64]:
    """The cell that the centre of each label row (or column) lies in."""
    centres = np.arange(0, length, stride, dtype=np.int64) * 2 + 1
    return centres * cells // (2 * length)
