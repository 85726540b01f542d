"""What figures share: colours for light and dark pages, and files that are the same every time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

# muted, apart in lightness too, so that they stay apart in grey
CLASSES = ("#8fb3d9", "#6b6b78", "#c46a4a", "#5f8f5f", "#d9c27a", "#8a6fae")
CLASS_MAP = ListedColormap(CLASSES)


@dataclass(frozen=True)
class Look:
    """Of one page: text, what matters, what it is compared with, what is neither."""

    text: str
    main: str
    other: str
    quiet: str
    page: str


LIGHT = Look("#26282e", "#27408b", "#b4541a", "#9a9da6", "#ffffff")
DARK = Look("#d6d9e2", "#9db4f5", "#f0a35e", "#767c8c", "#1e2129")


def both(draw: Callable[[Figure, Look, Any], None], values: Any, path: Path) -> None:
    """path.svg and path-dark.svg."""
    for look, ending in ((LIGHT, ".svg"), (DARK, "-dark.svg")):
        settings = {
            "svg.fonttype": "none",  # text stays text: it can be read, searched and is small
            "svg.hashsalt": path.name,
            "font.family": "sans-serif",
            "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 10,
            "axes.titlelocation": "left",
            "legend.frameon": False,
        }
        parts = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
        with matplotlib.rc_context(settings | dict.fromkeys(parts, look.text)):
            figure = Figure(figsize=(8, 4), layout="constrained")
            draw(figure, look, values)
            how = {"transparent": True, "metadata": {"Date": None, "Creator": None}}
            figure.savefig(path.with_name(path.name + ending), **how)


def picture(axes: Axes, array: Any, title: str, **how: Any) -> Any:
    """An array as a picture without axes."""
    shown = axes.imshow(array, interpolation="nearest", **how)
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return shown
