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
from fusion.kernels.average.geometric import geometric
from fusion.stores import LogitStore

Band = tuple[str, tuple[int, int], Fused]  # frame id, (first, end) rows of its label map, outputs


@dataclass(frozen=True)
class Fusion:
    """What is fused, and how.

    Args:
        groups: name -> stores; a store may be in several.
        weights: per group.
        temperatures: per store.
        resize: as `fusion.kernels.upsample_softmax_average` takes it.
        mean: over groups, "arithmetic" or "geometric".
        device: where.
    """

    groups: Mapping[str, Sequence[LogitStore]]
    weights: Mapping[str, float]
    temperatures: Mapping[LogitStore, float]
    resize: str
    mean: str
    device: torch.device

    def bands(self, video: str, frames: Sequence[str], plan: Plan) -> Iterator[Band]:
        """Fuses frame by frame, band by band.

        A group of weight 0 is not even read, unless all group means are asked for.
        """
        all_of_them = "group_means" in plan.outputs
        groups = [name for name in self.groups if all_of_them or self.weights[name] > 0]
        entries = [store for name in groups for store in self.groups[name]]  # once per group
        ends = [0, *accumulate(len(self.groups[name]) for name in groups)]
        weights = [self.weights[name] for name in groups]
        outputs = plan.outputs if self.mean == "arithmetic" else ("group_means",)
        call: dict[str, Any] = {
            "groups": [range(first, end) for first, end in pairwise(ends)],
            "temperatures": [self.temperatures[store] for store in entries],
            "values": [store.kernel_values for store in entries],
            "resize": self.resize,
            "outputs": outputs,
        }
        for first in range(0, len(frames), plan.frames):
            batch = frames[first : first + plan.frames]
            read = {store: self._codes(store, video, batch) for store in dict.fromkeys(entries)}
            for position, frame in enumerate(batch):
                logits = [read[store][position] for store in entries]
                for rows in plan.bands:
                    call["rows"] = rows
                    fused = kernels.upsample_softmax_average(logits, weights, plan.size, **call)
                    if self.mean == "geometric":
                        assert fused.group_means is not None
                        fused = geometric(fused.group_means, weights, plan.outputs)
                    yield frame, rows, fused

    def _codes(self, store: LogitStore, video: str, frames: Sequence[str]) -> Tensor:
        codes = torch.from_numpy(store.codes(video, frames))
        if self.device.type == "cpu":
            return codes
        return codes.pin_memory().to(self.device, non_blocking=True)
