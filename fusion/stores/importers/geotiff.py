"""Probability rasters: <image>.tif of floats, a band a class; each keeps its place.

SOURCE/<image>.tif            a video of one frame
SOURCE/<place>/<date>.tif     frames of one place
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from fusion.errors import InputError
from fusion.geometry import GEOTIFF, geotiff_geometry, raster_shape, read_geotiff, slice_ids
from fusion.stores.importers.folders import checked, find, stem
from fusion.stores.importers.protocol import Frames, Importer, Source

SUFFIXES = (*GEOTIFF, *(suffix.upper() for suffix in GEOTIFF))


@dataclass(frozen=True)
class GeoTiff(Importer):
    """GeoTIFF files of floats, bands are classes."""

    kind: ClassVar[str] = "geotiff"
    name: ClassVar[str] = "GeoTIFF rasters"
    holds: ClassVar[str] = "<image>.tif or <place>/<date>.tif of floats, a band a class"

    @staticmethod
    def recognises(path: Path) -> bool:
        return bool(find(path, SUFFIXES))

    def videos(self, path: Path) -> list[Source]:
        return checked(path, find(path, SUFFIXES), self.holds)

    def frames(self, source: Source, classes: Sequence[str]) -> Frames:
        def rasters() -> Iterator[np.ndarray]:
            for file in source.files:
                shape = raster_shape(file)
                if shape[0] != len(classes):
                    wanted = f"a band for each of {len(classes)} classes"
                    raise InputError(f"{file}: shape {list(shape)} [B, H, W], expected {wanted}")
                if geotiff_geometry(file) != geometry:
                    problem = f"lies elsewhere than {source.files[0].name}"
                    advice = "give images of several places as <image>.tif in one folder"
                    raise InputError(f"{file}: {problem}; {advice}")
                array = read_geotiff(file).array
                if array.dtype.kind != "f":
                    raise InputError(f"{file}: holds {array.dtype}, no probabilities; give floats")
                yield array

        geometry = geotiff_geometry(source.files[0])
        named = [stem(file, SUFFIXES) for file in source.files]
        return Frames(named if source.named else slice_ids(1), rasters(), geometry)
