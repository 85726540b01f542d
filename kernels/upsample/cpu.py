"""The average at label resolution on the CPU, bit for bit what naive.py returns (entropy aside).

M models, G groups, C classes, native maps [C, h, w], labels [H, W]. Interpolated maps exist for one
band of label rows at a time. ``resize="probabilities"``: one pass over the models at native
resolution gives the group means. Labels alone then come from the corners: in most cells between
four native pixels one class leads in every group, or a few could; no other is ever interpolated.
Labels alone of ``resize="logits"``: strips.py.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from fusion.kernels.arithmetic import (
    KINDS,
    NO_SCORE,
    PROBABILITIES,
    Fused,
    normalised,
)
from fusion.kernels.average.cpu import accumulate
from fusion.kernels.call import Call, Pair, Upsampling
from fusion.kernels.native import build
from fusion.kernels.native.bindings import Maps
from fusion.kernels.native.pool import run_ranges
from fusion.kernels.numbers import ANGLE_TABLE, DECODE_TABLE, void_label
from fusion.kernels.upsample import strips
from fusion.kernels.upsample.grid import Grid

BAND_BYTES = 24 << 20  # interpolated maps of a band, per thread: as few as make its start cheap
LABEL_ROWS = 8  # of a task that takes labels from corners


@dataclass(frozen=True)
class Shortcuts:
    """How many of `pixels` got their label because their cell's corners left one class only."""

    pixels: int
    one_class: int


def upsample(call: Upsampling) -> Fused:
    """As `fusion.kernels.upsample_softmax_average`, on CPU tensors; frames one after the other."""
    if call.frames is None:
        return counted(call)[0]
    made = call.allocate()
    for t in range(call.frames):
        made.fill((..., t, slice(None), slice(None)), counted(call.frame(t))[0])
    return made


def counted(call: Upsampling) -> tuple[Fused, Shortcuts]:
    """`upsample`, and how many label pixels the corners alone decided."""
    nothing = Shortcuts(call.shape[0] * call.shape[1], 0)
    if nothing.pixels == 0:
        return call.allocate(), nothing
    call = call.used()
    if call.resize == "logits":
        settled = strips.labels(call)
        if settled is not None:
            return settled, nothing
        return _in_bands([[z] for z in call.logits], call.native(), call), nothing
    parts = _group_means(call)
    shape = parts[0][0].shape
    one_resolution = all(part.shape == shape for group in parts for part in group)
    # the corners bound softmaxes: no negative values, and sums of about 1
    bounded = set(call.values) == {"logits"} and shape[0] > 1
    cornered = bounded and not call.channels and shape[1:] != call.size
    if call.outputs == ("labels",) and cornered and one_resolution:
        return _labels_from_corners(_stacked([group[0] for group in parts]), call)
    return _in_bands(parts, call.over_maps(len(parts)), call), nothing


def _group_means(call: Upsampling) -> list[list[Tensor]]:
    """Per group, its mean's parts [C, h, w]: one per resolution, as these appear in the group."""
    shapes = [list(dict.fromkeys(call.logits[m].shape for m in group)) for group in call.groups]
    parts: list[dict[torch.Size, Tensor]] = [{} for _ in call.groups]
    for shape in dict.fromkeys(shape for some in shapes for shape in some):
        chosen = [g for g, some in enumerate(shapes) if shape in some]
        members = [[m for m in call.groups[g] if call.logits[m].shape == shape] for g in chosen]
        alike = (1.0,) * len(chosen)
        native = call.native().subset(members, weights=alike, outputs=("group_means",))
        means = accumulate(native, [len(call.groups[g]) for g in chosen]).group_means
        assert means is not None
        for g, mean in zip(chosen, means, strict=True):
            parts[g][shape] = mean
    return [[made[shape] for shape in some] for some, made in zip(shapes, parts, strict=True)]


def _stacked(means: Sequence[Tensor]) -> Tensor:
    """[G, C, h, w]: what they are views of, where that is just these, else a copy.

    NumPy's, made in this thread: torch's would wait for its team of threads.
    """
    base = means[0]._base
    if base is not None and base.is_contiguous() and base.shape == (len(means), *means[0].shape):
        size = means[0].numel() * means[0].element_size()
        if all(mean.data_ptr() == base.data_ptr() + g * size for g, mean in enumerate(means)):
            return base
    return torch.from_numpy(np.stack([mean.numpy() for mean in means]))


def _labels_from_corners(means: Tensor, call: Upsampling) -> tuple[Fused, Shortcuts]:
    """Labels alone, from group means [G, C, h, w] of one resolution: `candidates` in upsample.c."""
    library = build.library()
    assert library is not None
    groups, classes, height, width = means.shape
    grid, made = Grid((height, width), call.size), call.allocate()
    labels, weights = made.labels, torch.tensor(normalised(call.weights), dtype=torch.float32)
    assert labels is not None
    multipliers = torch.tensor(call.multipliers or (1.0,) * classes, dtype=torch.float32)
    slack, void = (groups + 16) * 2.0**-22, void_label(classes)

    def task(start: int, stop: int) -> int:
        decided = ctypes.c_int64(0)
        steps = grid.steps(call.rows[0] + start, call.rows[0] + stop)
        factors = weights.data_ptr(), multipliers.data_ptr()
        given = (means.data_ptr(), *means.shape, *factors, slack, ctypes.byref(steps))
        to = labels[start:].data_ptr()
        if not library.fusion_resized_labels(*given, void, to, ctypes.byref(decided)):
            size = f"{width} pixels x {classes} classes"
            raise MemoryError(f"upsample_softmax_average: no room for a row of {size}")
        return decided.value

    decided = run_ranges(task, call.shape[0], LABEL_ROWS)
    return made, Shortcuts(labels.numel(), sum(decided))


def _in_bands(sources: Sequence[Sequence[Tensor]], average: Call, call: Upsampling) -> Fused:
    """Interpolates maps band by band and fuses the bands.

    sources: for every entry of average.values the maps [C, h, w] that add up to it. average: what
    is computed of the interpolated maps. call: what is asked for.
    """
    made, first = call.allocate(), call.rows[0]
    ready = [
        [_Interpolated.prepare(part, call.size, value, call.channels) for part in maps]
        for maps, value in zip(sources, average.values, strict=True)
    ]
    only_means = call.outputs == ("group_means",) and call.resize == "probabilities"
    means = made.group_means if only_means else None
    classes, width = call.classes, call.size[1]
    height = max(1, BAND_BYTES // (4 * len(sources) * classes * width))

    def task(start: int, stop: int) -> None:
        lines = min(height, stop - start)
        room = torch.empty((0 if only_means else len(ready), classes, lines, width))
        for y in range(start, stop, height):
            end = min(y + height, stop)
            to = room[:, :, : end - y] if means is None else means[:, :, y:end]
            rows = (first + y, first + end)
            bands = [_added(parts, rows, out) for parts, out in zip(ready, to, strict=True)]
            if not only_means:
                fused = accumulate(replace(average, logits=tuple(bands)))
                made.fill((..., slice(y, end), slice(None)), fused)

    run_ranges(task, call.shape[0], height)
    return made


def _added(parts: Sequence[_Interpolated], rows: Pair, out: Tensor) -> Tensor:
    """The sum of interpolated maps, in `out`."""
    band = parts[0].band(*rows, out)
    for part in parts[1:]:
        band += part.band(*rows, torch.empty(out.shape))
    return band


@dataclass(frozen=True)
class _Interpolated:
    """One model's or group's maps [C, h, w], ready to be interpolated.

    codes: what uint8 means. infinity: what inf counts as, -inf being finite. dead: as of `_dead`.
    """

    maps: Tensor
    grid: Grid
    kind: int
    codes: np.ndarray
    infinity: float
    dead: Tensor | None

    @classmethod
    def prepare(cls, maps: Tensor, size: Pair, value: str, channels: bool) -> _Interpolated:
        maps = maps if maps.stride(2) == 1 or maps.shape[2] == 1 else maps.contiguous()
        grid, kind = Grid((maps.shape[1], maps.shape[2]), size), KINDS[maps.dtype]
        plain = value == "probabilities"
        kind += PROBABILITIES * plain
        if channels:
            return cls(maps, grid, kind, ANGLE_TABLE, -NO_SCORE, None)
        return cls(maps, grid, kind, DECODE_TABLE, math.inf, None if plain else _dead(maps))

    def band(self, start: int, stop: int, out: Tensor) -> Tensor:
        """Label rows start..stop in `out` [C, rows, W], whose rows and columns are adjacent.

        Where no size changes, values that are not float32 are taken as they are, not to `out`.
        """
        if self.grid.source == self.grid.size:
            band = self.maps[:, start:stop]
            return out.copy_(band) if band.dtype == out.dtype else band
        library, (classes, _, w) = build.library(), self.maps.shape
        assert library is not None
        strides = [stride * self.maps.element_size() for stride in self.maps.stride()[:2]]
        maps = Maps(self.maps.data_ptr(), self.kind, *strides, classes, w)
        maps.codes, maps.infinity = self.codes.ctypes.data, self.infinity
        maps.dead = None if self.dead is None else self.dead.data_ptr()
        steps = ctypes.byref(self.grid.steps(start, stop))
        if not library.fusion_bilinear(ctypes.byref(maps), steps, out.data_ptr(), out.stride(0)):
            size = f"two rows of {self.grid.size[1]} pixels"
            raise MemoryError(f"upsample_softmax_average: no room for {size}")
        return out


def _dead(logits: Tensor) -> Tensor | None:
    """[h, w] uint8: pixels whose every class is -inf; None where there are none."""
    if logits.dtype == torch.uint8:
        return None
    dead = torch.isneginf(logits[0])
    for plane in logits[1:]:
        if not dead.any():
            return None
        dead &= torch.isneginf(plane)
    return dead.to(torch.uint8) if dead.any() else None
