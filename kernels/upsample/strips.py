"""Labels alone of interpolated logits: nearly all from the cheap arithmetic of strips.c, what it
leaves open from exact logits at these places. The bits are the oracle's.

M models, C classes, native maps [C, h, w], labels [H, W].
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fusion.kernels.arithmetic import KINDS, Fused, normalised
from fusion.kernels.average.cpu import accumulate
from fusion.kernels.call import Call, Upsampling
from fusion.kernels.native import build
from fusion.kernels.native.bindings import Maps, Steps, StripMap
from fusion.kernels.native.pool import in_threads, run_ranges
from fusion.kernels.native.sources import floats
from fusion.kernels.numbers import DECODE_TABLE, GAP_RANGE, void_label
from fusion.kernels.upsample.grid import Grid

STRIP = 4  # label rows, as in strips.c
LEAST_ENLARGED = 1.25  # columns: CHUNK label columns lie over NATIVE native ones at the most
MOST_HEAT = 2.0**20  # of temperatures, as strips.c assumes
MOST_MODELS = 1024  # for which GAP is more than all rounding
MOST_VALUE = 1024.0  # of logits times log2(e) / T
GAP = 2.0**-7  # in base 2 logarithms
MOST_OPEN = 0.25  # of a picture's pixels; beyond, all of it in bands is faster
TOGETHER = 256  # open pixels that are worked out at a time


@dataclass(frozen=True)
class _Ready:
    """The maps of a call for C. share [M]: of all weights."""

    call: Upsampling
    maps: tuple[Tensor, ...]
    grids: tuple[Grid, ...]
    share: tuple[float, ...]

    def steps(self, start: int, stop: int) -> list[Steps]:
        first = self.call.rows[0]
        return [grid.steps(first + start, first + stop) for grid in self.grids]

    def structs(self, steps: Sequence[Steps]) -> ctypes.Array[StripMap]:
        return (StripMap * len(self.maps))(*map(self._struct, range(len(self.maps)), steps))

    def _struct(self, m: int, steps: Steps) -> StripMap:
        z, (height, width) = self.maps[m], self.grids[m].source
        strides = [stride * z.element_size() for stride in z.stride()[:2]]
        size = (KINDS[z.dtype], *strides, height, width, ctypes.addressof(steps))
        return StripMap(z.data_ptr(), *size, 1 / self.call.temperatures[m], self.share[m])


def labels(call: Upsampling) -> Fused | None:
    """Labels of a call with resize="logits"; None where nothing is proved or little is gained."""
    if not _provable(call):
        return None
    maps = tuple(z if z.stride(2) == 1 or z.shape[2] == 1 else z.contiguous() for z in call.logits)
    grids = tuple(Grid((z.shape[1], z.shape[2]), call.size) for z in maps)
    ready = _Ready(call, maps, grids, _shares(call))
    agreed, most = _agreed(ready)
    if most > MOST_VALUE:
        return None
    made, unsure = call.allocate(), torch.empty(call.shape, dtype=torch.uint8)
    assert made.labels is not None
    _settle(ready, agreed, most, made.labels, unsure)
    places = unsure.flatten().nonzero().flatten()
    if len(places) > MOST_OPEN * unsure.numel():
        return None
    _work_out(ready, places, made.labels.view(-1))
    return made


def _provable(call: Upsampling) -> bool:
    """Whether strips.c proves anything of such a call; its values come later."""
    logits = not call.channels and set(call.values) == {"logits"}
    moderate = all(1 / MOST_HEAT < t < MOST_HEAT for t in call.temperatures)
    enlarged = all(call.size[1] >= LEAST_ENLARGED * z.shape[2] for z in call.logits)
    few = len(call.logits) <= MOST_MODELS
    return call.outputs == ("labels",) and logits and moderate and enlarged and few


def _shares(call: Call) -> tuple[float, ...]:
    share = [0.0] * len(call.logits)
    for group, weight in zip(call.groups, normalised(call.weights), strict=True):
        for m in group:
            share[m] = weight / len(group)
    return tuple(share)


def _agreed(ready: _Ready) -> tuple[Tensor | None, float]:
    """[h, w] int32: the class that is clearly ahead in all models, or -1 (None: their sizes differ,
    or a weight vanishes); and the largest |logit| log2(e) / T, inf where they cannot be bounded."""
    library, call, maps = build.library(), ready.call, ready.maps
    assert library is not None
    structs, gaps = ready.structs(steps := ready.steps(0, 0)), DECODE_TABLE.ctypes.data
    size, alike = ready.grids[0].source, len({grid.source for grid in ready.grids}) == 1
    span = max(call.multipliers or (1.0,)) / min(call.multipliers or (1.0,))
    gap = (GAP + math.log2(span)) * 1.001 * math.log(2)
    agreed = torch.empty(size if alike else (0,), dtype=torch.int32)
    largest = [0.0]

    def task(m: int, start: int, stop: int, out: Tensor, opens: bool) -> float:
        struct, t = ctypes.byref(structs, m * ctypes.sizeof(StripMap)), call.temperatures[m]
        given = (call.classes, start, stop, gap * t, gaps, opens, out.data_ptr())
        found = library.fusion_agreed(struct, *given)
        if found < 0:
            raise MemoryError(f"upsample_softmax_average: no room for {maps[m].shape[2]} pixels")
        return found / t / math.log(2)

    if alike:
        models = range(len(maps))
        rows = lambda a, b: max(task(m, a, b, agreed, m == 0) for m in models)  # noqa: E731
        largest = run_ranges(rows, size[0], 1)
    else:
        for m, z in enumerate(maps):
            if z.dtype == torch.uint8:
                largest.append(GAP_RANGE / call.temperatures[m] / math.log(2))
            else:
                room = torch.empty(ready.grids[m].source, dtype=torch.int32)
                largest.append(task(m, 0, z.shape[1], room, True))
    del steps
    return (agreed if alike and min(ready.share) > 0 else None), max(largest)


def _settle(
    ready: _Ready, agreed: Tensor | None, most: float, made: Tensor, unsure: Tensor
) -> None:
    """Labels of all rows in `made`, and 1 in `unsure` where they are not proved."""
    library, call = build.library(), ready.call
    assert library is not None
    multipliers = None if call.multipliers is None else floats(call.multipliers)
    factors = None if multipliers is None else multipliers.data_ptr()
    corners = None if agreed is None else agreed.data_ptr()
    void = void_label(call.classes)

    def task(start: int, stop: int) -> None:
        steps = ready.steps(start, stop)
        given = (len(ready.maps), call.classes, factors, corners, most, void)
        to = (made[start:].data_ptr(), unsure[start:].data_ptr())
        if library.fusion_strip_labels(ready.structs(steps), *given, *to) < 0:
            room = f"{STRIP} rows of {call.classes} classes"
            raise MemoryError(f"upsample_softmax_average: no room for {room}")

    run_ranges(task, call.shape[0], STRIP)


def _work_out(ready: _Ready, places: Tensor, made: Tensor) -> None:
    """Exact labels at `places` of `made` [pixels]."""
    library, call = build.library(), ready.call
    assert library is not None
    steps = ready.steps(0, call.shape[0])
    native = call.native()

    def task(some: Tensor) -> None:
        room = torch.empty(len(ready.maps), call.classes, len(some))
        for z, where, out in zip(ready.maps, steps, room, strict=True):
            strides = [stride * z.element_size() for stride in z.stride()[:2]]
            maps = Maps(z.data_ptr(), KINDS[z.dtype], *strides, call.classes, z.shape[2])
            maps.codes = DECODE_TABLE.ctypes.data
            given = (ctypes.byref(maps), ctypes.byref(where), some.data_ptr(), len(some))
            library.fusion_bilinear_at(*given, out.data_ptr())
        fused = accumulate(replace(native, logits=tuple(room))).labels
        assert fused is not None
        made[some] = fused

    in_threads(task, [(some,) for some in places.split(TOGETHER)] if len(places) else [])
