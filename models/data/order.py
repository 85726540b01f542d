"""Which frames an epoch has, and how often.

Epoch e follows from the seed and e alone, and all have one length, so that a sample's number says
its epoch. Frames come in groups, the units of sampling: each frame is one, or each video, of which
an epoch has a few frames only since its frames are near copies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Epochs:
    """Shuffled epochs of frames.

    A group comes floor(r) or ceil(r) times, r on average (systematic sampling: Madow 1949). Each
    time, its frames are cut into `take` runs of equal length and one frame of each is drawn
    (Wang et al., "Temporal Segment Networks", ECCV 2016, section 3.1).

    Args:
        sizes: int64 [G], frames of each group; those of one group follow each other.
        repeats: float64 [G], r >= 1.
        take: frames of a group at a time.
    """

    sizes: NDArray[np.int64]
    repeats: NDArray[np.float64]
    take: int = 1

    def __len__(self) -> int:
        """Samples of an epoch."""
        return round(float(self.repeats.sum())) * self.take

    def frames(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """Numbers of an epoch's frames, in its order."""
        draw = np.random.default_rng([seed, 0, epoch])  # 0 and 1 keep apart epoch k and sample k
        order = draw.permutation(len(self))
        ends = np.cumsum(self.repeats)
        count = len(self) // self.take
        places = (np.arange(count) + draw.random()) * (ends[-1] / count)
        groups = np.minimum(np.searchsorted(ends, places, side="right"), len(ends) - 1)
        starts, sizes = (np.cumsum(self.sizes) - self.sizes)[groups], self.sizes[groups]
        within = (np.arange(self.take) + draw.random((count, self.take))) / self.take
        inside = np.minimum((within * sizes[:, None]).astype(np.int64), sizes[:, None] - 1)
        chosen: NDArray[np.int64] = (starts[:, None] + inside).ravel()[order]
        return chosen


def repeat_factors(present: NDArray[np.bool_], threshold: float) -> NDArray[np.float64]:
    """How often each group comes in an epoch, [G], so that rare classes do more often.

    r = max over its classes c of max(1, sqrt(t / f_c)), f_c the share of groups that hold c
    (Gupta, Dollar, Girshick, "LVIS", CVPR 2019, appendix B.2).

    Args:
        present: [G, C], which classes each group holds.
        threshold: t; classes in a smaller share of groups are repeated.
    """
    shares = np.maximum(present.mean(axis=0), 1 / max(1, len(present)))
    factors = np.maximum(1.0, np.sqrt(threshold / shares))
    highest: NDArray[np.float64] = np.where(present, factors, 1.0).max(axis=1)
    return highest
