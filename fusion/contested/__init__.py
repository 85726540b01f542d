"""Contested pixels: all of a validation set that any weighting can change."""

from fusion.contested.build import Builder, condense
from fusion.contested.pixels import Condensed

__all__ = ["Builder", "Condensed", "condense"]
