"""Colours that mean one thing in every figure and in the page, in both themes; type and axes.

Okabe and Ito's palette, which colour-blind people tell apart, darkened on white and lightened on
black until graphics have a contrast of 3 and words of 4.5 (WCAG AA); a test measures it. Figures
are drawn in the light theme's colours; the page puts variables in their place.
"""

from __future__ import annotations

from typing import Any

TOKENS = {  # name -> light, dark
    "surface": ("#fffffe", "#14171b"),
    "raised": ("#f5f6f8", "#1d2126"),
    "ink": ("#1a1d21", "#e9ebee"),
    "muted": ("#59616b", "#a7afb9"),
    "grid": ("#e2e5e9", "#30363e"),
    "border": ("#c6ccd3", "#454d57"),
    "found": ("#0072b2", "#56b4e9"),
    "single": ("#b85300", "#f0a030"),
    "uniform": ("#737b85", "#929ba6"),
    "test": ("#00805d", "#2fc799"),
    "other": ("#a84f80", "#d88fb6"),
    "extra": ("#6a5acd", "#a99cf0"),
}
INK, MUTED, GRID, SURFACE = (TOKENS[name][0] for name in ("ink", "muted", "grid", "surface"))
FOUND, SINGLE, UNIFORM = (TOKENS[name][0] for name in ("found", "single", "uniform"))
TEST, OTHER, EXTRA = (TOKENS[name][0] for name in ("test", "other", "extra"))
SERIES = [FOUND, SINGLE, TEST, OTHER, EXTRA, UNIFORM]
SHAPES = ["circle", "diamond", "square", "triangle-up", "cross", "triangle-down"]
HEAT = "cividis"
WIDE, NARROW = 780, 328  # of a drawing, in pixels: for screens, for phones
# what the letters are measured with must be as wide as what browsers show
FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"

_AXIS = {"domainColor": MUTED, "tickColor": MUTED, "gridColor": GRID, "labelColor": INK}
CONFIG: dict[str, Any] = {
    "font": FONT,
    "background": SURFACE,
    "padding": {"left": 2, "right": 8, "top": 4, "bottom": 4},
    "view": {"stroke": None},
    "axis": {
        **_AXIS,
        **{"titleColor": MUTED, "titleFontWeight": "normal", "titleFontSize": 12},
        **{"labelFontSize": 12, "labelOverlap": "greedy", "labelSeparation": 6},
    },
    "legend": {
        **{"orient": "top", "titleColor": MUTED, "titleFontWeight": "normal"},
        **{"labelColor": INK, "labelFontSize": 12, "labelLimit": 280, "symbolStrokeWidth": 2},
    },
    "header": {"labelColor": INK, "labelFontSize": 12, "titleColor": MUTED},
    "text": {"color": INK, "fontSize": 12},
    "title": {"color": INK, "fontSize": 13, "anchor": "start", "fontWeight": "normal"},
}
