"""Whether amounts may be multiplied: one evaluation after another, each twice as large in one way.

A point opens its stores and evaluates them, from files to a score, one thread a unit. Seconds of
processor time, which no other work on the machine counts to, are fitted by a + b n:
b is what one more of n costs, a what does not grow with it. Relative residuals say how straight the
points lie; the exponent is that of the growing part, the slope of log(t - a) over log n, 1 where it
is linear.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

import fusion
from benchmarks import measure, simulated
from benchmarks.scale.rates import processor
from fusion.parallel import one_thread


@dataclass(frozen=True)
class Shape:
    """M models, C classes, units of so many frames, [h, w] to [H, W]."""

    models: int
    classes: int
    units: int
    frames: int
    native: tuple[int, int]
    size: tuple[int, int]


BASE = Shape(8, 24, 2, 4, (60, 107), (240, 427))
TINY = Shape(1, 2, 1, 1, (8, 10), (16, 20))
FACTORS = (1, 2, 4, 8)
AXES = ("frames", "models", "classes", "units")


@dataclass(frozen=True)
class Fit:
    """Seconds t of amounts n along one axis, and t = a + b n through them."""

    axis: str
    amounts: tuple[int, ...]
    seconds: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def line(self) -> tuple[float, float]:
        """(a, b), least squares of relative errors."""
        n, t = np.array(self.amounts, float), np.array(self.seconds)
        rows = np.stack([np.ones_like(n), n], axis=1) / t[:, None]
        a, b = np.linalg.lstsq(rows, np.ones_like(t), rcond=None)[0]
        return float(a), float(b)

    @property
    def residual(self) -> float:
        """The largest |t - a - b n| / t."""
        a, b = self.line
        pairs = zip(self.amounts, self.seconds, strict=True)
        return max(abs(t - a - b * n) / t for n, t in pairs)

    @property
    def exponent(self) -> float:
        """nan where the fixed part is more than a point's whole time."""
        a, _ = self.line
        grown = [t - max(a, 0.0) for t in self.seconds]
        if min(grown) <= 0:
            return math.nan
        return float(np.polyfit(np.log(self.amounts), np.log(grown), 1)[0])

    @property
    def doublings(self) -> list[tuple[int, int, float, float]]:
        """(n, next n, times as long, times as long by the fit) of neighbours."""
        a, b = self.line
        pairs = list(zip(self.amounts, self.seconds, strict=True))
        return [
            (n, m, later / t, (a + b * m) / (a + b * n))
            for (n, t), (m, later) in itertools.pairwise(pairs)
        ]


def scaled(base: Shape, axis: str, factor: int) -> Shape:
    return Shape(**{**vars(base), axis: getattr(base, axis) * factor})


def write(shape: Shape, folder: Path) -> None:
    """Stores and labels of this shape; each model has few different frames, again and again."""
    names = [str(c) for c in range(shape.classes)]
    maps = simulated.agreeing(shape.models, shape.classes, shape.native)
    ids = [f"{t:05d}" for t in range(shape.frames)]
    videos = [f"unit{v:03d}" for v in range(shape.units)]
    for m, logits in enumerate(maps):
        writer = fusion.LogitWriter(folder / "stores" / f"{m:02d}.zarr", names)
        for v, video in enumerate(videos):
            with writer.video(video, frames=ids, size=shape.size) as out:
                for t in range(shape.frames):
                    out.append(torch.roll(logits, v + 3 * t, dims=2).numpy())


def truth(shape: Shape) -> fusion.Labels:
    """Random labels: what is counted does not depend on whether it is right."""
    draw, shown = np.random.default_rng(0), (shape.frames, *shape.size)
    maps = {
        f"unit{v:03d}": draw.integers(0, shape.classes, shown).astype(np.uint8)
        for v in range(shape.units)
    }
    return fusion.Labels.from_arrays(maps, classes=shape.classes)


def evaluate(folder: Path, labels: fusion.Labels) -> float:
    groups = {"all": str(folder / "stores" / "*.zarr")}
    return fusion.HierarchicalEnsemble(groups, device="cpu").evaluate(labels).miou


def measured(folder: Path, base: Shape, rounds: int, axes: Sequence[str] = AXES) -> list[Fit]:
    """All points, taking turns; the base is measured once for all axes."""
    tasks, shapes = {}, {scaled(base, axis, f): None for axis in axes for f in FACTORS}
    for number, shape in enumerate(shapes):
        place = folder / f"{number:02d}"
        write(shape, place)
        tasks[str(shape)] = partial(evaluate, place, truth(shape))
    with one_thread():
        times = processor(tasks, rounds)
    fits = []
    for axis in axes:
        amounts = tuple(getattr(base, axis) * factor for factor in FACTORS)
        rows = [times[str(scaled(base, axis, f))] for f in FACTORS]
        low, middle, high = zip(*(measure.quantiles(row) for row in rows), strict=True)
        fits.append(Fit(axis, amounts, middle, low, high))
    return fits
