"""Fusion of frames in fixed memory: checked once, its launches recorded once and replayed.

    maps[m] [T, C, h, w] at fixed addresses -> results[name] [T, H, W] at fixed addresses

The first use of a place launches kernels (which compiles, tunes, and puts the tables on the
device), the second records those launches, and from then on a batch is one launch of all.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fusion.kernels import tables
from fusion.kernels.arithmetic import label_dtype
from fusion.kernels.backends import choose
from fusion.kernels.call import check_upsampling
from fusion.kernels.driver import Driver, Work

# kernels are tuned at a first use, which waits for all queues: none may be recorded meanwhile
_FIRST = threading.Lock()
PIXEL_MAPS = ("labels", "confidence", "margin", "entropy")  # a number a pixel


class Prepared:
    """`fusion.kernels.upsample_softmax_average` of up to T frames that lie where they lie.

    Args:
        maps: of M models [T, C, h, w], on the driver's device.
        weights, size, options: as `fusion.kernels.upsample_softmax_average`; outputs are some of
            PIXEL_MAPS, rows all.
        results: a tensor [T, H, W] for each output, of its dtype (`result_dtype`).
        driver: of the device.

    Raises:
        ValueError, TypeError: as `fusion.kernels.upsample_softmax_average`, here and never later.
    """

    def __init__(
        self,
        maps: Sequence[Tensor],
        weights: Sequence[float],
        size: tuple[int, int],
        results: Mapping[str, Tensor],
        driver: Driver,
        **options: Any,
    ) -> None:
        how = {**options, "outputs": tuple(results)}
        frames = [z.movedim(0, 1) for z in maps]
        self._call = check_upsampling(frames, weights, size, **how)
        self._results, self._driver = dict(results), driver
        self._upsample = choose("upsample", self._call.device.type).upsample
        self._tables: list[Any] = []
        self._replay: Work | None = None
        self._used = self._plain = False

    def launch(self) -> None:
        """Enqueues the fusion of all frames, whatever lies where there are fewer."""
        if self._replay is None and not self._plain:
            with _FIRST:
                self._begin()
            if self._replay is None and not self._plain:
                return  # launched by the first use
        if self._replay is not None:
            self._replay()
        else:
            self._driver.run(self._fuse, self._driver.compute)

    def _begin(self) -> None:
        """The first use launches kernels, the second records that."""
        driver, queue = self._driver, self._driver.compute
        if not self._used:
            driver.run(self._fuse, queue)
            self._used = True
            return
        # what recorded launches read must stay, and be there before they run
        with tables.held(driver.aside) as self._tables:
            self._replay = driver.graph(self._fuse, queue)
        self._plain = self._replay is None

    def _fuse(self) -> None:
        fused = self._upsample(self._call)
        for name, result in self._results.items():
            made: Tensor = getattr(fused, name)
            result.copy_(made if made.ndim == 3 else made.movedim(0, 1))  # channels: [C, T, H, W]


def result_dtype(output: str, labels: int) -> torch.dtype:
    """Of an output's numbers; `labels`: how many there are, the void one aside."""
    return label_dtype(labels) if output == "labels" else torch.float32
