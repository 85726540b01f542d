"""Volumes and rasters whose place in the world must survive: NIfTI (nibabel), GeoTIFF (rasterio).

A volume is a video whose frames are its slices. One order of axes everywhere, that of nnU-Net and
SimpleITK: [Z, Y, X], the reverse of NIfTI's own (i, j, k); frame ids are 00000, 00001, ... along Z.
A raster is a single frame. Geometry is plain JSON, kept with each video by its store:

    {"kind": "nifti", "affine": 4x4 of voxel (i, j, k, 1) to mm, "spacing": [z, y, x] mm}
    {"kind": "geotiff", "crs": WKT or null, "transform": [a, b, c, d, e, f] of (column, row)}

Sizes are checked in headers, before anything is read.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fusion.errors import InputError, StoreError
from fusion.files import write_bytes

NIFTI, GEOTIFF = (".nii.gz", ".nii"), (".tif", ".tiff")
MOST_NUMBERS = 1 << 34  # of one file
Geometry = Mapping[str, Any]


class Placed(NamedTuple):
    """Numbers [..., Z, Y, X] of a volume or [B, H, W] of a raster, and where they lie."""

    array: np.ndarray
    geometry: dict[str, Any]


def slice_ids(number: int) -> list[str]:
    """Frame ids of a volume of so many slices."""
    return [f"{z:05d}" for z in range(number)]


def nifti_shape(path: Path) -> tuple[int, ...]:
    """[..., Z, Y, X] by the header alone."""
    return tuple(_nifti(path).shape[::-1])


def read_nifti(path: Path) -> Placed:
    """A volume [Z, Y, X], or [C, Z, Y, X] where the file has four axes; stored type unless scaled.

    InputError: no NIfTI, truncated, or larger than memory should be asked for.
    """
    image = _nifti(path)
    with _reading(path, "NIfTI"):
        array = np.asanyarray(image.dataobj)
    affine = np.asarray(image.affine, np.float64)
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))[::-1]
    geometry = {"kind": "nifti", "affine": affine.tolist(), "spacing": spacing.tolist()}
    return Placed(np.ascontiguousarray(array.T), geometry)


def write_nifti(
    path: Path, array: np.ndarray, geometry: Geometry | None, *, overwrite: bool = False
) -> None:
    """A volume [Z, Y, X] or [C, Z, Y, X] under the affine it came with (none: identity)."""
    nibabel = _needs("nibabel", "NIfTI")
    affine = np.asarray((geometry or {}).get("affine", np.eye(4)), np.float64)
    image = nibabel.Nifti1Image(np.ascontiguousarray(array).T, affine)
    content = image.to_bytes() if path.suffix == ".nii" else _gzipped(image)
    write_bytes(path, content, overwrite=overwrite)


def raster_shape(path: Path) -> tuple[int, ...]:
    """[B, H, W] by the header alone."""
    with _raster(path) as file:
        return file.count, file.height, file.width


def read_geotiff(path: Path) -> Placed:
    """A raster [B, H, W]. InputError: no TIFF, truncated, or too large."""
    with _raster(path) as file, _reading(path, "TIFF"):
        crs = file.crs.to_wkt() if file.crs else None
        geometry = {"kind": "geotiff", "crs": crs, "transform": list(file.transform)[:6]}
        return Placed(file.read(), geometry)


def write_geotiff(
    path: Path, array: np.ndarray, geometry: Geometry | None, *, overwrite: bool = False
) -> None:
    """A raster [B, H, W] in the coordinates it came with (none: pixels)."""
    rasterio, known = _needs("rasterio", "GeoTIFF"), geometry or {}
    bands, height, width = array.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": array.dtype.name}
    transform = rasterio.Affine(*known.get("transform", (1, 0, 0, 0, 1, 0)))
    how = {**shape, "crs": known.get("crs"), "transform": transform, "compress": "deflate"}
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", **how) as file:
            file.write(array)
        write_bytes(path, bytes(memory.getbuffer()), overwrite=overwrite)


def _gzipped(image: Any) -> bytes:
    import gzip

    return gzip.compress(image.to_bytes(), mtime=0)  # no time: equal content is equal bytes


def _nifti(path: Path) -> Any:
    nibabel = _needs("nibabel", "NIfTI")
    with _reading(path, "NIfTI"):
        image = nibabel.load(path)
    _check_size(path, image.shape)
    return image


def _raster(path: Path) -> Any:
    rasterio = _needs("rasterio", "GeoTIFF")
    with _reading(path, "TIFF"):
        file = rasterio.open(path)
    _check_size(path, (file.count, file.height, file.width))
    return file


def _check_size(path: Path, shape: tuple[int, ...]) -> None:
    if not 0 < math.prod(shape) <= MOST_NUMBERS:
        raise InputError(f"{path}: claims {list(shape)} numbers; give at most {MOST_NUMBERS}")


class _reading:
    """Turns the many errors of a reader into one that names the file."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind

    def __enter__(self) -> None:
        if not self.path.is_file():
            raise StoreError(f"{self.path}: no such file; give a {self.kind} file")

    def __exit__(self, kind: type[BaseException] | None, error: Any, _: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, (InputError, StoreError)):
            reason = (str(error) or type(error).__name__).splitlines()[0]
            what = f"not a readable {self.kind} file ({reason})"
            raise InputError(f"{self.path}: {what}; restore it") from error


def _needs(module: str, what: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        do = f"pip install {module}"
        raise InputError(f"{what} needs {module}, which is not installed; {do}") from error
