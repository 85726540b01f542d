"""Fusion on the CPU: tiles of pixels through the compiled loops of kernels/cpu.c, bit for bit what kernels/reference.py returns.

M models, G groups, C classes, P pixels. Where there is no C compiler the reference itself runs, tile by tile. Work is cut into ranges
of pixels for one pool of threads that all callers share, so that several callers at once do not crowd the machine.
Entropy alone is close instead of equal: its logarithms and their order of summation are the C library's.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor

from fusion.kernels import arithmetic as reference
from fusion.kernels.arithmetic import Fused
from fusion.kernels.native import build as compiled

Result = TypeVar("Result")

LANES = 64  # as in cpu.c
TILE_BYTES = (
    640 * 1024
)  # scores, group sums and raw logits of a tile: most of a 1 MB second-level cache
KINDS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.uint8: 3}


class _Average(ctypes.Structure):
    """Mirror of struct average in cpu.c."""

    _fields_ = (
        *(
            (name, ctypes.c_int64)
            for name in ("models", "groups", "classes", "pixels", "inner", "tile")
        ),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("data", "class_stride", "outer_stride", "kind", "plain", "scale"),
                *("exponentials", "gaps", "members", "group_end", "share", "weight"),
            )
        ),
        ("ignore", ctypes.c_int64),
        ("finishes", ctypes.c_int64),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "labels",
                "wide_labels",
                "probabilities",
                "confidence",
                "margin",
                "entropy",
                "means",
            )
        ),
    )


_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_here = (
    threading.local()
)  # .worker is True on the pool's own threads, which must never wait for the pool


def _forget_pool() -> None:
    global _pool
    _pool = None  # a forked child has no threads


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _mark_worker() -> None:
    _here.worker = True


def run_ranges(task: Callable[[int, int], Result], length: int, step: int) -> list[Result]:
    """task(start, stop) over 0..length in pieces that are multiples of `step`, about four per thread; their results."""
    global _pool, _pool_size
    threads = torch.get_num_threads()
    piece = max(step, -(-length // (4 * threads * step)) * step)
    ranges = [(start, min(start + piece, length)) for start in range(0, length, piece)]
    if threads == 1 or len(ranges) <= 1 or getattr(_here, "worker", False):
        return [task(*r) for r in ranges]
    if _pool is None or _pool_size != threads:
        _pool, _pool_size = ThreadPoolExecutor(threads, "fusion", _mark_worker), threads
    return list(_pool.map(lambda r: task(*r), ranges))


def _view(values: Tensor, outer: int) -> Tensor | None:
    """[C, ...] as [C, outer, inner] with adjacent inner pixels and no copy, or None."""
    try:
        view = values.view(values.shape[0], outer, -1)
    except RuntimeError:
        return None
    return view if view.stride(2) == 1 or view.shape[2] == 1 else None


def _as_rows(logits: Sequence[Tensor]) -> list[Tensor]:
    """Models as [C, outer, inner]: one outer row where memory allows, rows of the first pixel axis (frames) else, copies at worst."""
    flat = [_view(values, 1) for values in logits]
    outer = (
        1 if logits[0].ndim < 3 or all(view is not None for view in flat) else logits[0].shape[1]
    )
    views = []
    for values in logits:
        view = _view(values, outer)
        views.append(values.contiguous().view(values.shape[0], outer, -1) if view is None else view)
    return views


@cache
def _exponentials(temperature: float) -> Tensor:
    """[256] float32: exp of every gap code at this temperature, for pixels whose top has code 0."""
    gaps = reference.decode_gaps(torch.arange(256, dtype=torch.uint8))
    return reference.exp32(
        (gaps - gaps[0]) * (1.0 / torch.tensor(temperature, dtype=torch.float32))
    )


def _floats(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _integers(values: Sequence[int], dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def allocate(classes: int, groups: int, shape: Sequence[int], outputs: Sequence[str]) -> Fused:
    """Uninitialised outputs for pixels [shape]."""
    sizes = {"probabilities": (classes, *shape), "group_means": (groups, classes, *shape)}
    dtypes = {"labels": reference.label_dtype(classes)}
    return Fused(
        **{
            name: torch.empty(sizes.get(name, tuple(shape)), dtype=dtypes.get(name, torch.float32))
            for name in outputs
        }
    )


def _pointers(made: Fused) -> dict[str, int]:
    """Field of struct average -> address, for what was asked for."""
    fields = {"group_means": "means"}
    if made.labels is not None and made.labels.dtype == torch.uint16:
        fields["labels"] = "wide_labels"
    return {
        fields.get(name, name): values.data_ptr()
        for name, values in vars(made).items()
        if values is not None
    }


def accumulate(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    groups: Sequence[Sequence[int]],
    shares: Sequence[int],
    temperatures: Sequence[float],
    values: Sequence[str],
    outputs: Sequence[str],
) -> Fused:
    """The compiled path. weights [G] are normalised already; shares [G] is what each group's sum is divided by."""
    library = compiled.library()
    assert library is not None
    rows = _as_rows(logits)
    classes, outer, inner = rows[0].shape
    made = allocate(classes, len(groups), logits[0].shape[1:], outputs)
    arrays = {
        "data": _integers([view.data_ptr() for view in rows]),
        "class_stride": _integers([view.stride(0) for view in rows]),
        "outer_stride": _integers([view.stride(1) for view in rows]),
        "kind": _integers([KINDS[view.dtype] for view in rows], torch.int32),
        "plain": _integers([kind == "probabilities" for kind in values], torch.int32),
        "scale": 1.0 / _floats(temperatures),
        "exponentials": torch.stack([_exponentials(t) for t in temperatures]),
        "gaps": reference.decode_gaps(torch.arange(256, dtype=torch.uint8)),
        "members": _integers([m for group in groups for m in group]),
        "group_end": _integers([len(group) for group in groups]).cumsum(0),
        "share": 1.0 / _floats(shares),
        "weight": _floats(weights),
    }
    tile = min(2048, max(LANES, TILE_BYTES // (10 * classes) // LANES * LANES))
    call = _Average(
        models=len(rows), groups=len(groups), classes=classes, pixels=outer * inner, inner=inner, tile=tile,
        ignore=reference.ignore_label(classes),
        finishes=set(outputs) != {"group_means"},
        **{name: array.data_ptr() for name, array in arrays.items()}, **_pointers(made),
    )  # fmt: skip

    def task(start: int, stop: int) -> None:
        for row in range(start // inner, -(-stop // inner)):
            span = max(start - row * inner, 0), min(stop - row * inner, inner)
            if not library.fusion_average(
                ctypes.byref(call), *(ctypes.c_int64(n) for n in (row, *span))
            ):
                raise MemoryError(
                    f"softmax_average: no room for a tile of {tile} pixels x {classes} classes x {len(rows)} models"
                )

    run_ranges(task, outer * inner, tile)
    return made


def softmax_average(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    *,
    groups: Sequence[Sequence[int]] | None = None,
    temperatures: Sequence[float] | None = None,
    values: Sequence[str] | str = "logits",
    outputs: Sequence[str] = ("labels",),
) -> Fused:
    """As `fusion.kernels.softmax_average`, on CPU tensors."""
    groups = groups or [[m] for m in range(len(logits))]
    temperatures = temperatures or [1.0] * len(logits)
    kinds = [values] * len(logits) if isinstance(values, str) else list(values)
    if compiled.library() is None:
        return _tiled_reference(logits, weights, groups, temperatures, kinds, outputs)
    shares, parts = reference.normalised(weights), list(range(len(groups)))
    if "group_means" not in outputs:  # a group of weight 0 is not even read
        parts = [g for g in parts if shares[g] > 0]
    used = [m for g in parts for m in groups[g]]
    place = {m: k for k, m in enumerate(used)}
    return accumulate(
        [logits[m] for m in used], [shares[g] for g in parts], [[place[m] for m in groups[g]] for g in parts],
        [len(groups[g]) for g in parts], [temperatures[m] for m in used], [kinds[m] for m in used], outputs,
    )  # fmt: skip


def _tiled_reference(
    logits: Sequence[Tensor],
    weights: Sequence[float],
    groups: Sequence[Sequence[int]],
    temperatures: Sequence[float],
    values: Sequence[str],
    outputs: Sequence[str],
) -> Fused:
    """The reference over runs of pixels, so that memory stays bounded without a compiler too."""
    shape, classes = logits[0].shape[1:], logits[0].shape[0]
    made = allocate(classes, len(groups), shape, outputs)
    pixels, flat = shape.numel(), [m.reshape(classes, -1) for m in logits]
    for start in range(0, pixels, 4096):
        part = slice(start, min(start + 4096, pixels))
        fused = reference.softmax_average(
            [m[:, part] for m in flat],
            weights,
            groups=groups,
            temperatures=temperatures,
            values=values,
            outputs=outputs,
        )
        for name in outputs:
            whole = getattr(made, name)
            whole.view(*whole.shape[: whole.ndim - len(shape)], pixels)[..., part] = getattr(
                fused, name
            )
    return made


def confusion(targets: Tensor, labels: Tensor, classes: int, *, ignore: int = 255) -> Tensor:
    """As `fusion.kernels.confusion`, on CPU tensors: every thread counts for itself in int64."""
    library = compiled.library()
    if library is None:
        return reference.confusion(targets, labels, classes, ignore=ignore)
    kind = torch.uint8 if targets.dtype == labels.dtype == torch.uint8 else torch.int64
    count = library.fusion_confusion_bytes if kind == torch.uint8 else library.fusion_confusion
    flat = [values.reshape(-1).to(kind).contiguous() for values in (targets, labels)]

    def task(start: int, stop: int) -> Tensor | None:
        counts = torch.zeros((classes, classes), dtype=torch.int64)
        places = [ctypes.c_void_p(values[start:].data_ptr()) for values in flat]
        sizes = [ctypes.c_int64(n) for n in (stop - start, classes, ignore)]
        return counts if count(*places, *sizes, ctypes.c_void_p(counts.data_ptr())) else None

    parts = run_ranges(task, flat[0].numel(), 1 << 16)
    if any(part is None for part in parts):
        return reference.confusion(
            targets, labels, classes, ignore=ignore
        )  # raises, and names the values
    return sum(
        (part for part in parts if part is not None),
        torch.zeros((classes, classes), dtype=torch.int64),
    )
