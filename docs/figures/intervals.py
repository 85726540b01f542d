"""How often 95 % intervals hold the truth, by the number of videos."""

from __future__ import annotations

from matplotlib.figure import Figure

from docs.figures import style
from docs.figures.measured import coverage


def compute() -> dict[int, tuple[float, float]]:
    return coverage()


def draw(figure: Figure, look: style.Look, values: dict[int, tuple[float, float]]) -> None:
    figure.set_size_inches(8, 3.0)
    axes, videos = figure.subplots(), list(values)
    kinds = ((1, look.main, "jackknife, Student's t"), (0, look.quiet, "percentile bootstrap"))
    for index, colour, name in kinds:
        held = [values[number][index] for number in videos]
        axes.plot(range(len(videos)), held, "o-", color=colour, lw=2, ms=6, label=name)
        for place, share in enumerate(held):
            beside = (0, 7 if share > 95 else -14)
            axes.annotate(f"{share:.0f}", (place, share), beside, color=colour, **_CENTRE)
    axes.axhline(95, color=look.other, lw=1)
    at = (len(videos) - 1, 95)
    axes.annotate("what is printed: 95 %", at, (0, 6), color=look.other, **_RIGHT)
    axes.set_xticks(range(len(videos)), [f"{number} videos" for number in videos])
    axes.set_ylabel("held the truth, %")
    axes.set_ylim(75, 100)
    axes.legend(loc="lower right")


_CENTRE = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
_RIGHT = {"textcoords": "offset points", "ha": "right", "fontsize": 9}
