"""Volumes and rasters: numbers and places as nibabel and rasterio say, and what is refused."""

from __future__ import annotations

import gzip
import warnings

import nibabel
import numpy as np
import pytest
import rasterio

from fusion import geometry
from fusion.errors import InputError, StoreError
from fusion.geometry import (
    geotiff_geometry,
    nifti_dtype,
    nifti_shape,
    raster_shape,
    read_geotiff,
    read_nifti,
    write_geotiff,
    write_nifti,
)

RNG = np.random.default_rng(3)
# voxels of 0.7 x 0.8 x 2.5 mm, turned by 30 degrees about z, and shifted
TURN = np.deg2rad(30)
AFFINE = np.array(
    [
        [0.7 * np.cos(TURN), -0.8 * np.sin(TURN), 0, -90],
        [0.7 * np.sin(TURN), 0.8 * np.cos(TURN), 0, -126.5],
        [0, 0, 2.5, -72],
        [0, 0, 0, 1],
    ]
)
UTM = rasterio.CRS.from_epsg(32633)
PLACE = rasterio.Affine(10.0, 0.0, 399960.0, 0.0, -10.0, 5700000.0)


def save_nifti(path, array, affine=AFFINE, **header):
    """`array` in NIfTI's own order."""
    image = nibabel.Nifti1Image(array, affine)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def save_raster(path, array, **where):
    count, height, width = array.shape
    shape = {"count": count, "height": height, "width": width, "dtype": array.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, **where) as file:
            file.write(array)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("stored", "read"),
    [
        ((6, 5, 4), (4, 5, 6)),
        ((6, 5, 4, 3), (3, 4, 5, 6)),
        ((6, 5), (1, 5, 6)),
        ((6, 5, 4, 1, 3), (3, 4, 5, 6)),  # ITK's vectors
    ],
)
def test_a_volume_is_read_as_nibabel_reads_it(tmp_path, suffix, stored, read):
    array = RNG.normal(size=stored).astype(np.float32)
    path = save_nifti(tmp_path / f"v{suffix}", array)
    found = read_nifti(path)
    assert found.array.shape == read == nifti_shape(path)
    assert found.array.dtype == nifti_dtype(path) == np.float32
    theirs = np.asarray(nibabel.load(path).dataobj)
    for index in np.ndindex(*read):
        inside = index[::-1][: theirs.ndim]
        if theirs.ndim == 5:
            inside = (*index[:0:-1], 0, index[0])
        assert found.array[index] == theirs[inside]
    assert np.allclose(found.geometry["affine"], AFFINE, atol=1e-5)
    # the header's own spacing, in the order of the array
    zooms = nibabel.load(path).header.get_zooms()[:3]
    assert np.allclose(found.geometry["spacing"], [2.5, 0.8, 0.7], atol=1e-5)
    assert len(stored) < 3 or np.allclose(found.geometry["spacing"], zooms[::-1], atol=1e-5)


def test_scaled_integers_come_as_the_numbers_they_stand_for(tmp_path):
    codes = RNG.integers(0, 255, (3, 4, 5)).astype(np.uint8)
    image = nibabel.Nifti1Image(codes, AFFINE)
    image.header.set_slope_inter(1 / 255, 0)
    nibabel.save(image, tmp_path / "p.nii.gz")
    assert nifti_dtype(tmp_path / "p.nii.gz").kind == "f"
    theirs = nibabel.load(tmp_path / "p.nii.gz").get_fdata()
    assert np.array_equal(read_nifti(tmp_path / "p.nii.gz").array, theirs.T)
    save_nifti(tmp_path / "i.nii.gz", codes)
    assert nifti_dtype(tmp_path / "i.nii.gz") == read_nifti(tmp_path / "i.nii.gz").array.dtype
    assert nifti_dtype(tmp_path / "i.nii.gz") == np.uint8


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("shape", [(4, 5, 6), (3, 4, 5, 6)])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_a_volume_comes_back_where_it_was(tmp_path, suffix, shape, dtype):
    array, path = RNG.integers(0, 99, shape).astype(dtype), tmp_path / f"v{suffix}"
    write_nifti(path, array, {"kind": "nifti", "affine": AFFINE.tolist()})
    theirs = nibabel.load(path)
    assert np.array_equal(np.asarray(theirs.dataobj), array.T)
    for form in (theirs.affine, theirs.get_qform(), theirs.get_sform()):
        assert np.allclose(form, AFFINE, atol=1e-4)
    assert theirs.header.get_xyzt_units()[0] == "mm"
    again = read_nifti(path)
    assert again.array.tobytes() == array.tobytes()
    before = path.read_bytes()
    write_nifti(path, array, {"affine": AFFINE.tolist()}, overwrite=True)
    assert path.read_bytes() == before
    with pytest.raises(StoreError, match=r"v.nii.*exists"):
        write_nifti(path, array, None)


def test_shear_is_kept_by_the_form_that_can_say_it(tmp_path):
    sheared = AFFINE.copy()
    sheared[0, 2] = 1.5
    write_nifti(tmp_path / "v.nii.gz", np.zeros((2, 3, 4), np.uint8), {"affine": sheared})
    theirs = nibabel.load(tmp_path / "v.nii.gz")
    assert np.allclose(theirs.affine, sheared, atol=1e-5)
    assert theirs.get_qform(coded=True)[1] == 0


def test_a_volume_of_nowhere_has_the_identity(tmp_path):
    write_nifti(tmp_path / "v.nii", np.zeros((2, 3, 4), np.uint8), None)
    assert np.array_equal(nibabel.load(tmp_path / "v.nii").affine, np.eye(4))


@pytest.mark.parametrize("dtype", ["bool", "float16", "int64", "U3", "object"])
def test_a_type_that_a_file_cannot_keep(tmp_path, dtype):
    with pytest.raises(InputError, match=r"v.nii: .* is not kept by NIfTI .*; give uint8"):
        write_nifti(tmp_path / "v.nii", np.ones((2, 3, 4)).astype(dtype), None)
    if dtype != "int64":
        with pytest.raises(InputError, match=r"v.tif: .* is not kept by GeoTIFF .*; give uint8"):
            write_geotiff(tmp_path / "v.tif", np.ones((2, 3, 4)).astype(dtype), None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "affine", [np.eye(3), np.full((4, 4), np.nan), [[1], [2, 3]], "somewhere", None, {}]
)
def test_a_place_that_is_none(tmp_path, affine):
    with pytest.raises(InputError, match=r"v.nii: its geometry says .*; give \[4, 4\] finite"):
        write_nifti(tmp_path / "v.nii", np.zeros((1, 2, 2), np.uint8), {"affine": affine})
    with pytest.raises(InputError, match=r"v.tif: its geometry says .*; give \[6\] finite"):
        write_geotiff(tmp_path / "v.tif", np.zeros((1, 2, 2), np.uint8), {"transform": affine})


def header(path, **facts):
    """A NIfTI file with a header that says something else."""
    save_nifti(path, np.zeros((4, 5, 6), np.float32))
    head = nibabel.load(path).header.copy()
    for name, value in facts.items():
        head[name] = value
    data = path.read_bytes() if path.suffix == ".nii" else gzip.decompress(path.read_bytes())
    data = head.binaryblock + data[348:]
    path.write_bytes(data if path.suffix == ".nii" else gzip.compress(data))
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_what_is_no_volume_is_refused_by_name(tmp_path, suffix, monkeypatch):
    whole = save_nifti(tmp_path / f"whole{suffix}", RNG.normal(size=(9, 9, 9))).read_bytes()
    for content in (b"", b"hello", whole[:-300], whole[: len(whole) // 2], whole[:100]):
        (tmp_path / f"v{suffix}").write_bytes(content)
        with pytest.raises(InputError, match=rf"v{suffix}: .*; .*restore it") as caught:
            read_nifti(tmp_path / f"v{suffix}")
        assert "\n" not in str(caught.value)
    for facts in (
        {"dim": [3, 32000, 32000, 32000, 1, 1, 1, 1]},
        {"dim": [3, 3000, 3000, 300, 1, 1, 1, 1]},
        {"dim": [3, 0, 5, 6, 1, 1, 1, 1]},
    ):
        path = header(tmp_path / f"h{suffix}", **facts)
        for look in (read_nifti, nifti_shape, nifti_dtype):
            with pytest.raises(InputError, match=rf"h{suffix}: claims .*"):
                look(path)
    path = header(tmp_path / f"n{suffix}", srow_x=[np.nan] * 4, sform_code=1)
    with pytest.raises(InputError, match=rf"n{suffix}: its affine holds NaN"):
        read_nifti(path)
    with pytest.raises(StoreError, match="no such file; give a NIfTI file"):
        read_nifti(tmp_path / f"missing{suffix}")
    colours = np.zeros((2, 2, 2), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(InputError, match=r"c.nii.*real numbers"):
        read_nifti(save_nifti(tmp_path / f"c{suffix}", colours))
    monkeypatch.setattr(geometry, "MOST_NUMBERS", 9**3 - 1)
    with pytest.raises(InputError, match="at most 728"):
        nifti_shape(tmp_path / f"whole{suffix}")


@pytest.mark.parametrize("where", [{}, {"crs": UTM, "transform": PLACE}])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_a_raster_comes_back_where_it_was(tmp_path, where, dtype):
    array = RNG.integers(0, 99, (3, 5, 6)).astype(dtype)
    path = save_raster(tmp_path / "theirs.tif", array, **where)
    found = read_geotiff(path)
    assert np.array_equal(found.array, array)
    assert found.array.dtype == dtype
    assert raster_shape(path) == (3, 5, 6)
    assert geotiff_geometry(path) == found.geometry
    place = PLACE if where else rasterio.Affine.identity()
    assert found.geometry["transform"] == list(place)[:6]
    assert (found.geometry["crs"] is None) == (not where)
    write_geotiff(tmp_path / "ours.tif", array, found.geometry)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(tmp_path / "ours.tif") as file:
            assert np.array_equal(file.read(), array)
            assert file.transform == place
            assert file.crs == where.get("crs")
    with pytest.raises(StoreError, match=r"ours.tif.*exists"):
        write_geotiff(tmp_path / "ours.tif", array, None)


def test_what_is_no_raster_is_refused_by_name(tmp_path, monkeypatch):
    whole = save_raster(tmp_path / "whole.tif", RNG.normal(size=(2, 64, 64))).read_bytes()
    outside = save_raster(tmp_path / "outside.tif", np.ones((1, 2, 2), np.uint8))
    elsewhere = f"""<VRTDataset rasterXSize="2" rasterYSize="2"><VRTRasterBand dataType="Byte"
        band="1"><SimpleSource><SourceFilename>{outside}</SourceFilename></SimpleSource>
        </VRTRasterBand></VRTDataset>"""
    for content in (b"", b"hello", whole[:-9000], whole[:100], elsewhere.encode()):
        (tmp_path / "v.tif").write_bytes(content)
        with pytest.raises(InputError, match=r"v.tif: not a readable TIFF file .*; restore it"):
            read_geotiff(tmp_path / "v.tif")
    with pytest.raises(StoreError, match="no such file; give a TIFF file"):
        read_geotiff(tmp_path / "missing.tif")
    for shape in ((2, 2), (0, 2, 2)):
        with pytest.raises(InputError, match=r"give a raster \[B, H, W\]"):
            write_geotiff(tmp_path / "new.tif", np.zeros(shape, np.uint8), None)
    monkeypatch.setattr(geometry, "MOST_NUMBERS", 8191)
    with pytest.raises(InputError, match=r"claims \[2, 64, 64\] numbers; give at most 8191"):
        raster_shape(tmp_path / "whole.tif")


@pytest.mark.parametrize(("module", "look"), [("nibabel", read_nifti), ("rasterio", read_geotiff)])
def test_a_library_that_is_missing(tmp_path, module, look, monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(geometry.importlib, "import_module", missing)
    with pytest.raises(InputError, match=f"pip install {module}"):
        look(tmp_path / "v")
