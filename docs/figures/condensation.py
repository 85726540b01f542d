"""Which pixels of a scene are contested, and with how many classes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from docs.figures import style
from docs.figures.scene import CLASSES, NOISE, scene


class Values(NamedTuple):
    truth: np.ndarray
    labels: np.ndarray  # [G, H, W]
    left: np.ndarray  # classes that are left at each pixel
    shares: np.ndarray  # of pixels, by number of classes left


def classes_left(means: np.ndarray) -> np.ndarray:
    """[H, W]: classes that no other one beats in every group; ties do not occur here."""
    beaten = (means[:, :, None] > means[:, None, :]).all(axis=0).any(axis=0)
    return CLASSES - beaten.sum(axis=0)


def compute() -> Values:
    made = scene()
    left = classes_left(made.means)
    known = made.condensed.widths  # what the library keeps: pixels by number of candidates
    assert {int(k): int((left == k).sum()) for k in np.unique(left) if k > 1} == known
    shares = np.bincount(left.ravel(), minlength=CLASSES + 1)[1:] / left.size
    return Values(made.truth, made.means.argmax(axis=1), left, shares)


def draw(figure: Figure, look: style.Look, values: Values) -> None:
    figure.set_size_inches(8, 4.6)
    axes = figure.subplots(2, 3)
    how: dict[str, Any] = {"cmap": style.CLASS_MAP, "vmin": 0, "vmax": CLASSES - 1}
    style.picture(axes[0, 0], values.truth, "truth", **how)
    for name, place, labels in zip(NOISE, (1, 2, 3), values.labels, strict=True):
        style.picture(axes.flat[place], labels, f"top class of {name}", **how)
    shades = ListedColormap([look.page, *["#f2c9a5", "#dd8f55", look.other, "#7c2d08", "#3d1503"]])
    title = f"contested: {100 * (1 - values.shares[0]):.0f} % of pixels"
    style.picture(axes[1, 1], values.left, title, cmap=shades, vmin=1, vmax=CLASSES)
    for spine in axes[1, 1].spines.values():
        spine.set(visible=True, color=look.quiet)
    bars = axes[1, 2]
    kept = [k for k in range(1, CLASSES + 1) if values.shares[k - 1] > 0]
    heights = [100 * values.shares[k - 1] for k in kept]
    colours = [look.quiet] + [shades.colors[k - 1] for k in kept[1:]]
    drawn = bars.bar([str(k) for k in kept], heights, color=colours, edgecolor=look.quiet)
    bars.bar_label(drawn, [f"{height:.1f} %" for height in heights], fontsize=8)
    bars.set_title("classes left at a pixel")
    bars.set_yticks([])
    bars.spines["left"].set_visible(False)
    bars.margins(y=0.15)
