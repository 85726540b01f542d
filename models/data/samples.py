"""Training samples by number, and who takes which.

Sample k of a run follows from the seed and k alone: any worker of any process can make it at any
time, which is what makes a resumed run the same run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from fusion.errors import InputError, StoreError
from fusion.folds import dealt
from fusion.models.data.augment import Augment
from fusion.models.data.clips import Clips
from fusion.models.data.order import Epochs, repeat_factors
from fusion.models.data.statistics import class_statistics
from fusion.models.data.teacher import StoreTeacher
from fusion.models.section import COUNT, NATURAL, Rule, Section, one_of, within
from fusion.text import natural_order

SHARE = Rule("a share of frames in 0..1", lambda value: 0 <= value <= 1)


@dataclass(frozen=True)
class Sampling(Section):
    """Which labelled frames an epoch has; all of them, each once, by default.

    every: takes every so many labelled frames of a video.

    frames_per_video: an epoch takes so many of each video, spread over it; 0 for all.

    balance: frames (videos, with frames_per_video) that hold a class which fewer than this share
    of them hold come more often (`order.repeat_factors`); 0.1 is a start.

    damaged: files that cannot be decoded: an error, or skip takes the next sample.
    """

    every: int = within(COUNT, 1, later=True)
    frames_per_video: int = within(NATURAL, 0, later=True)
    balance: float = within(SHARE, 0.0, later=True)
    damaged: str = within(one_of("error", "skip"), "error", later=True)


class Samples(Dataset[tuple[Tensor, ...]]):
    """Samples 0, 1, ... without end: epochs of shuffled labelled frames, each in a new view.

    With a teacher each has its probabilities too.

    Args:
        clips: labelled.
        augment: makes the views.
        seed: of the order and the views.
        teacher: of whose probabilities.
        sampling: what is in an epoch.
        cache: the file of `class_statistics`, which balance needs.
    """

    def __init__(
        self,
        clips: Clips,
        augment: Augment,
        seed: int,
        teacher: StoreTeacher | None = None,
        sampling: Sampling = Sampling(),
        cache: Path | None = None,
    ) -> None:
        self.clips, self.augment, self.seed, self.teacher = clips, augment, seed, teacher
        self.sampling = sampling
        every = clips.labelled()
        kept = _thinned([video for video, _ in every], sampling.every)
        self.pairs = [every[number] for number in kept]
        self.epochs = _epochs([video for video, _ in self.pairs], sampling)
        if sampling.balance:
            present = class_statistics(clips, cache, damaged=sampling.damaged).present[kept]
            firsts = np.cumsum(self.epochs.sizes) - self.epochs.sizes
            groups = np.logical_or.reduceat(present, firsts, axis=0)
            repeats = repeat_factors(groups, sampling.balance)
            self.epochs = Epochs(self.epochs.sizes, repeats, self.epochs.take)
        self.damaged: list[
            str
        ] = []  # what was wrong with files that were skipped; readers clear it
        self._order: tuple[int, Any] = (-1, None)  # of the last epoch asked for: they come in turn

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        epoch, place = divmod(number, len(self.epochs))
        if self._order[0] != epoch:
            self._order = epoch, self.epochs.frames(self.seed, epoch)
        video, frame, image, mask = self._pair(place)
        draw = np.random.default_rng([self.seed, 1, number])
        if self.teacher is None:
            return self.augment(image, mask, draw, self.clips.masks.void)
        view, target, window = self.augment.seen(image, mask, draw, self.clips.masks.void)
        return view, target, self.teacher.view(video, frame, (image.height, image.width), window)

    @property
    def identity(self) -> tuple[object, ...]:
        """What two runs on the same samples have in common, wherever the files lie."""
        labels = self.clips.masks
        known = labels.class_map
        # a layout's own map is as old as the layout; earlier checkpoints know no other
        given = () if known is None or known == labels.rule.class_map else (known.get_config(),)
        return self.pairs, self.clips.classes, *given

    def _pair(self, place: int) -> tuple[str, str, Image.Image, NDArray[np.integer]]:
        """Ids, image and mask of a place in the epoch; where that is skipped, of the next one."""
        order = self._order[1]
        for step in range(len(order)):
            video, frame = self.pairs[int(order[(place + step) % len(order)])]
            try:
                return video, frame, *self.clips.pair(video, frame)
            except StoreError as error:
                if self.sampling.damaged == "error":
                    do = "or go on without such files ([data] damaged = 'skip')"
                    raise StoreError(f"{error}, {do}") from error
                self.damaged.append(str(error))
        got = f"none of {len(self.pairs)} samples of {self.clips.root} can be decoded"
        raise StoreError(f"images: {got}; restore the files")


def _thinned(videos: Sequence[str], every: int) -> NDArray[np.int64]:
    """Numbers of every so many frames of each video, whose frames follow each other."""
    firsts = {video: number for number, video in reversed([*enumerate(videos)])}
    kept = [k for k, video in enumerate(videos) if (k - firsts[video]) % every == 0]
    return np.array(kept, np.int64)


def _epochs(videos: Sequence[str], sampling: Sampling) -> Epochs:
    """Epochs of frames, or of videos, each as often as the others."""
    sizes = np.ones(len(videos), np.int64)
    if sampling.frames_per_video:
        counts = dict[str, int]()
        for video in videos:
            counts[video] = counts.get(video, 0) + 1
        sizes = np.array([*counts.values()], np.int64)
    return Epochs(sizes, np.ones(len(sizes)), sampling.frames_per_video or 1)


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
