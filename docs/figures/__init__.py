"""Figures of the explanations, drawn from what the library computes: python -m docs.figures

Each module has `compute`, which returns plain values, and `draw`, which draws them on a figure; the
module's name is the file's. Every figure is drawn twice, for light and dark pages.
"""
