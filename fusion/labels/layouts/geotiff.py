"""Rasters in a folder: <root>/<image>.tif, each a unit of one frame that keeps its place."""

from __future__ import annotations

from typing import Any

from fusion.labels.formats import geometry_of
from fusion.labels.layouts.flat import Flat


class GeoTiff(Flat):
    """Single rasters in one folder; read with rasterio."""

    name = "geotiff"
    holds = "<image>.tif"
    suffixes = (".tif", ".tiff")

    def geometry(self, unit: str) -> dict[str, Any] | None:
        return geometry_of(self.file(unit, unit)).geometry
