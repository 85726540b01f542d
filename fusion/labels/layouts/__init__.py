"""How data sets lay out their videos: an object per layout, under the name that `Labels` keeps.

    folder    <root>/<video>/<frame>.png              ids as stored
    vspw      <root>/data/<video>/mask/<frame>.png    124 classes, videos listed in <split>.txt

A new layout is a class in a file of its own and its name here; its tests are `LayoutContract`'s.
"""

from fusion.labels.layouts.base import Layout
from fusion.labels.layouts.vspw import Vspw

LAYOUTS: dict[str, Layout] = {"folder": Layout(), "vspw": Vspw()}

__all__ = ["LAYOUTS", "Layout"]
