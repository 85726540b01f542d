"""Long sweeps of weightings on a scheduler's workers: videos dealt out, counts added in a tree.

A part is some videos. Its worker adds their counts up, which come back as one array a part and are
added to the others as they come: integers, so that no order shows. A part that is counted twice
gives the same counts. Workers read condensed pixels where the cache has them. Pixels that lie in
memory alone, short sweeps, and threads stay in this process: its compiled loop has counted them
before a worker has been asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fusion.kernels.contested.layout import Floats, Ints
from fusion.parallel import map_videos, worker_count

Condensed = Any  # fusion.contested.pixels', which imports this

TOGETHER = 8  # videos of a part, or fewer where there are few
FEWEST_PARTS = 16
LEAST = 1 << 34  # candidates times weightings: about ten seconds of two threads


@dataclass(frozen=True, eq=False)
class Sweep:
    """The task of one part: counts of its videos under all weightings.

    parts: the videos by name of the part. weights [B, G], multipliers [B, C] or None: normalised.
    matrix, per_video: as `Condensed` counts.
    """

    parts: Mapping[str, Condensed]
    weights: Floats
    multipliers: Floats | None
    matrix: bool
    per_video: bool

    def __call__(self, part: str) -> Ints:
        return self.parts[part].counted(self)

    def ready(self) -> None:
        """StoreError on a machine that does not see the pixels."""
        for part in self.parts.values():
            for pixels in part.pixels:
                pixels.check()


def pays(pixels: Condensed, sweep: Sweep) -> bool:
    """Whether workers are asked: of another scheduler than threads, for long, of what they see."""
    if pixels.scheduler == "threads" or len(pixels.videos) < 2:
        return False
    seen = not any(each.shipped.resident for each in pixels.pixels)
    return seen and pixels.candidates * len(sweep.weights) >= LEAST


def counted(pixels: Condensed, sweep: Sweep) -> Ints:
    """Counts of all videos, as `Condensed.counted` gives them.

    Args:
        pixels: all videos.
        sweep: what is counted; its parts are made here.

    Raises:
        FusionError: as `fusion.parallel.map_videos`.
    """
    videos, size = pixels.videos, len(pixels.classes)
    step = max(1, min(TOGETHER, len(videos) // FEWEST_PARTS))
    memory = pixels.memory // worker_count(pixels.scheduler)
    where = {f"videos {n} to {n + step - 1}": n for n in range(0, len(videos), step)}
    parts = {}
    for name, first in where.items():
        some = pixels.subset(videos[first : first + step])
        sent = tuple(each.shipped for each in some.pixels)
        parts[name] = replace(some, pixels=sent, memory=memory, scheduler="threads")
    cells = (len(sweep.weights), size if sweep.matrix else 2, size)
    total = np.zeros((len(videos) if sweep.per_video else 1, *cells), np.int64)

    def add(name: str, counts: Ints) -> None:
        first = where[name] if sweep.per_video else 0
        total[first : first + len(counts)] += counts

    task = replace(sweep, parts=parts)
    map_videos(task, list(parts), scheduler=pixels.scheduler, take=add)
    return total
