"""Fusion at label resolution on the CPU, bit for bit what kernels/reference.py returns (entropy aside).

M models, G groups, C classes, native maps [C, h, w], labels [H, W]. Interpolated maps exist for one band of label rows at a time.
``resize="probabilities"``: one pass over the models at native resolution gives the group means. Labels alone then come from the
corners: in most cells between four native pixels one class leads in every group, or a few could, and the others are never interpolated.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from fusion.kernels import arithmetic as reference
from fusion.kernels.arithmetic import Fused
from fusion.kernels.average.cpu import KINDS, accumulate, allocate, run_ranges
from fusion.kernels.native import build as compiled

BAND_BYTES = (
    6 << 20
)  # interpolated maps of a band, per thread: they should stay in the last-level cache
Pair = tuple[int, int]


@dataclass(frozen=True)
class Shortcuts:
    """How many of `pixels` got their label because the corners of their cell left one class only."""

    pixels: int
    one_class: int


class _Steps(ctypes.Structure):
    """Mirror of struct steps in cpu_upsample.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("left", "right", "upper", "lower", "fx", "fy")),
        *((name, ctypes.c_int64) for name in ("width", "rows")),
    )


@dataclass(frozen=True)
class _Grid:
    """Neighbours and fractions of label columns and rows over maps [h, w]."""

    source: Pair
    size: Pair

    @cached_property
    def columns(self) -> tuple[Tensor, Tensor, Tensor]:
        return reference.bilinear_steps(self.source[1], self.size[1])

    @cached_property
    def lines(self) -> tuple[Tensor, Tensor, Tensor]:
        return reference.bilinear_steps(self.source[0], self.size[0])

    def steps(self, start: int, stop: int) -> _Steps:
        (left, right, fx), (upper, lower, fy) = self.columns, (step[start:] for step in self.lines)
        return _Steps(
            *(step.data_ptr() for step in (left, right, upper, lower, fx, fy)),
            self.size[1],
            stop - start,
        )


_GAPS = reference.decode_gaps(torch.arange(256, dtype=torch.uint8))


def _dead(logits: Tensor) -> Tensor | None:
    """[h, w] uint8: pixels whose every class is -inf; None where there are none."""
    if logits.dtype == torch.uint8:
        return None
    dead = torch.isneginf(logits[0])
    for row in logits[1:]:
        if not dead.any():
            return None
        dead &= torch.isneginf(row)
    return dead.to(torch.uint8) if dead.any() else None


@dataclass(frozen=True)
class _Maps:
    """One model's or group's maps [C, h, w], ready to be interpolated."""

    maps: Tensor
    grid: _Grid
    dead: Tensor | None
    is_logits: bool

    @classmethod
    def of(cls, maps: Tensor, size: Pair, is_logits: bool) -> _Maps:
        maps = maps if maps.stride(2) == 1 or maps.shape[2] == 1 else maps.contiguous()
        grid = _Grid((maps.shape[1], maps.shape[2]), size)
        return cls(maps, grid, _dead(maps) if is_logits else None, is_logits)

    def band(self, start: int, stop: int, out: Tensor | None = None) -> Tensor:
        """Label rows start..stop: [C, rows, W], in `out` (rows and columns adjacent) where given; a view where no size changes."""
        if self.grid.source == self.grid.size:
            band = self.maps[:, start:stop]
            return band if out is None else out.copy_(band)
        classes, width = self.maps.shape[0], self.grid.size[1]
        out = torch.empty((classes, stop - start, width)) if out is None else out
        library, steps, item = (
            compiled.library(),
            self.grid.steps(start, stop),
            self.maps.element_size(),
        )
        assert library is not None
        strides = (
            self.maps.stride(0) * item,
            self.maps.stride(1) * item,
            classes,
            self.maps.shape[2],
        )
        ready = library.fusion_bilinear(
            ctypes.c_int64(KINDS[self.maps.dtype]), ctypes.c_void_p(self.maps.data_ptr()), *map(ctypes.c_int64, strides),
            ctypes.c_void_p(_GAPS.data_ptr()), ctypes.c_void_p(None if self.dead is None else self.dead.data_ptr()),
            ctypes.c_int64(self.is_logits), ctypes.byref(steps), ctypes.c_void_p(out.data_ptr()), ctypes.c_int64(out.stride(0)),
        )  # fmt: skip
        if not ready:
            raise MemoryError(f"upsample_softmax_average: no room for two rows of {width} pixels")
        return out


@dataclass(frozen=True)
class _Call:
    """A call in full, as `upsample_softmax_average` got it; weights normalised."""

    logits: list[Tensor]
    weights: list[float]
    size: Pair
    groups: list[list[int]]
    temperatures: list[float]
    values: list[str]
    outputs: tuple[str, ...]

    def used(self) -> _Call:
        """Without the groups of weight 0, and models of no group, unless all group means are asked for."""
        keep = [
            g
            for g, weight in enumerate(self.weights)
            if weight > 0 or "group_means" in self.outputs
        ]
        members = [m for g in keep for m in self.groups[g]]
        place = {m: k for k, m in enumerate(members)}
        return replace(
            self, logits=[self.logits[m] for m in members], weights=[self.weights[g] for g in keep],
            groups=[[place[m] for m in self.groups[g]] for g in keep],
            temperatures=[self.temperatures[m] for m in members], values=[self.values[m] for m in members],
        )  # fmt: skip


def _native_parts(call: _Call) -> list[list[Tensor]]:
    """Per group, its mean's parts [C, h, w]: one per resolution, in the order in which resolutions appear in the group."""
    parts: list[list[Tensor]] = [[] for _ in call.groups]
    shapes = [list(dict.fromkeys(call.logits[m].shape for m in group)) for group in call.groups]
    means: dict[torch.Size, dict[int, Tensor]] = {}
    for shape in dict.fromkeys(s for row in shapes for s in row):
        groups = {
            g: [m for m in group if call.logits[m].shape == shape]
            for g, group in enumerate(call.groups)
        }
        groups = {g: group for g, group in groups.items() if group}
        members = [m for group in groups.values() for m in group]
        place = {m: k for k, m in enumerate(members)}
        made = accumulate(
            [call.logits[m] for m in members], [1.0] * len(groups), [[place[m] for m in group] for group in groups.values()],
            [len(call.groups[g]) for g in groups], [call.temperatures[m] for m in members], [call.values[m] for m in members],
            ("group_means",),
        )  # fmt: skip
        assert made.group_means is not None
        means[shape] = dict(zip(groups, made.group_means, strict=True))
    for g, row in enumerate(shapes):
        parts[g] = [means[shape][g] for shape in row]
    return parts


def _labels_from_corners(means: Tensor, call: _Call, rows: Pair) -> tuple[Fused, Shortcuts]:
    """Labels alone, from group means [G, C, h, w] of one resolution; see `candidates` in cpu_upsample.c."""
    library = compiled.library()
    assert library is not None
    groups, classes, height, width = means.shape
    grid = _Grid((height, width), call.size)
    made = allocate(classes, groups, (rows[1] - rows[0], call.size[1]), ("labels",))
    labels, weights = made.labels, torch.tensor(call.weights, dtype=torch.float32)
    assert labels is not None

    def task(start: int, stop: int) -> int:
        decided, steps = ctypes.c_int64(0), grid.steps(rows[0] + start, rows[0] + stop)
        target = ctypes.c_void_p(labels[start:].data_ptr())
        narrow, wide = (target, None) if labels.dtype == torch.uint8 else (None, target)
        ready = library.fusion_resized_labels(
            ctypes.c_void_p(means.data_ptr()), *map(ctypes.c_int64, means.shape), ctypes.c_void_p(weights.data_ptr()),
            ctypes.c_float((groups + 16) * 2.0**-22), ctypes.byref(steps), ctypes.c_int64(reference.ignore_label(classes)),
            narrow, wide, ctypes.byref(decided),
        )  # fmt: skip
        if not ready:
            raise MemoryError(
                f"upsample_softmax_average: no room for a row of {width} pixels x {classes} classes"
            )
        return decided.value

    decided = run_ranges(task, rows[1] - rows[0], 8)
    return made, Shortcuts(labels.numel(), sum(decided))


def _in_bands(sources: list[list[_Maps]], call: _Call, rows: Pair) -> Fused:
    """Interpolates every group's or model's parts band by band, adds them up and fuses the band.

    `call` describes the interpolated maps: one source per entry of call.values.
    """
    classes, width = call.logits[0].shape[0], call.size[1]
    made = allocate(classes, len(call.groups), (rows[1] - rows[0], width), call.outputs)
    only_means = (
        call.outputs == ("group_means",)
        and len(sources) == len(call.groups)
        and set(call.values) == {"probabilities"}
    )

    def task(start: int, stop: int) -> None:
        y0, y1 = rows[0] + start, rows[0] + stop
        bands = []
        for k, parts in enumerate(sources):
            place = (
                made.group_means[k, :, start:stop]
                if only_means and made.group_means is not None
                else None
            )
            band = parts[0].band(y0, y1, place)
            for part in parts[1:]:
                band += part.band(y0, y1)
            bands.append(band)
        if only_means:
            return
        shares = [len(group) for group in call.groups]
        fused = accumulate(
            bands, call.weights, call.groups, shares, call.temperatures, call.values, call.outputs
        )
        for name in call.outputs:
            getattr(made, name)[..., start:stop, :] = getattr(fused, name)

    run_ranges(
        task, rows[1] - rows[0], max(1, BAND_BYTES // (4 * len(sources) * classes * max(1, width)))
    )
    return made


def _tiled_reference(call: _Call, resize: str, rows: Pair) -> Fused:
    """Where there is no compiler: the reference, in bands."""
    made = allocate(
        call.logits[0].shape[0], len(call.groups), (rows[1] - rows[0], call.size[1]), call.outputs
    )
    for y in range(*rows, 32):
        stop = min(y + 32, rows[1])
        fused = reference.upsample_softmax_average(
            call.logits, call.weights, call.size, groups=call.groups, temperatures=call.temperatures, values=call.values,
            resize=resize, rows=(y, stop), outputs=call.outputs,
        )  # fmt: skip
        for name in call.outputs:
            getattr(made, name)[..., y - rows[0] : stop - rows[0], :] = getattr(fused, name)
    return made


def upsample_softmax_average(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    size: Pair,
    *,
    groups: Sequence[Sequence[int]] | None = None,
    temperatures: Sequence[float] | None = None,
    values: Sequence[str] | str = "logits",
    resize: str = "probabilities",
    rows: Pair | None = None,
    outputs: Sequence[str] = ("labels",),
) -> Fused:
    """As `fusion.kernels.upsample_softmax_average`, on CPU tensors."""
    return counted_upsample(
        logits,
        weights,
        size,
        groups=groups,
        temperatures=temperatures,
        values=values,
        resize=resize,
        rows=rows,
        outputs=outputs,
    )[0]


def counted_upsample(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    size: Pair,
    *,
    groups: Sequence[Sequence[int]] | None = None,
    temperatures: Sequence[float] | None = None,
    values: Sequence[str] | str = "logits",
    resize: str = "probabilities",
    rows: Pair | None = None,
    outputs: Sequence[str] = ("labels",),
) -> tuple[Fused, Shortcuts]:
    """`upsample_softmax_average` and how many label pixels the corners alone decided."""
    kinds = [values] * len(logits) if isinstance(values, str) else list(values)
    chosen = (
        [[m] for m in range(len(logits))] if groups is None else [list(group) for group in groups]
    )
    scales = [1.0] * len(logits) if temperatures is None else list(temperatures)
    call = _Call(
        list(logits), list(weights), (size[0], size[1]), chosen, scales, kinds, tuple(outputs)
    )
    span = (0, size[0]) if rows is None else rows
    nothing = Shortcuts((span[1] - span[0]) * size[1], 0)
    if compiled.library() is None or nothing.pixels == 0:
        return _tiled_reference(call, resize, span), nothing
    call = replace(call, weights=reference.normalised(weights)).used()
    if resize == "logits":
        sources = [
            [_Maps.of(z, call.size, kind == "logits")]
            for z, kind in zip(call.logits, call.values, strict=True)
        ]
        return _in_bands(sources, call, span), nothing
    parts = _native_parts(call)
    shape = parts[0][0].shape
    bounded = (
        set(call.values) == {"logits"} and shape[0] > 1
    )  # softmaxes: no negative values, and sums of about 1
    if (
        call.outputs == ("labels",)
        and bounded
        and shape[1:] != call.size
        and all(p.shape == shape for group in parts for p in group)
    ):
        return _labels_from_corners(torch.stack([group[0] for group in parts]), call, span)
    means = replace(
        call,
        groups=[[g] for g in range(len(parts))],
        temperatures=[1.0] * len(parts),
        values=["probabilities"] * len(parts),
    )
    return _in_bands(
        [[_Maps.of(part, call.size, False) for part in group] for group in parts], means, span
    ), nothing
