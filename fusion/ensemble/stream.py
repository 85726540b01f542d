"""Frames of all stores to bands of fused pixels: where an ensemble touches numbers.

stores, as kept -> a read of some frames -> device -> for every frame and band of label rows: one
kernel call
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
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

    stores: M, each once. members: per group, indexes into `stores`; a store may be in several
    groups. weights: per group.
    temperatures: [M]. resize: as `fusion.kernels.upsample_softmax_average` takes it.
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
        """Fuses frame by frame, band by band. A group of weight 0 is not even read, unless all
        group means are asked for."""
        groups = [g for g in self.members if self.weights[g] > 0 or "group_means" in outputs]
        entries = [index for g in groups for index in self.members[g]]  # once per group it is in
        ends = np.cumsum([len(self.members[g]) for g in groups]).tolist()
        call: dict[str, Any] = {
            "groups": [
                range(end - len(self.members[g]), end) for g, end in zip(groups, ends, strict=True)
            ],
            "temperatures": [self.temperatures[index] for index in entries],
            "values": [self.stores[index].kernel_values for index in entries],
            "resize": self.resize,
            "outputs": tuple(outputs),
        }
        weights = [self.weights[g] for g in groups]
        for first in range(0, len(frames), plan.frames):
            batch = frames[first : first + plan.frames]
            read = {
                k: self._to_device(self.stores[k].codes(video, batch)) for k in sorted(set(entries))
            }
            for position, frame in enumerate(batch):
                logits = [read[index][position] for index in entries]
                for rows in plan.bands:
                    yield (
                        frame,
                        rows,
                        kernels.upsample_softmax_average(logits, weights, size, rows=rows, **call),
                    )

    def _to_device(self, codes: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(codes)
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)
