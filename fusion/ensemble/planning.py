"""What a plan needs to know of an ensemble, asked of it: shapes, bytes, what lies beside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from fusion.ensemble.plan import Plan, make_plan
from fusion.ensemble.postprocessed import held_bytes
from fusion.errors import InputError
from fusion.kernels.native.pool import workers
from fusion.kernels.numbers import void_label
from fusion.overlap import threads
from fusion.postprocess.operation import Video
from fusion.postprocess.pipeline import Pipeline
from fusion.stores import Store

CORNERED = {"labels", "group_means"}  # outputs for which nothing is interpolated but themselves


class Planned(Protocol):
    """What is asked of an ensemble."""

    stores: tuple[Store, ...]
    classes: tuple[str, ...]
    channels: tuple[str, ...] | None
    postprocess: Pipeline
    device: torch.device
    resize: str
    mean: str
    memory: int
    workers: int

    @property
    def head(self) -> object: ...
    @property
    def groups(self) -> Mapping[str, object]: ...
    def size(self, video: str) -> tuple[int, int]: ...
    def grid(self, video: str) -> tuple[int, int]: ...
    def native_sizes(self, video: str) -> set[tuple[int, int]]: ...
    def facts(self, video: str) -> Video: ...


def plan_of(ensemble: Planned, video: str, outputs: Sequence[str], beside: int) -> Plan:
    """As `Ensemble.plan`.

    Args:
        ensemble: what fuses.
        video: its id.
        outputs: what is fused.
        beside: bytes of what is made of it meanwhile.

    Raises:
        BudgetError: one frame does not fit.
        InputError: no outputs.
    """
    if not len(outputs):
        raise InputError("outputs: got none; give some of what is fused, such as ('labels',)")
    shapes = [store.describe(video).frame_shape for store in ensemble.stores]
    item = [store.item_bytes for store in ensemble.stores]
    size, independent = ensemble.size(video), ensemble.channels is not None
    how: dict[str, Any] = {"mean": ensemble.mean, "channels": independent, "beside": beside}
    if ensemble.postprocess:
        label = void_label(len(ensemble.classes)).bit_length() // 8
        label = label if ensemble.channels is None else len(ensemble.channels)
        facts = ensemble.facts(video), ensemble.grid(video), label
        how["held"] = held_bytes(ensemble.postprocess, *facts)
    if ensemble.device.type == "cpu":
        from fusion.kernels.upsample.cpu import BAND_BYTES  # what runs there is loaded by then

        by_logits = ensemble.resize == "logits"
        apart = len(ensemble.native_sizes(video)) > 1 or independent or ensemble.head is not None
        if by_logits or apart or set(outputs) - CORNERED:
            how["interpolated"] = len(shapes) if by_logits else len(ensemble.groups)
            how["scratch"] = workers() * BAND_BYTES
        if set(outputs) == {"labels"}:  # small enough that those of many frames may wait
            how["threads"] = min(workers(), threads())
    how["remote"] = sum(store.needed(video) for store in ensemble.stores)
    groups, memory = len(ensemble.groups), ensemble.memory
    return make_plan(shapes, item, groups, size, outputs, memory, ensemble.workers, **how)


def whole_bytes(ensemble: Planned, video: str, output: str) -> int:
    """Of a whole frame of an output, and of the one before it, which a caller may still hold."""
    height, width = ensemble.size(video)
    number = len(ensemble.channels or ensemble.classes)
    each = 4 * number if output == "probabilities" else 0  # label maps do not count
    return 2 * each * height * width
