"""Label maps: where they lie, what their values mean, how they are read and written."""

from fusion.labels.census import Census
from fusion.labels.classes import read_classes
from fusion.labels.labels import Labels
from fusion.labels.layouts import LAYOUTS, Layout
from fusion.labels.layouts.vspw import VSPW_CLASSES
from fusion.labels.png import colour_map, write_labels
from fusion.text import natural_order

__all__ = ["LAYOUTS", "VSPW_CLASSES", "Census", "Labels", "Layout"]
__all__ += ["colour_map", "natural_order", "read_classes", "write_labels"]
