"""One label map a file, by the end of its name: how its size is looked up and how it is read.

    .png     `fusion.labels.png`: ids, or colours
    .npy     ids [H, W]; channels [C, H, W] or [H, W, C]; uint8 [H, W, 3] are colours
    .tif     GeoTIFF (rasterio): ids in one band, three bands of uint8 are colours, else channels

H W pixels, C channels. Sizes are checked in headers, before anything is read.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusion import geometry
from fusion.errors import StoreError
from fusion.labels.lookup import Array
from fusion.labels.png import MOST_PIXELS, Size, read_png, read_size, reading

MOST_CHANNELS = 1 << 12
INTEGERS = "give whole numbers (uint8 or uint16), or bool for channels"


class Stored(NamedTuple):
    """A frame as it lies on disk: "ids" [H, W], "colours" uint8 [H, W, 3], "channels" [C, H, W]."""

    kind: str
    array: Array

    @property
    def size(self) -> Size:
        height, width = self.array.shape[-2:] if self.kind != "colours" else self.array.shape[:2]
        return height, width


class Format(NamedTuple):
    """size: (H, W) of a file by its header. read: the file; depth as in `decode_png`."""

    size: Callable[[Path], Size]
    read: Callable[[Path, int | None], Stored]


def frame_kind(shape: Sequence[int], dtype: np.dtype) -> tuple[str, Size]:
    """Kind and (H, W) of an array of one frame; StoreError where it can be no labels.

    Of three axes, the last are channels if it is the smallest, else the first.
    """
    if dtype.kind not in "iub":
        raise StoreError(f"holds {dtype} numbers; {INTEGERS}")
    if len(shape) not in (2, 3) or not all(shape):
        raise StoreError(f"is {list(shape)}; give [H, W], or channels [C, H, W]")
    last = len(shape) == 3 and shape[2] < min(shape[:2])
    height, width = shape[:2] if last or len(shape) == 2 else shape[1:]
    if height * width > MOST_PIXELS or math.prod(shape) > MOST_PIXELS * MOST_CHANNELS:
        raise StoreError(f"claims {list(shape)}; label maps have 1 to {MOST_PIXELS} pixels")
    if len(shape) == 2:
        return "ids", (height, width)
    return "colours" if last and shape[2] == 3 and dtype == np.uint8 else "channels", (
        height,
        width,
    )


def as_stored(array: NDArray) -> Stored:
    """An array of one frame; raises as `frame_kind`."""
    kind, size = frame_kind(array.shape, array.dtype)
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    if kind == "channels" and array.shape[:2] == size:
        array = np.moveaxis(array, -1, 0)
    return Stored(kind, np.asarray(array, array.dtype.newbyteorder("=")))


def _npy_header(path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type, once they are found sound and the file as long as they say."""
    with path.open("rb") as file:
        try:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): "read_array_header_1_0", (2, 0): "read_array_header_2_0"}[version]
            shape, _, dtype = getattr(np.lib.format, read)(file)
        except Exception as error:  # of a Python literal, which headers are
            raise StoreError("is no .npy array, or a truncated one; restore the file") from error
        if dtype.hasobject:
            raise StoreError(f"is pickled, which could run code; {INTEGERS}")
        frame_kind(shape, dtype)
        needed, found = file.tell() + dtype.itemsize * math.prod(shape), path.stat().st_size
        if found != needed:
            raise StoreError(f"has {found} bytes, its header says {needed}; restore the file")
        return shape, dtype


def _npy_size(path: Path) -> Size:
    with reading(path):
        return frame_kind(*_npy_header(path))[1]


def _npy(path: Path, depth: int | None) -> Stored:
    with reading(path):
        _npy_header(path)
        return as_stored(np.load(path, allow_pickle=False))


def _png(path: Path, depth: int | None) -> Stored:
    array = read_png(path, depth=depth)
    return Stored("colours" if array.ndim == 3 else "ids", array)


def _tif_size(path: Path) -> Size:
    _quiet()
    bands, height, width = geometry.raster_shape(path)
    with reading(path):
        return frame_kind((bands, height, width)[0 if bands > 1 else 1 :], np.dtype(np.uint8))[1]


def _tif(path: Path, depth: int | None) -> Stored:
    _tif_size(path)
    return raster(geometry_of(path).array, path)


def geometry_of(path: Path) -> geometry.Placed:
    """A raster and its place, without a warning where it has none."""
    _quiet()
    return geometry.read_geotiff(path)


def _quiet() -> None:
    """Masks need no place in the world; a filter for good, since others are not safe in threads."""
    with contextlib.suppress(ImportError):  # which the reader says better
        from rasterio.errors import NotGeoreferencedWarning

        warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)


def raster(bands: NDArray, path: Path) -> Stored:
    """Bands [B, H, W] as a frame."""
    with reading(path):
        if bands.dtype.kind not in "iub":
            raise StoreError(f"holds {bands.dtype} numbers; {INTEGERS}")
    if len(bands) == 1:
        return Stored("ids", bands[0])
    if len(bands) == 3 and bands.dtype == np.uint8:
        return Stored("colours", np.moveaxis(bands, 0, -1))
    return Stored("channels", bands)


_TIF = Format(_tif_size, _tif)
FORMATS = {".png": Format(read_size, _png), ".npy": Format(_npy_size, _npy)}
FORMATS |= {".tif": _TIF, ".tiff": _TIF}
PLAIN = (".png", ".npy")  # that need no library of their own
