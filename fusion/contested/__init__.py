"""Contested pixels: all of a validation set that any weighting can change."""

from fusion.contested.pixels import Builder, Condensed, condense

__all__ = ["Builder", "Condensed", "condense"]
