"""Frames of all stores to bands of fused pixels: where an ensemble touches numbers.

stores, as kept -> some frames -> device -> for every frame and band of rows: one kernel call
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fusion import kernels
from fusion.ensemble.ahead import Source, batches, in_parts
from fusion.ensemble.heads import Head
from fusion.ensemble.plan import Plan
from fusion.kernels.arithmetic import Fused
from fusion.kernels.average.geometric import geometric
from fusion.kernels.native.pool import alone
from fusion.overlap import overlapped, threads

Band = tuple[str, tuple[int, int], Fused]  # frame id, (first, end) rows of its label map, outputs
Means = Iterator[tuple[str, Tensor]]  # frame id, float32 [G, C, h, w]


@dataclass(frozen=True)
class Fusion:
    """What is fused, and how.

    Args:
        groups: name -> stores; a store may be in several.
        weights: per group.
        temperatures: per store.
        multipliers: per class, None for none.
        resize: as `fusion.kernels.upsample_softmax_average` takes it.
        mean: over groups, "arithmetic" or "geometric".
        head: what fuses the groups in the place of weights, None for none.
        device: where.
        channels: whether classes are independent channels.
    """

    groups: Mapping[str, Sequence[Source]]
    weights: Mapping[str, float]
    temperatures: Mapping[Any, float]
    multipliers: Sequence[float] | None
    resize: str
    mean: str
    head: Head | None
    device: torch.device
    channels: bool = False

    def bands(self, video: str, frames: Sequence[str], plan: Plan) -> Iterator[Band]:
        """Fuses frame by frame, band by band.

        A group of weight 0 is not even read, unless all group means are asked for.
        """
        stores = self._entries(list(self.groups))
        if plan.aside and all(getattr(store, "reads_ahead", False) for store in stores):
            return self._side_by_side(video, frames, plan)
        return self._one_by_one(video, frames, plan)

    def _side_by_side(self, video: str, frames: Sequence[str], plan: Plan) -> Iterator[Band]:
        """Some frames a thread, read and fused there: no thread waits for its part of a frame."""

        def job(some: Sequence[str]) -> list[Band]:
            with alone():
                return list(self._one_by_one(video, some, plan))

        if plan.remote is not None:  # each of these reads, and reads ahead
            plan = replace(plan, remote=plan.remote // threads())
        parts = in_parts(frames, plan.aside, threads())
        with closing(overlapped(job, parts, threads())) as done:
            for bands in done:
                yield from bands

    def _one_by_one(self, video: str, frames: Sequence[str], plan: Plan) -> Iterator[Band]:
        """A frame after the other, fused by all threads while others are read."""
        all_of_them = "group_means" in plan.outputs
        names = [name for name in self.groups if all_of_them or self.weights[name] > 0]
        weights = [self.weights[name] for name in names]
        geometric_mean = self.mean == "geometric"
        call = self._call(names, ("group_means",) if geometric_mean else plan.outputs)
        for frame, logits in self._read(video, frames, names, plan):
            maps, shares, how = logits, weights, call
            if self.head is not None:
                maps, shares, how = self._by_head(self.head, logits, call, plan.outputs)
            for rows in plan.bands:
                how |= {"resize": self.resize, "rows": rows}
                fused = kernels.upsample_softmax_average(maps, shares, plan.size, **how)
                if geometric_mean:
                    assert fused.group_means is not None
                    fused = geometric(fused.group_means, shares, plan.outputs)
                yield frame, rows, fused

    def native_means(self, video: str, frames: Sequence[str], plan: Plan) -> Means:
        """Group means of frame by frame at store resolution, the finest of all stores."""
        names, call = list(self.groups), self._call(list(self.groups), ("group_means",))
        for frame, logits in self._read(video, frames, names, plan):
            yield frame, _means(logits, len(names), call)

    def maps(self, video: str, frames: Sequence[str], plan: Plan) -> Means:
        """Fused probabilities [C, h, w] of frame by frame, before they are interpolated.

        At store resolution, the finest of all stores; where fusion comes after interpolation (a
        geometric mean, resize="logits"), at the labels'.
        """
        if self.mean == "geometric" or self.resize != "probabilities":
            plan = replace(plan, outputs=("probabilities",))
            rows: list[Tensor] = []
            for frame, (_, end), fused in self.bands(video, frames, plan):
                assert fused.probabilities is not None
                rows.append(fused.probabilities)
                if end == plan.size[0]:
                    yield frame, rows[0] if len(rows) == 1 else torch.cat(rows, dim=-2)
                    rows = []
            return
        names = [name for name in self.groups if self.weights[name] > 0]
        call, weights = self._call(names, ()), [self.weights[name] for name in names]
        for frame, logits in self._read(video, frames, names, plan):
            if self.head is not None:
                yield frame, self._by_head(self.head, logits, call, ())[0][0]
            else:
                yield frame, _fused_map(logits, weights, call)

    def _by_head(
        self, head: Head, logits: list[Tensor], call: dict[str, Any], outputs: Sequence[str]
    ) -> tuple[list[Tensor], list[float], dict[str, Any]]:
        """What the head makes of a frame, as the one map that is left to interpolate."""
        alike = len({z.shape for z in logits}) == 1
        if alike and len(logits) == len(self.groups):  # single models, as they are stored
            how = {name: call[name] for name in ("values", "temperatures")}
            fused = head.probabilities(logits, **how)
        else:
            fused = head.probabilities(list(_means(logits, len(self.groups), call)))
        rest = {"values": "probabilities", "outputs": outputs, "multipliers": self.multipliers}
        return [fused], [1.0], rest

    def _call(self, names: Sequence[str], outputs: Sequence[str]) -> dict[str, Any]:
        """What the kernels are told of these groups."""
        entries = self._entries(names)
        ends = [0, *accumulate(len(self.groups[name]) for name in names)]
        return {
            "groups": [range(first, end) for first, end in pairwise(ends)],
            "temperatures": [self.temperatures[store] for store in entries],
            "values": [store.kernel_values for store in entries],
            "outputs": outputs,
            "multipliers": self.multipliers,
            "channels": self.channels,
        }

    def _entries(self, names: Sequence[str]) -> list[Source]:
        """The stores of these groups, once per group."""
        return [store for name in names for store in self.groups[name]]

    def _read(
        self, video: str, frames: Sequence[str], names: Sequence[str], plan: Plan
    ) -> Iterator[tuple[str, list[Tensor]]]:
        """Every frame's logits of these groups; the list is emptied when the next is asked for."""
        entries = self._entries(names)
        places = {store: place for place, store in enumerate(dict.fromkeys(entries))}
        with closing(batches(tuple(places), video, frames, plan)) as read:
            for batch, codes in read:
                placed = [self._placed(some) for some in codes]
                for position, frame in enumerate(batch):
                    logits = [placed[places[store]][position] for store in entries]
                    yield frame, logits
                    logits.clear()  # the next batch is not to lie beside this one
                placed.clear()

    def _placed(self, codes: np.ndarray | Tensor) -> Tensor:
        """Codes on the device."""
        made = torch.as_tensor(codes)
        if made.device.type == self.device.type:
            return made
        return made.pin_memory().to(self.device, non_blocking=True)


def _fused_map(
    logits: Sequence[Tensor], weights: Sequence[float], call: Mapping[str, Any]
) -> Tensor:
    """Probabilities [C, h, w] of a frame; smaller group means are interpolated to the largest."""
    how = {**call, "outputs": ("probabilities",)}
    if len({z.shape for z in logits}) > 1:
        logits = list(_means(logits, len(weights), call))
        how = {"values": "probabilities", "outputs": how["outputs"], "channels": call["channels"]}
    fused = kernels.softmax_average(logits, weights, **how).probabilities
    assert fused is not None
    return fused


def _means(logits: Sequence[Tensor], groups: int, call: Mapping[str, Any]) -> Tensor:
    """Group means [G, C, h, w] of a frame; smaller maps are interpolated to the largest."""
    how, weights = {**call, "outputs": ("group_means",)}, [1.0] * groups
    sizes = {(z.shape[1], z.shape[2]) for z in logits}
    if len(sizes) == 1:
        means = kernels.softmax_average(logits, weights, **how).group_means
    else:
        means = kernels.upsample_softmax_average(
            logits, weights, max(sizes, key=math.prod), **how
        ).group_means
    assert means is not None
    return means
