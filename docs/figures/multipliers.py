"""mIoU along the multiplier of a rare class, on the videos that choose it and on others."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from benchmarks.planted import CLASSES, GROUPS, REACH, Scene
from docs.figures import style

SCENE, BASE = Scene("equal", 12, rare=True, multipliers=True), 40
POINTS = 241


class Values(NamedTuple):
    factors: np.ndarray
    mine: np.ndarray  # on the videos that choose
    others: np.ndarray


def compute() -> Values:
    pixels = SCENE.problem(BASE).wide
    assert pixels is not None
    order = np.random.default_rng(1).permutation(len(pixels.videos))
    names = [pixels.videos[place] for place in order]
    factors = np.geomspace(1 / REACH, REACH, POINTS)
    multipliers = np.ones((POINTS, CLASSES))
    multipliers[:, -1] = factors
    weights = np.ones((POINTS, len(GROUPS)))
    both = (names[: SCENE.videos], names[SCENE.videos :])
    parts = [pixels.subset(some) for some in both]
    scores = [np.asarray(part.miou(weights, multipliers=multipliers)) for part in parts]
    return Values(factors, *scores)


def draw(figure: Figure, look: style.Look, values: Values) -> None:
    figure.set_size_inches(8, 3.4)
    axes = figure.subplots()
    kinds = (
        (values.mine, look.main, f"{SCENE.videos} videos that choose"),
        (values.others, look.other, "the other videos"),
    )
    for scores, colour, name in kinds:
        gains = 100 * (scores - scores[POINTS // 2])
        best = int(gains.argmax())
        axes.plot(values.factors, gains, color=colour, lw=1.6)
        axes.plot(values.factors[best], gains[best], "D", color=colour, ms=6)
        said = f"{name}: best at {values.factors[best]:.2f}, {gains[best]:+.1f} points"
        axes.plot([], [], "D-", color=colour, label=said)
    axes.axvline(1, color=look.quiet, lw=1)
    axes.set_xscale("log", base=2)
    axes.set_xticks([0.25, 0.5, 1, 2, 4], ["1/4", "1/2", "1", "2", "4"])
    axes.set_xlabel("multiplier of the rare class")
    axes.set_ylabel("mIoU over that at 1, points")
    axes.legend(loc="lower center")
