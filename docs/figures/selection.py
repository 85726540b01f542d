"""What the best of many weightings looks like where none is better: val, held out, and in truth."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks.planted import Scene
from docs.figures import style
from docs.figures.measured import Method, methods
from fusion.metrics import miou_of_counts as miou

SCENE, BASE, SEARCHES, FOLDS = Scene("level", 10), 60, 200, 5
STEP = 0.2  # of the grid of weights


class Values(NamedTuple):
    val: np.ndarray  # gains over uniform weights in points, a number a search
    held: np.ndarray
    methods: list[Method]


def compute() -> Values:
    """Searches by grid on samples of a population in which every weighting is worth the same."""
    condensed = SCENE.problem(BASE).condensed
    axis = np.arange(0, 2 + STEP / 2, STEP)
    weights = np.array([(1.0, 1.0, 1.0), *((1.0, a, b) for a in axis for b in axis)])
    inter, columns = condensed.statistics(weights).transpose(2, 1, 0, 3)  # [B, V, C] each
    rows = np.broadcast_to(condensed.rows_per_video, inter.shape)
    counts = np.stack([inter, rows, columns])  # [3, B, V, C]
    rng, gains = np.random.default_rng(0), []
    for _ in range(SEARCHES):
        mine = counts[:, :, rng.choice(len(condensed.videos), SCENE.videos, replace=False)]
        whole, left = mine.sum(axis=2), np.zeros_like(mine[:, 0, 0])
        for fold in np.array_split(np.arange(SCENE.videos), FOLDS):
            judged = mine[:, :, fold].sum(axis=2)
            left += judged[:, int(miou(*(whole - judged)).argmax())]  # chosen without them
        scores = miou(*whole)
        gains.append((scores.max() - scores[0], float(miou(*left)) - scores[0]))
    val, held = 100 * np.array(gains).T
    return Values(val, held, [each for each in methods() if each.val is not None])


def draw(figure: Figure, look: style.Look, values: Values) -> None:
    figure.set_size_inches(8, 3.8)
    left, right = figure.subplots(1, 2)
    bins = np.arange(np.floor(2 * values.held.min()), np.ceil(2 * values.val.max()) + 1) / 2
    for gains, colour, name in (
        (values.val, look.other, "on the videos that chose"),
        (values.held, look.main, "held out"),
    ):
        said = f"{name}: {gains.mean():+.1f} on average"
        left.hist(gains, bins, color=colour, alpha=0.65, label=said)
    left.axvline(0, ymax=0.7, color=look.text, lw=1)
    left.set_title(f"{SEARCHES} searches where nothing is to be gained")
    left.set_xlabel("gain over uniform weights, points")
    left.set_ylabel("searches")
    left.set_ylim(0, 1.45 * left.get_ylim()[1])
    left.legend(loc="upper right")
    val, held = (np.array([getattr(m, key) for m in values.methods]) for key in ("val", "held"))
    ends = np.array([56.5, 72.5])
    right.plot(ends, ends, color=look.quiet, lw=1)
    right.annotate("val = held out", (62.5, 63.2), color=look.quiet, rotation=38, fontsize=9)
    heads = np.array(["head" in method.name for method in values.methods])
    groups = ((~heads, look.main, "weights, multipliers"), (heads, look.other, "heads"))
    for which, colour, name in groups:
        right.plot(val[which], held[which], "o", color=colour, ms=6, label=name)
    right.set_title("22 real networks: flattery grows with freedom")
    right.set_xlabel("val, % mIoU")
    right.set_ylabel("held out, % mIoU")
    right.set_ylim(56.5, 69)
    right.legend(loc="upper left")
