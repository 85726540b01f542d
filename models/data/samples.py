"""Training samples by number, and who takes which.

Sample k of a run follows from the seed and k alone: any worker of any process can make it at any
time, which is what makes a resumed run the same run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from fusion.errors import InputError
from fusion.folds import dealt
from fusion.models.data.augment import Augment
from fusion.models.data.clips import Clips
from fusion.models.data.teacher import StoreTeacher
from fusion.text import natural_order


class Samples(Dataset[tuple[Tensor, ...]]):
    """Samples 0, 1, ... without end: epochs of shuffled labelled frames, each in a new view.

    With a teacher each has its probabilities too.
    """

    def __init__(
        self, clips: Clips, augment: Augment, seed: int, teacher: StoreTeacher | None = None
    ) -> None:
        self.clips, self.augment, self.seed, self.teacher = clips, augment, seed, teacher
        self.pairs = clips.labelled()
        self._order: tuple[int, Any] = (-1, None)  # of the last epoch asked for: they come in turn

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        epoch, place = divmod(number, len(self.pairs))
        if self._order[0] != epoch:
            # 0 and 1 keep apart what epoch k and sample k draw
            shuffle = np.random.default_rng([self.seed, 0, epoch])
            self._order = epoch, shuffle.permutation(len(self.pairs))
        video, frame = self.pairs[int(self._order[1][place])]
        image, mask = self.clips.pair(video, frame)
        draw = np.random.default_rng([self.seed, 1, number])
        if self.teacher is None:
            return self.augment(image, mask, draw, self.clips.masks.void)
        view, target, window = self.augment.seen(image, mask, draw, self.clips.masks.void)
        return view, target, self.teacher.view(video, frame, (image.height, image.width), window)


def batches(first: int, last: int, size: int, rank: int = 0, world: int = 1) -> Iterator[list[int]]:
    """Sample numbers of batches first <= b < last, which process `rank` of `world` has of each."""
    for batch in range(first, last):
        start = (batch * world + rank) * size
        yield list(range(start, start + size))


def folds(videos: Sequence[str], count: int, seed: int = 0) -> list[tuple[str, ...]]:
    """Videos `dealt` to `count` folds; InputError where that is below 2 or above the videos."""
    if not 2 <= count <= len(videos):
        raise InputError(f"folds: got {count} for {len(videos)} videos; give 2 to {len(videos)}")
    return [tuple(sorted(fold, key=natural_order)) for fold in dealt(videos, count, seed)]
