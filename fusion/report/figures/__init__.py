"""What a report draws: an object per figure, one registration; Vega-Lite, rendered without network.

    facts -> spec (a plain dict of Vega-Lite) -> svg -> page: colours by theme, hover texts
                                                     -> files: .svg and .png

A new figure is a file with a frozen dataclass of `Figure`, its name in FIGURES and in a section of
the page; its tests are `FigureContract`'s.
"""

from fusion.report.figures.figure import Figure
from fusion.report.figures.registry import FIGURES
from fusion.report.figures.render import Drawing, draw

__all__ = ["FIGURES", "Drawing", "Figure", "draw"]
