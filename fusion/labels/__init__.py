"""Label maps: where they lie, what their values mean, how they are read and written."""

from fusion.labels.labels import VSPW_CLASSES, Labels
from fusion.labels.png import colour_map, write_labels
from fusion.text import natural_order

__all__ = ["VSPW_CLASSES", "Labels", "colour_map", "natural_order", "write_labels"]
