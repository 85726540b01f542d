"""Volumes and rasters whose place in the world must survive: NIfTI (nibabel), GeoTIFF (rasterio).

A volume is a video whose frames are its slices. One order of axes everywhere, that of nnU-Net and
SimpleITK: [Z, Y, X], the reverse of NIfTI's own (i, j, k); frame ids are 00000, 00001, ... along Z.
A raster is a single frame. Geometry is plain JSON, kept with each video by its store:

    {"kind": "nifti", "affine": 4x4 of voxel (i, j, k, 1) to mm, "spacing": [z, y, x] mm}
    {"kind": "geotiff", "crs": WKT or null, "transform": [a, b, c, d, e, f] of (column, row)}

Sizes are checked in headers, before anything is read.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fusion.errors import InputError, StoreError
from fusion.files import write_bytes

NIFTI, GEOTIFF = (".nii.gz", ".nii"), (".tif", ".tiff")
MOST_NUMBERS = 1 << 34  # of one file
# of a raster's: a block of a sparse one, 16 bytes there, is 4 MB at most
RASTER_RATIO = 1 << 18
MOST_BANDS = 1 << 12
DEFLATE_RATIO = 1040  # bytes that a packed one can stand for, at most. Source: zlib's FAQ, 1032
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
    return _spatial(_nifti(path).shape)


def nifti_dtype(path: Path) -> np.dtype:
    """What `read_nifti` returns, by the header alone: floats where the stored integers are scaled.

    InputError: no NIfTI, or colours.
    """
    image = _nifti(path)
    slope, shift = image.dataobj.slope, image.dataobj.inter
    return np.dtype(image.get_data_dtype() if (slope, shift) == (1, 0) else np.float64)


def read_nifti(path: Path) -> Placed:
    """A volume [Z, Y, X], or [C, Z, Y, X] where the file has four axes; stored type unless scaled.

    Z is 1 where the file has two axes. ITK's vectors, whose fifth axis follows a fourth of 1, have
    four.

    InputError: no NIfTI, truncated, larger than memory should be asked for, or nowhere.
    """
    image = _nifti(path)
    with _reading(path, "NIfTI"):
        array = np.asanyarray(image.dataobj)
    return Placed(np.ascontiguousarray(array.T).reshape(_spatial(array.shape)), _place(path, image))


def nifti_geometry(path: Path) -> dict[str, Any]:
    """Where a volume lies, by the header alone."""
    return _place(path, _nifti(path))


def _place(path: Path, image: Any) -> dict[str, Any]:
    affine = np.asarray(image.affine, np.float64)
    if not np.isfinite(affine).all():
        raise InputError(f"{path}: its affine holds NaN or infinity; restore the header")
    return placed(affine)


def orientation(affine: np.ndarray) -> tuple[list[int], list[int]]:
    """The world's axis (0 right, 1 front, 2 up) that each of a file's runs along, and 1 or -1.

    ValueError: an axis of no length.
    """
    axes, signs = _needs("nibabel", "NIfTI").io_orientation(affine).T
    if np.isnan(axes).any():
        raise ValueError("an axis of no length")
    return [int(axis) for axis in axes], [int(sign) for sign in signs]


def placed(affine: np.ndarray) -> dict[str, Any]:
    """Geometry of a volume: affine [4, 4] of voxel (i, j, k, 1) to mm (x to the right, y to the
    front, z up)."""
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))[::-1]
    return {"kind": "nifti", "affine": affine.tolist(), "spacing": spacing.tolist()}


def write_nifti(
    path: Path, array: np.ndarray, geometry: Geometry | None, *, overwrite: bool = False
) -> None:
    """A volume [Z, Y, X] or [C, Z, Y, X] under the affine it came with (none: identity).

    InputError: a type that NIfTI has not (bool, 16-bit floats, 64-bit integers), or no affine.
    """
    nibabel = _needs("nibabel", "NIfTI")
    affine = _matrix(path, (geometry or {}).get("affine", np.eye(4)), (4, 4))
    with _writing(path, array, "NIfTI", "uint8, int16, int32, float32 or float64"):
        image = nibabel.Nifti1Image(np.ascontiguousarray(array).T, affine)
        # other programs read one form or the other; shear is what the second cannot say
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=1)
        if not np.allclose(image.get_qform(), affine, atol=1e-4):
            image.set_qform(None, code=0)
        image.header.set_xyzt_units("mm")
        content = image.to_bytes() if path.suffix == ".nii" else _gzipped(image)
    write_bytes(path, content, overwrite=overwrite)


def raster_shape(path: Path) -> tuple[int, ...]:
    """[B, H, W] by the header alone."""
    with _raster(path) as file:
        return file.count, file.height, file.width


def read_geotiff(path: Path) -> Placed:
    """A raster [B, H, W]. InputError: no TIFF, truncated, or too large."""
    with _raster(path) as file, _reading(path, "TIFF"):
        return Placed(file.read(), _raster_geometry(file))


def geotiff_geometry(path: Path) -> dict[str, Any]:
    """Where a raster lies, by the header alone."""
    with _raster(path) as file, _reading(path, "TIFF"):
        return _raster_geometry(file)


def write_geotiff(
    path: Path, array: np.ndarray, geometry: Geometry | None, *, overwrite: bool = False
) -> None:
    """A raster [B, H, W] in the coordinates it came with (none: pixels).

    InputError: a type that GeoTIFF has not (bool, 16-bit floats), or coordinates that are none.
    """
    rasterio, known = _needs("rasterio", "GeoTIFF"), geometry or {}
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(f"{path}: got shape {list(array.shape)}; give a raster [B, H, W]")
    bands, height, width = array.shape
    shape = {"count": bands, "height": height, "width": width, "dtype": array.dtype.name}
    numbers = _matrix(path, known.get("transform", (1, 0, 0, 0, 1, 0)), (6,))
    where = {"crs": known.get("crs"), "transform": rasterio.Affine(*numbers.tolist())}
    how = {**shape, **where, "compress": "deflate", "bigtiff": "if_safer"}
    with (
        _writing(path, array, "GeoTIFF", "uint8, uint16, int16, int32, float32 or float64"),
        _no_place_is_fine(rasterio),
        rasterio.MemoryFile() as memory,
    ):
        with memory.open(driver="GTiff", **how) as file:
            file.write(array)
        content = bytes(memory.getbuffer())
    write_bytes(path, content, overwrite=overwrite)


def _raster_geometry(file: Any) -> dict[str, Any]:
    crs = file.crs.to_wkt() if file.crs else None
    return {"kind": "geotiff", "crs": crs, "transform": list(file.transform)[:6]}


def _gzipped(image: Any) -> bytes:
    import gzip

    return gzip.compress(image.to_bytes(), mtime=0)  # no time: equal content is equal bytes


def _nifti(path: Path) -> Any:
    nibabel = _needs("nibabel", "NIfTI")
    with _reading(path, "NIfTI"):
        image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Image):
        raise InputError(f"{path}: {type(image).__name__}, no NIfTI; convert it")
    _check_size(path, image.shape)
    stored = image.get_data_dtype()
    if stored.kind not in "iuf":
        raise InputError(f"{path}: holds {stored}; give a NIfTI file of real numbers")
    claimed, there = math.prod(image.shape) * stored.itemsize, path.stat().st_size
    packed = path.suffix == ".gz"
    if claimed > there * (DEFLATE_RATIO if packed else 1):
        what = f"claims {claimed} bytes of numbers, which {there} bytes cannot hold"
        raise InputError(f"{path}: {what}; it is truncated, restore it")
    return image


def _spatial(shape: tuple[int, ...]) -> tuple[int, ...]:
    """[Z, Y, X] or [..., Z, Y, X] of a file's (i, j, k, ...)."""
    if len(shape) == 5 and shape[3] == 1:
        shape = (*shape[:3], shape[4])
    return (*shape, *(1,) * (3 - len(shape)))[::-1]


def _raster(path: Path) -> Any:
    rasterio = _needs("rasterio", "GeoTIFF")
    with _reading(path, "TIFF"), _no_place_is_fine(rasterio):
        # one driver: others are told by the content, and some of them open further files
        file = rasterio.open(path, driver="GTiff")
    _check_size(path, (file.count, file.height, file.width))
    if file.count > MOST_BANDS:
        raise InputError(f"{path}: claims {file.count} bands; give at most {MOST_BANDS}")
    item = max(np.dtype(name).itemsize for name in file.dtypes)
    claimed, there = file.count * file.height * file.width * item, path.stat().st_size
    if claimed > there * RASTER_RATIO:
        what = f"claims {claimed} bytes of numbers, which {there} bytes cannot hold"
        raise InputError(f"{path}: {what}; it is damaged, restore it")
    return file


@contextlib.contextmanager
def _no_place_is_fine(rasterio: Any) -> Iterator[None]:
    """A raster without coordinates is one of pixels, no reason for a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        yield


@contextlib.contextmanager
def _writing(path: Path, array: np.ndarray, kind: str, types: str) -> Iterator[None]:
    """Turns a writer's refusal of an array into one that says which types there are."""
    try:
        yield
    except (InputError, StoreError, MemoryError):
        raise
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        what = f"{array.dtype.name} {list(array.shape)} is not kept by {kind} ({reason})"
        raise InputError(f"{path}: {what}; give {types}") from error


def _matrix(path: Path, numbers: Any, shape: tuple[int, ...]) -> np.ndarray:
    try:
        matrix = np.asarray(numbers, np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != shape or not np.isfinite(matrix).all():
        got = f"its geometry says {' '.join(repr(numbers).split()):.80}"
        raise InputError(f"{path}: {got}; give {list(shape)} finite numbers")
    return matrix


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
