"""Frames of all stores to bands of fused pixels: where an ensemble touches numbers.

stores, as kept -> some frames -> device -> for every frame and band of rows: one kernel call
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from fusion import kernels
from fusion.ensemble.plan import Plan
from fusion.kernels.arithmetic import Fused
from fusion.stores import LogitStore

Band = tuple[str, tuple[int, int], Fused]  # frame id, (first, end) rows of its label map, outputs


@dataclass(frozen=True)
class Fusion:
    """What is fused, and how.

    Args:
        stores: M, each once.
        members: per group, indexes into `stores`; a store may be in several groups.
        weights: per group.
        temperatures: [M].
        resize: as `fusion.kernels.upsample_softmax_average` takes it.
        device: where.
    """

    stores: tuple[LogitStore, ...]
    members: Mapping[str, tuple[int, ...]]
    weights: Mapping[str, float]
    temperatures: tuple[float, ...]
    resize: str
    device: torch.device

    def bands(
        self,
        video: str,
        frames: Sequence[str],
        size: tuple[int, int],
        plan: Plan,
        outputs: Sequence[str],
    ) -> Iterator[Band]:
        """Fuses frame by frame, band by band.

        A group of weight 0 is not even read, unless all group means are asked for.
        """
        groups = [g for g in self.members if self.weights[g] > 0 or "group_means" in outputs]
        entries = [index for g in groups for index in self.members[g]]  # once per group it is in
        ends = [0, *accumulate(len(self.members[g]) for g in groups)]
        call: dict[str, Any] = {
            "groups": [range(first, end) for first, end in pairwise(ends)],
            "temperatures": [self.temperatures[index] for index in entries],
            "values": [self.stores[index].kernel_values for index in entries],
            "resize": self.resize,
            "outputs": tuple(outputs),
        }
        weights = [self.weights[g] for g in groups]
        for first in range(0, len(frames), plan.frames):
            batch = frames[first : first + plan.frames]
            read = {k: self._codes(self.stores[k], video, batch) for k in sorted(set(entries))}
            for position, frame in enumerate(batch):
                logits = [read[index][position] for index in entries]
                for rows in plan.bands:
                    fused = kernels.upsample_softmax_average(
                        logits, weights, size, rows=rows, **call
                    )
                    yield frame, rows, fused

    def _codes(self, store: LogitStore, video: str, frames: Sequence[str]) -> Tensor:
        codes = torch.from_numpy(store.codes(video, frames))
        if self.device.type == "cpu":
            return codes
        return codes.pin_memory().to(self.device, non_blocking=True)
