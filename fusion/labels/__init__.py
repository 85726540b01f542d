"""Label maps: where they lie, what their values mean, how they are read and written."""

from fusion.labels.census import Census
from fusion.labels.class_map import ClassMap
from fusion.labels.classes import read_classes
from fusion.labels.known_maps import MAPS, VSPW_CLASSES, read_class_map
from fusion.labels.labels import Labels
from fusion.labels.layouts import LAYOUTS, Layout
from fusion.labels.png import colour_map, write_colours, write_labels
from fusion.text import natural_order

__all__ = ["LAYOUTS", "MAPS", "VSPW_CLASSES", "Census", "ClassMap", "Labels", "Layout"]
__all__ += ["colour_map", "natural_order", "read_class_map", "read_classes"]
__all__ += ["write_colours", "write_labels"]
