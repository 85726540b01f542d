"""mIoU along a line of weights: every breakpoint, and what a grid sees of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from docs.figures import style
from docs.figures.scene import scene
from fusion.kernels.sweep import joined
from fusion.search.exact.line import best_on_segment
from fusion.search.method import Problem

START, END = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)  # strong and auxiliary trade their weights
POINTS, ROOM = 21, 1 << 20
ZOOM = 0.035


class Values(NamedTuple):
    edges: np.ndarray  # breakpoints, with 0 and 1 at the ends
    steps: np.ndarray  # mIoU between them
    grid: np.ndarray
    seen: np.ndarray  # mIoU at the points of the grid
    best: tuple[float, float, float]  # left, right, mIoU


def along(shares: np.ndarray) -> np.ndarray:
    """Weights [B, G] at places of the line."""
    return (1 - shares[:, None]) * np.array(START) + shares[:, None] * np.array(END)


def compute() -> Values:
    condensed = scene().condensed
    ends = np.array(START), np.array(END)
    found = joined(list(condensed.flips(ends, 0.0, 1.0, ROOM)), len(condensed.classes))
    edges = np.unique(np.concatenate([[0.0, 1.0], found.flips["at"]]))
    grid = np.linspace(0, 1, POINTS)
    steps, seen = (condensed.miou(along(places)) for places in ((edges[1:] + edges[:-1]) / 2, grid))
    line = best_on_segment(Problem(condensed), *ends)
    assert np.isclose(line.miou, steps.max(), atol=1e-12)
    best = (line.low, line.high, line.miou)
    return Values(edges, np.asarray(steps), grid, np.asarray(seen), best)


def draw(figure: Figure, look: style.Look, values: Values) -> None:
    figure.set_size_inches(8, 3.6)
    left, right, best = values.best
    whole, close = figure.subplots(1, 2, width_ratios=(3, 2))
    for axes, weight in ((whole, 0.9), (close, 1.4)):
        axes.stairs(100 * values.steps, values.edges, baseline=None, color=look.main, lw=weight)
        axes.plot(values.grid, 100 * values.seen, "o", color=look.other, ms=5, zorder=3)
        axes.plot((left + right) / 2, 100 * best, "D", color=look.main, ms=6, zorder=4)
        axes.set_xlabel("share of the way from strong to auxiliary")
    whole.set_ylabel("mIoU, %")
    stretches = f"{len(values.steps):,} stretches between breakpoints"
    whole.set_title(f"{stretches}; a grid of {POINTS} points")
    low = 100 * values.steps[np.abs(values.edges[1:] - left) < ZOOM].min()
    close.set_xlim(left - ZOOM, right + ZOOM)
    close.set_ylim(low - 0.02, 100 * best + 0.02)
    close.axvspan(left, right, color=look.main, alpha=0.15, lw=0)
    gap = 100 * (best - values.seen.max())
    close.set_title(f"the best stretch, {gap:.2f} above the grid's best")
    close.ticklabel_format(useOffset=False)
