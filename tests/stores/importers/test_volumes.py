"""NIfTI, MONAI's SaveImage and GeoTIFF: written by nibabel, MONAI and rasterio themselves."""

from __future__ import annotations

import warnings
from typing import ClassVar

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.geometry import read_nifti
from fusion.stores import GapCodec, LogitStore
from fusion.stores.importers import choose, import_folder
from fusion.stores.importers.geotiff import GeoTiff
from fusion.stores.importers.monai import Monai
from fusion.stores.importers.nifti import Nifti
from tests.stores.common import run
from tests.stores.contract import ImporterContract
from tests.test_geometry import AFFINE, PLACE, UTM, save_nifti, save_raster

RNG = np.random.default_rng(9)
SLICES = ("00000", "00001", "00002")


def place_of_affine():
    spacing = pytest.approx([2.5, 0.8, 0.7], abs=1e-5)
    return {"kind": "nifti", "affine": pytest.approx(AFFINE, abs=1e-4), "spacing": spacing}


def volume(clip) -> np.ndarray:
    """[X, Y, Z, C] of slices {frame: [C, Y, X]}."""
    return np.stack(list(clip.values()), axis=1).T


class TestNifti(ImporterContract):
    importer = Nifti
    frames: ClassVar = SLICES
    suffix = ".nii.gz"

    def save(self, folder, clips):
        for video, clip in clips.items():
            save_nifti(folder / f"{video}{self.suffix}", volume(clip))
        return folder

    def damage(self, folder, video):
        path = folder / f"{video}{self.suffix}"
        path.write_bytes(path.read_bytes()[:-100])

    def place(self, video):
        return place_of_affine()


class TestPlainNifti(TestNifti):
    suffix = ".nii"


def monai_image(clip, name):
    """MONAI's own tensor of slices {frame: [C, Y, X]}, as one read with nibabel would be."""
    from monai.data import MetaTensor

    array = np.stack(list(clip.values()), axis=1).transpose(0, 3, 2, 1)  # [C, X, Y, Z]
    return MetaTensor(array.copy(), affine=AFFINE, meta={"filename_or_obj": f"/data/{name}.nii.gz"})


class TestMonai(ImporterContract):
    """One folder a case, which is SaveImage's default."""

    importer = Monai
    frames: ClassVar = SLICES
    how: ClassVar[dict] = {}

    def save(self, folder, clips):
        from monai.transforms import SaveImage

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MONAI's own deprecations
            save = SaveImage(output_dir=folder, resample=False, print_log=False, **self.how)
            for video, clip in clips.items():
                save(monai_image(clip, video))
        return folder

    def damage(self, folder, video):
        path = next((folder / video).iterdir())
        path.write_bytes(path.read_bytes()[:-100])

    def place(self, video):
        return place_of_affine()


class TestMonaiInOneFolder(TestMonai):
    how: ClassVar = {"separate_folder": False, "output_postfix": "seg", "output_ext": ".nii"}

    def damage(self, folder, video):
        (folder / f"{video}_seg.nii").write_bytes(b"")


class TestMonaiWithItsOwnPostfix(TestMonai):
    how: ClassVar = {"output_postfix": "softmax", "squeeze_end_dims": False}
    options: ClassVar = {"postfix": "softmax"}


class TestMonaisPictures(TestMonai):
    """Z is 1."""

    frames: ClassVar = ("00000",)


def test_monais_files_are_nibabels_and_arrays_go_either_way(tmp_path, places):
    """[C, X, Y, Z], which MONAI computes with, and [X, Y, Z, C], which it saves."""
    clip = {frame: RNG.normal(0, 3, (4, 5, 6)).astype(np.float32) for frame in SLICES}
    source, expected = tmp_path / "source", GapCodec().encode(np.stack(list(clip.values())))
    for n, array in enumerate((volume(clip), np.moveaxis(volume(clip), -1, 0))):
        (source / "case").mkdir(parents=True, exist_ok=True)
        np.savez(source / "case" / "case_trans.npz", array)
        import_folder(source, tmp_path / f"{n}.zarr", 4)
        assert np.array_equal(LogitStore(tmp_path / f"{n}.zarr").codes("case"), expected)
    for shape in ((4, 5, 6, 4), (5, 6, 7)):
        np.savez(source / "case" / "case_trans.npz", np.zeros(shape, np.float32))
        with pytest.raises(InputError, match=r"case_trans.npz: shape .*kind=arrays"):
            import_folder(source, tmp_path / "t.zarr", 4)


def test_two_files_of_a_case_are_not_chosen_between(tmp_path, places):
    for postfix, scale in (("trans", 1), ("seg", 2)):
        save_nifti(
            tmp_path / f"c_{postfix}.nii.gz", np.float32(RNG.normal(size=(5, 4, 3, 2)) * scale)
        )
    with pytest.raises(InputError, match=r"'c' is there twice \(c_seg.nii.gz and c_trans.nii.gz\)"):
        choose(tmp_path).videos(tmp_path)
    importer = choose(tmp_path, postfix="seg")
    assert [s.files[0].name for s in importer.videos(tmp_path)] == ["c_seg.nii.gz"]


def test_a_volume_without_classes_is_one_class(tmp_path, places):
    array = RNG.uniform(0.1, 0.9, (6, 5, 3)).astype(np.float32)
    save_nifti(tmp_path / "a.nii.gz", array)
    how = {"values": "sigmoid-probabilities", "profile": "exact"}
    import_folder(tmp_path / "a.nii.gz", tmp_path / "s.zarr", ["lesion"], **how)
    logits = np.log(array / (1 - array)).T[:, None].astype(np.float16)
    assert np.allclose(LogitStore(tmp_path / "s.zarr").codes("a"), logits, atol=2e-3)
    with pytest.raises(InputError, match=r"one class, of which a softmax is 1 everywhere; say"):
        import_folder(tmp_path / "a.nii.gz", tmp_path / "t.zarr", 1)
    with pytest.raises(InputError, match=r"shape \[6, 5, 3, 1\].*kind=label_maps"):
        import_folder(tmp_path / "a.nii.gz", tmp_path / "t.zarr", 4)


def test_the_classes_are_last_in_nifti(tmp_path, places):
    save_nifti(tmp_path / "a.nii.gz", RNG.normal(size=(4, 6, 5, 3)).astype(np.float32))
    with pytest.raises(
        InputError, match=r"shape \[4, 6, 5, 3\], expected \[X, Y, Z, C\] .*put the"
    ):
        import_folder(tmp_path, tmp_path / "s.zarr", 4)
    save_nifti(tmp_path / "a.nii.gz", np.zeros((6, 5, 3, 4), np.int16))
    with pytest.raises(InputError, match=r"a.nii.gz: holds int16.*kind=label_maps"):
        import_folder(tmp_path, tmp_path / "s.zarr", 4, kind="nifti")


class TestGeoTiff(ImporterContract):
    """Frames of one place."""

    importer = GeoTiff

    def save(self, folder, clips):
        for video, clip in clips.items():
            (folder / video).mkdir()
            for frame, array in clip.items():
                save_raster(folder / video / f"{frame}.tif", array, crs=UTM, transform=PLACE)
        return folder

    def damage(self, folder, video):
        (folder / video / "f9.tif").write_bytes(b"hello")

    def place(self, video):
        place = {"kind": "geotiff", "crs": UTM.to_wkt(), "transform": list(PLACE)[:6]}
        return place


class TestFlatGeoTiff(TestGeoTiff):
    """Images, one of another place each."""

    images = True
    frames: ClassVar = ("00000",)

    def save(self, folder, clips):
        for n, (video, clip) in enumerate(clips.items()):
            where = PLACE @ PLACE.translation(n, 0)
            save_raster(folder / f"{video}.TIF", clip["00000"], crs=UTM, transform=where)
        return folder

    def damage(self, folder, video):
        (folder / f"{video}.TIF").write_bytes(b"hello")

    def place(self, video):
        where = PLACE @ PLACE.translation(self.videos.index(video), 0)
        return {**super().place(video), "transform": list(where)[:6]}


def test_rasters_of_several_places_are_no_video(tmp_path, places):
    for n in range(2):
        where = PLACE @ PLACE.translation(n, 0)
        (tmp_path / "source/v").mkdir(parents=True, exist_ok=True)
        array = RNG.normal(size=(4, 5, 6)).astype(np.float32)
        save_raster(tmp_path / f"source/v/{n}.tif", array, crs=UTM, transform=where)
    with pytest.raises(InputError, match=r"1.tif: lies elsewhere than 0.tif; give images of"):
        import_folder(tmp_path / "source", tmp_path / "s.zarr", 4)
    save_raster(tmp_path / "source/v/0.tif", np.zeros((4, 5, 6), np.uint8))
    with pytest.raises(InputError, match=r"0.tif: holds uint8, no probabilities; give floats"):
        import_folder(tmp_path / "source", tmp_path / "t.zarr", 4)


def test_the_command_says_what_it_recognised(tmp_path, capsys, places):
    (tmp_path / "source").mkdir()
    save_nifti(tmp_path / "source/a.nii.gz", RNG.normal(size=(6, 5, 3, 4)).astype(np.float32))
    code, out, err = run(
        capsys, "import", tmp_path / "source", tmp_path / "s", "--classes", 4, "--dry-run"
    )
    assert code == 0
    assert err == f"{tmp_path}/source: NIfTI volumes, 1 videos, 4 classes, logits (assumed)\n"
    place = read_nifti(tmp_path / "source/a.nii.gz").geometry
    assert "a: 3 frames (00000, 00001, 00002) of 4x5x6 for images of 5x6, logits, geometry {" in out
    assert f'"spacing": {place["spacing"]}' in out
    assert out.endswith("nothing was written\n")
    assert not (tmp_path / "s").exists()
