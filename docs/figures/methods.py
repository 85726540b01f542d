"""What each method gives on real predictions: on the videos that chose, and held out."""

from __future__ import annotations

from matplotlib.figure import Figure

from docs.figures import style
from docs.figures.measured import Method, methods, points

SHOWN = {
    "uniform weights": "uniform weights",
    "the best single model": "best single model",
    "grid": "grid, the paper's",
    "exact, auto": "exact line search",
    "greedy over 22 models": "greedy, 22 models",
    "exact + multipliers": "exact + class multipliers",
    "log head over 22 models": "log head, 22 models",
    "mix head over 22 models, auto": "mix head, 22 models",
}


def compute() -> list[Method]:
    known = {method.name: method for method in methods()}
    return [known[name]._replace(name=said) for name, said in SHOWN.items()]


def draw(figure: Figure, look: style.Look, values: list[Method]) -> None:
    figure.set_size_inches(8, 4.0)
    axes, places = figure.subplots(), range(len(values), 0, -1)
    axes.set_title(
        "22 real networks on ten clips, % mIoU: on val every method looks better than it is"
    )
    for place, method in zip(places, values, strict=True):
        axes.plot([method.low, method.high], [place, place], color=look.main, lw=2, alpha=0.45)
        axes.plot(method.held, place, "o", color=look.main, ms=7)
        axes.annotate(points(method.held), (method.held, place), (0, 7), **_beside(look.main))
        if method.val is not None and method.val - method.held > 0.05:
            axes.plot(method.val, place, "o", color=look.other, mfc="none", ms=7, mew=1.6)
            axes.annotate(points(method.val), (method.val, place), (0, -14), **_beside(look.other))
    axes.plot([], [], "o-", color=look.main, label="held out, 95 % interval")
    axes.plot([], [], "o", color=look.other, mfc="none", mew=1.6, label="on the videos that chose")
    axes.set_yticks(places, [method.name for method in values])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_ylim(0.4, len(values) + 0.8)
    axes.legend(loc="upper right")


def _beside(colour: str) -> dict[str, object]:
    return {"textcoords": "offset points", "ha": "center", "fontsize": 8, "color": colour}
