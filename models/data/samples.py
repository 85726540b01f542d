"""Training samples by number, and who takes which.

Sample number k of a training run is a function of the seed and k alone: any worker, of any process,
can make it at any time, which is what makes a resumed run the same run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from fusion.errors import InputError
from fusion.models.data.augment import Augment
from fusion.models.data.clips import Clips
from fusion.text import natural_order


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Training samples 0, 1, 2, ... without end.

    Every epoch is a new shuffle of the labelled frames, each frame in a new view.
    """

    def __init__(self, clips: Clips, augment: Augment, seed: int) -> None:
        self.clips, self.augment, self.seed = clips, augment, seed
        self.pairs = clips.labelled()
        self._order: tuple[int, Any] = (-1, None)  # of the last epoch asked for: they come in turn

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        epoch, place = divmod(number, len(self.pairs))
        if self._order[0] != epoch:
            # 0 and 1 keep apart what epoch k and sample k draw
            shuffle = np.random.default_rng([self.seed, 0, epoch])
            self._order = epoch, shuffle.permutation(len(self.pairs))
        image, mask = self.clips.pair(*self.pairs[self._order[1][place]])
        draw = np.random.default_rng([self.seed, 1, number])
        return self.augment(image, mask, draw, self.clips.masks.void)


@dataclass(frozen=True)
class Batches:
    """Sample numbers of one process's batches first <= b < last.

    `world` processes share every batch number; this one is number `rank`.
    """

    first: int
    last: int
    size: int
    rank: int = 0
    world: int = 1

    def __iter__(self) -> Iterator[list[int]]:
        for batch in range(self.first, self.last):
            start = (batch * self.world + self.rank) * self.size
            yield list(range(start, start + self.size))

    def __len__(self) -> int:
        return self.last - self.first


def folds(videos: Sequence[str], count: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Videos dealt to `count` folds by a seeded shuffle; every video in exactly one.

    InputError: fewer than 2 folds, or videos than folds.
    """
    if not 2 <= count <= len(videos):
        raise InputError(f"folds: got {count} for {len(videos)} videos; give 2 to {len(videos)}")
    order = np.random.default_rng(seed).permutation(len(videos))
    dealt = ([videos[i] for i in order[fold::count]] for fold in range(count))
    return [tuple(sorted(part, key=natural_order)) for part in dealt]
