"""The formats, each by the contract, read with libraries that are not ours."""

from __future__ import annotations

from typing import ClassVar

import nibabel
import numpy as np
import pytest
import rasterio
from PIL import Image

from fusion.errors import InputError, StoreError
from fusion.geometry import read_geotiff, read_nifti
from fusion.outputs import write
from tests.outputs.contract import OutputContract
from tests.outputs.simulated import AFFINE, FRAMES, RASTER, VOLUME, FakeEnsemble


class TestPng(OutputContract):
    kind = "png"

    def main_files(self, out, video):
        if (out / f"{video}.png").exists():
            return [out / f"{video}.png"]
        frames = FRAMES.get(video, ("0", "1"))
        return [out / video / f"{frame}.png" for frame in frames]

    def read(self, out, video, *, probabilities=False):
        found = []
        for file in self.main_files(out, video):
            with Image.open(file) as image:
                found.append(np.asarray(image))
        return np.stack(found)

    @pytest.mark.parametrize("number", [3, 8, 9, 16])
    def test_independent_channels(self, tmp_path, number):
        """Bit c of a pixel is channel c."""
        ensemble = self.ensemble(number=number, independent=True)
        self.write(ensemble, tmp_path)
        found = self.read(tmp_path, "case")
        assert found.dtype == (np.uint8 if number <= 8 else np.uint16)
        bits = np.stack([(found >> c) & 1 for c in range(number)], axis=1)
        assert np.array_equal(bits, self.expected(ensemble, "case"))
        assert found.max() < 1 << number

    def test_a_single_channel_is_a_mask(self, tmp_path):
        ensemble = self.ensemble(number=1, independent=True)
        self.write(ensemble, tmp_path)
        self.same(self.read(tmp_path, "case"), self.expected(ensemble, "case")[:, 0])

    def test_more_channels_than_bits(self, tmp_path):
        with pytest.raises(InputError, match=r"17 channels, a PNG has 16 bits; choose npy"):
            self.write(self.ensemble(number=17, independent=True), tmp_path)


def test_single_images_lie_flat(tmp_path):
    ensemble = FakeEnsemble()
    write(ensemble, tmp_path)
    assert (tmp_path / "image.png").is_file()
    assert sorted(path.name for path in (tmp_path / "case").iterdir()) == [
        "f1.png",
        "f10.png",
        "f2.png",
    ]
    with pytest.raises(InputError, match="unit 'case' has 3 frames, a flat folder has one"):
        write(ensemble, tmp_path / "flat", flat=True)
    named = FakeEnsemble(videos=("a", "b"), frames_of={"a": ("0",), "b": ("0",)})
    write(named, tmp_path / "flat", flat=True)
    assert sorted(path.name for path in (tmp_path / "flat").glob("*.png")) == ["a.png", "b.png"]
    write(named, tmp_path / "folders")
    assert (tmp_path / "folders" / "a" / "0.png").is_file()


def test_two_units_never_share_a_file(tmp_path):
    frames = {"a": ("a",), "a.png": ("x", "y")}
    ensemble = FakeEnsemble(videos=tuple(frames), frames_of=frames)
    with pytest.raises(InputError, match=r"a\.png would stand for two units"):
        write(ensemble, tmp_path)
    assert ensemble.worked == []


def test_folders_that_are_links_are_refused(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "case").symlink_to(tmp_path / "outside")
    for flags in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(StoreError, match="case: is a link; files are written"):
            write(FakeEnsemble(), tmp_path / "out", **flags)
    assert list((tmp_path / "outside").iterdir()) == []


def test_palettes(tmp_path):
    write(FakeEnsemble(), tmp_path, palette=[[1, 2, 3], [4, 5, 6]])
    with Image.open(tmp_path / "image.png") as image:
        assert image.getpalette()[:6] == [1, 2, 3, 4, 5, 6]


class TestNpy(OutputContract):
    kind = "npy"

    def main_files(self, out, video):
        return [out / f"{video}.npy"]

    def read(self, out, video, *, probabilities=False):
        return np.load(out / f"{video}.npy", allow_pickle=False)


class TestNifti(OutputContract):
    kind = "nifti"
    geometry: ClassVar = {"case": VOLUME}

    def main_files(self, out, video):
        return [out / f"{video}.nii.gz"]

    def read(self, out, video, *, probabilities=False):
        image = nibabel.load(out / f"{video}.nii.gz")
        affine = AFFINE if video == "case" else np.eye(4)
        assert np.allclose(image.affine, affine, atol=1e-5)
        found = np.asarray(image.dataobj)  # [x, y, z] or [x, y, z, c], which nibabel counts up
        placed = read_nifti(out / f"{video}.nii.gz")
        assert np.allclose(placed.geometry["affine"], affine, atol=1e-5)
        assert np.array_equal(placed.array, found.T)
        return np.moveaxis(found, (0, 1), (-1, -2))

    def test_a_slice_that_not_all_stores_have(self, tmp_path):
        ensemble = self.ensemble()
        ensemble.frames = lambda video: FRAMES[video][1:] if video == "case" else FRAMES[video]
        with pytest.raises(InputError, match=r"'case': 1 slices are not in every store.*complete"):
            self.write(ensemble, tmp_path)
        assert ensemble.worked == []


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
class TestGeoTiff(OutputContract):
    kind = "geotiff"
    geometry: ClassVar = {"image": RASTER}

    def main_files(self, out, video):
        if (out / f"{video}.tif").exists():
            return [out / f"{video}.tif"]
        return [out / video / f"{frame}.tif" for frame in FRAMES.get(video, ("0", "1"))]

    def read(self, out, video, *, probabilities=False):
        found = []
        for file in self.main_files(out, video):
            with rasterio.open(file) as raster:
                placed = video == "image"
                assert raster.crs == (rasterio.CRS.from_epsg(32633) if placed else None)
                identity = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
                transform = (*RASTER["transform"],) if placed else identity
                assert tuple(raster.transform)[:6] == transform
                bands = raster.read()
            back = read_geotiff(file)
            assert np.array_equal(back.array, bands)
            assert back.geometry["transform"] == list(transform)
            if len(bands) == 3 and not self.masks:
                bands = np.moveaxis(bands, 0, -1)
            found.append(bands[0] if len(bands) == 1 else bands)
        return np.stack(found)

    masks = False

    @pytest.mark.parametrize("number", [1, 3])
    def test_independent_channels(self, tmp_path, number):
        self.masks = True
        super().test_independent_channels(tmp_path, number)


@pytest.mark.parametrize(("kind", "place"), [("nifti", RASTER), ("geotiff", VOLUME)])
def test_a_place_that_the_format_would_lose(tmp_path, kind, place):
    ensemble = FakeEnsemble(geometry={"image": place})
    with pytest.raises(InputError, match=rf"unit 'image' was a .*, whose place {kind} files canno"):
        write(ensemble, tmp_path, kind)
    assert ensemble.worked == []
