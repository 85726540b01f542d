"""GeoTIFF rasters in the coordinates that their image came with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from fusion.geometry import write_geotiff
from fusion.outputs.content import Content, is_colours
from fusion.outputs.names import safe_name
from fusion.outputs.output import Output, Part
from fusion.outputs.unit import Unit


@dataclass(frozen=True)
class GeoTiff(Output):
    """<out>/<unit>.tif of units of one frame, <out>/<unit>/<frame>.tif of others; a band of labels,
    three of colours, one of each channel or class.
    """

    name: ClassVar = "geotiff"
    about: ClassVar = "<out>/<unit>.tif with CRS and transform; channels as bands"
    keeps: ClassVar = ("labels", "channels", "stored", "colours", "probabilities")
    packed: ClassVar = ("*.tif", "*/*.tif")

    def prepared(self, content: Content, units: Sequence[Unit]) -> GeoTiff:
        super().prepared(content, units)
        for unit in units:
            unit.place("geotiff")
        return self

    def parts(self, unit: Unit) -> list[Part]:
        if len(unit.frames) == 1:
            return [Part((f"{unit.name}.tif",), unit.frames)]
        return [Part((f"{unit.name}/{safe_name(f)}.tif",), (f,)) for f in unit.frames]

    def write(
        self, out: Path, unit: Unit, parts: Sequence[Part], content: Content, *, overwrite: bool
    ) -> None:
        maps = content.maps(unit, [frame for part in parts for frame in part.frames])
        for part, (_, array) in zip(parts, maps, strict=True):
            bands = array[None] if array.ndim == 2 else array
            if is_colours(array, content):
                bands = np.moveaxis(array, -1, 0)
            place = unit.place("geotiff")
            write_geotiff(out / part.files[0], bands, place, overwrite=overwrite)
