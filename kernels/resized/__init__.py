"""Weighted sums of models' maps, interpolated to label size and counted beside targets.

Fusing and bilinear interpolation commute, so what is interpolated is the sum over M models, not
every model: for each of B weight vectors

    S_c     = sum_m w_m P_mc            at store resolution [h, w], rounded to float32
    F_c     = S_c interpolated          as kernels/upsample/naive.py does, float32
    label   = lowest c with the highest F_c * b_c, one more rounding; b_c the multipliers

The sums are float64 over maps in steps of 2^-24 and weights in steps of 2^-28 (`stepped`): products
are whole numbers of 2^-52 and no sum reaches 2, so float64 holds each exactly. No order of terms
matters, and a weight vector has one score whatever it is scored beside: what B vectors have in
common is summed once. (Fusion rounds more often, in float32: a label at a near tie may differ.)

naive.py says what is computed, cpu.py returns the same numbers through compiled loops. Shape
letters: T frames, M models, C classes, B weight vectors, H W label pixels, h w store pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.kernels.backends import choose
from fusion.kernels.contested.layout import Floats, Ints
from fusion.kernels.numbers import as_read
from fusion.kernels.sweep import Ends, Flips

MAP_STEPS, WEIGHT_STEPS = 2.0**24, 2.0**28  # to a whole
MOST_PIXELS = 2**31 - 1  # of a frame: its counts are int32
BATCH = 32  # weight vectors at a time: two native rows of every sum stay in the cache


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames of one size.

    maps: float32 [T, M, C, h, w] in 0..1, `stepped`. targets: uint8 or uint16 [T, rows, columns],
    ids of C and above do not count. size: (H, W) of the labels, of which targets are every
    stride-th row and column. raw: the maps are not stepped yet: those whose logarithms are asked
    for, where 2^-24 is no small number.
    """

    maps: Floats
    targets: NDArray[np.uint8] | NDArray[np.uint16]
    size: tuple[int, int]
    stride: int = 1
    raw: bool = False

    def __post_init__(self) -> None:
        expected = tuple(len(range(0, length, self.stride)) for length in self.size)
        fits = self.maps.ndim == 5 and len(self.maps) == len(self.targets) and self.maps.size
        kinds = self.maps.dtype == np.float32 and self.targets.dtype in (np.uint8, np.uint16)
        if not fits or not kinds or self.targets.shape[1:] != expected:
            arrays = (self.maps, self.targets)
            got = ", ".join(f"{array.dtype} {list(array.shape)}" for array in arrays)
            do = f"give float32 [T, M, C, h, w] and uint8 or uint16 [T, {expected[0]}, "
            raise ValueError(f"frames: got maps and targets {got}; {do}{expected[1]}]")
        flags = self.maps.flags, self.targets.flags
        if not all(some.c_contiguous and some.aligned for some in flags):
            raise ValueError("frames: got arrays with gaps or at odd addresses; give copies")
        if self.targets[0].size > MOST_PIXELS:
            raise ValueError(f"frames: got {self.targets[0].size} pixels; give at most 2^31 - 1")

    @property
    def classes(self) -> int:
        return self.maps.shape[2]

    @property
    def in_steps(self) -> Frames:
        """The same with maps that are stepped."""
        return replace(self, maps=stepped(self.maps, MAP_STEPS), raw=False) if self.raw else self


def stepped(values: NDArray[np.floating], steps: float) -> NDArray[np.floating]:
    """Values rounded to whole steps, `steps` of them to 1; of the same type."""
    return np.rint(values * values.dtype.type(steps)) / values.dtype.type(steps)


def count(
    frames: Frames, weights: NDArray[np.float64], multipliers: Floats, *, matrix: bool = True
) -> Ints:
    """Labels of all frames under many weight vectors.

    Args:
        frames: T of them.
        weights: [B, M] >= 0, each of sum 1.
        multipliers: float32 [B, C] > 0, ones for none.
        matrix: whether to count whole matrices, or only intersections and predictions.

    Returns:
        int64 [B, C, C], rows targets; without `matrix` [B, 2, C].

    Raises:
        ValueError: weights or multipliers that do not go with the frames.
    """
    _check(frames, weights, multipliers)
    steps = stepped(weights, WEIGHT_STEPS)
    backend, found, whole = choose("resized"), [], frames.in_steps
    for first in range(0, len(steps), BATCH):
        some = slice(first, first + BATCH)
        scale = as_read(multipliers[some], np.float32)
        found.append(backend.count(whole, steps[some], scale, matrix=matrix))
    rows = frames.classes if matrix else 2
    return np.concatenate([np.zeros((0, rows, frames.classes), np.int64), *found])


def sums(frames: Frames, weights: NDArray[np.float64]) -> Iterator[tuple[Floats, NDArray[Any]]]:
    """F [C, rows, columns] of each frame under one weight vector [M] of sum 1, and its targets."""
    from fusion.kernels.resized import naive

    ones = np.ones(frames.classes, np.float32)
    whole = stepped(weights, WEIGHT_STEPS).astype(np.float64, copy=False)
    scores = naive.scores(frames.in_steps, whole, ones)
    yield from zip(scores, frames.targets, strict=True)


def flips(
    frames: Frames, ends: Ends, multipliers: Floats, low: float, high: float, room: int
) -> Flips:
    """Label flips with low < s < high along the segment between two weight vectors.

    Along it every class of a label pixel has a line through its scores F_c b_c at both ends.

    Args:
        frames: T of them.
        ends: two weight vectors [M] of sum 1.
        multipliers: float32 [C], ones for none.
        low, high: the stretch of the segment.
        room: flips that may be kept.

    Raises:
        ValueError: as `count`.
    """
    both, scale = np.stack(ends), np.stack([multipliers, multipliers])
    _check(frames, both, scale)
    scale, steps = as_read(scale, np.float32), stepped(both, WEIGHT_STEPS)
    return choose("resized").flips(frames.in_steps, steps, scale, low, high, room)


def _check(frames: Frames, weights: NDArray[np.float64], multipliers: Floats) -> None:
    models, classes = frames.maps.shape[1:3]
    shapes, expected = (weights.shape, multipliers.shape), (len(weights), models)
    if shapes != (expected, (len(weights), classes)) or weights.dtype != np.float64:
        what = f"weights {weights.dtype} {list(shapes[0])}, multipliers {list(shapes[1])}"
        raise ValueError(f"resized: got {what}; give float64 [B, {models}] and [B, {classes}]")
