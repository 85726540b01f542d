"""What a search scores: contested pixels of a few groups, or the maps of many models."""

from fusion.contested.build import Builder, condense
from fusion.contested.maps import Maps
from fusion.contested.pixels import Condensed
from fusion.contested.source import Pixels

__all__ = ["Builder", "Condensed", "Maps", "Pixels", "condense"]
