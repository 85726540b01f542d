"""The layouts of files with many frames, or of other libraries, each written with its library."""

from __future__ import annotations

import json
import pickle
import warnings

import nibabel
import numpy as np
import pytest
import rasterio
import zarr
from PIL import Image

from fusion.errors import InputError, StoreError
from fusion.labels import Labels, write_labels
from fusion.labels.layouts import base
from tests.labels.contract import LayoutContract, SingleImages, maps

SLICES = ["00000", "00001", "00002"]


def save_nifti(path, volume, affine=None):
    """[Z, Y, X] as nibabel stores it: the axes the other way round."""
    affine = np.eye(4) if affine is None else affine
    nibabel.save(nibabel.Nifti1Image(volume.T, affine), path)


def save_raster(path, bands, **facts):
    shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2]}
    facts.setdefault("transform", rasterio.Affine(2, 0, 100, 0, -2, 900))
    with rasterio.open(path, "w", driver="GTiff", dtype=bands.dtype, **shape, **facts) as file:
        file.write(bands)


class TestNifti(LayoutContract):
    layout = "nifti"
    frames = SLICES

    def write(self, root, data):
        for unit, frames in data.items():
            save_nifti(root / f"{unit}.nii.gz", np.stack([*frames.values()]))
        return root


class TestNiftiOfFloats(TestNifti):
    def write(self, root, data):
        for unit, frames in data.items():
            save_nifti(root / f"{unit}.nii", np.stack([*frames.values()]).astype(np.float32))
        return root


class TestNnUNet(TestNifti):
    layout = "nnunet"
    class_map = "own"

    def write(self, root, data):
        (root / "labelsTr").mkdir(exist_ok=True)
        names = {"background": 0, **{f"organ {c}": c for c in range(1, 11)}, "ignore": 255}
        document = {"channel_names": {"0": "CT"}, "labels": names, "file_ending": ".nii.gz"}
        (root / "dataset.json").write_text(json.dumps(document))
        super().write(root / "labelsTr", data)
        return root

    def allowed(self, classes):
        return f"0..{classes - 1} (255 is void)"


class TestGeoTiff(SingleImages):
    layout = "geotiff"

    def write(self, root, data):
        for unit, frames in data.items():
            save_raster(root / f"{unit}.tif", frames[unit][None], crs="EPSG:32632")
        return root


class TestZarrGroup(LayoutContract):
    layout = "zarr"

    def write(self, root, data):
        group = zarr.open_group(root / "labels.zarr", mode="w")
        for unit, frames in data.items():
            group.create_array(unit, data=np.stack([*frames.values()]), chunks=(2, 6, 9))
        group.attrs["frames"] = {unit: list(frames) for unit, frames in data.items()}
        return root / "labels.zarr"


class TestZarrArray(SingleImages):
    layout = "zarr"

    def write(self, root, data):
        stacked = np.stack([frames[unit] for unit, frames in data.items()])
        array = zarr.create_array(root / "a.zarr", data=stacked, zarr_format=2, overwrite=True)
        array.attrs["units"] = list(data)
        return root / "a.zarr"


class TestCoco(SingleImages):
    layout = "coco"
    class_map = "own"
    # by hand: the categories' ids in the order of the JSON
    categories = (7, 1, 90, 92, 200, 13, 14, 15, 16, 17, 18)

    def stored(self, ids):
        table = np.full(256, 65535, np.uint16)
        table[:11] = self.categories
        return table[ids]

    def write(self, root, data):
        (root / "panoptic_val").mkdir(exist_ok=True)
        annotations = []
        for image, (unit, frames) in enumerate(data.items()):
            ids = frames[unit].astype(np.uint32)
            segment = np.where(ids == 255, 0, 70_000 * (image + 1) + 300 * ids)
            colours = np.stack([segment >> shift & 255 for shift in (0, 8, 16)], axis=-1)
            Image.fromarray(colours.astype(np.uint8)).save(root / "panoptic_val" / f"{unit}.png")
            segments = [
                {"id": int(segment[ids == c][0]), "category_id": self.categories[c], "iscrowd": 0}
                for c in np.unique(ids[ids != 255]).tolist()
            ]
            found = {"image_id": image, "file_name": f"{unit}.png", "segments_info": segments}
            annotations.append(found)
        names = [{"id": i, "name": f"thing {i}", "isthing": 1} for i in self.categories]
        document = {"images": [], "annotations": annotations, "categories": names}
        (root / "panoptic_val.json").write_text(json.dumps(document))
        return root / "panoptic_val.json"

    def allowed(self, classes):
        return f"{', '.join(map(str, self.categories[:classes]))} (65535 is void)"


class TestArrays(LayoutContract):
    layout = "arrays"
    recognised, in_memory = False, True

    def write(self, root, data):
        type(self).held = data
        return root

    def open(self, root, **options):
        units = {unit: np.stack([*frames.values()]) for unit, frames in self.held.items()}
        frames = {unit: list(frames) for unit, frames in self.held.items()}
        return Labels.from_arrays(units, frames=frames, **options)

    def test_what_is_not_there(self, root):
        with pytest.raises(InputError, match="has no frame 'f3'"):
            self.open(root).read("clip_2", "f3")
        with pytest.raises(InputError, match="got no unit"):
            Labels.from_arrays({})


def test_arrays_of_every_shape():
    ids = np.arange(12).reshape(3, 4)
    assert Labels.from_arrays({"a": ids}).frames("a") == ["a"]
    assert Labels.from_arrays({"a": ids[None]}).frames("a") == ["00000"]
    assert Labels.from_arrays({"a": ids}).read("a", "a", classes=12).tolist() == ids.tolist()
    clip = np.zeros((2, 5, 3, 4), bool)
    clip[1, 4] = True
    labels = Labels.from_arrays({"clip": clip, "image": clip[1]})
    assert (labels.frames("clip"), labels.frames("image")) == (["00000", "00001"], ["image"])
    for unit, frame in (("clip", "00001"), ("image", "image")):
        assert np.array_equal(labels.channels(unit, frame, 5), clip[1])
        assert labels.size(unit) == (3, 4)
        with pytest.raises(InputError, match="holds 5 channels, not one class a pixel"):
            labels.read(unit, frame)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
def test_negative_ids_are_no_labels(dtype):
    """-1 as uint8 is 255, which would be void without a word."""
    array = np.array([[-1, 0, 1]], dtype)
    for known in (None, {"classes": {"a": 0, "b": 1}}):
        labels = Labels.from_arrays({"a": array}, class_map=known)
        with pytest.raises(InputError, match="holds -1 outside 0"):
            labels.read("a", "a", classes=2)
        void = Labels.from_arrays({"a": array}, class_map=known, stray="void")
        assert void.read("a", "a", classes=2).tolist() == [[255, 0, 1]]
        assert void.strays("a", "a", 2) == {-1: 1}
    with pytest.raises(InputError, match="holds -1 outside 0, 1 and 255"):
        Labels.from_arrays({"a": array}).channels("a", "a", 1)


@pytest.mark.parametrize(
    ("array", "frames", "message"),
    [
        (np.zeros((2, 3)), None, "unit 'a' holds float64 numbers"),
        (np.zeros((2,), int), None, r"unit 'a' is \[2\]"),
        (np.zeros((0, 3), int), None, r"is \[0, 3\], without a pixel"),
        (np.zeros((2, 2, 3), int), ["x"], "2 frames, 1 ids"),
        (np.zeros((2, 2, 3), int), ["x", "x"], "2 ids, 1 different"),
        (np.array([["x"]]), None, "give a dict of str to arrays of numbers"),
    ],
)
def test_arrays_that_are_no_labels(array, frames, message):
    with pytest.raises(InputError, match=message):
        Labels.from_arrays({"a": array}, frames=frames and {"a": frames})
    with pytest.raises(InputError, match="frames of 'b', which has no array"):
        Labels.from_arrays({"a": np.zeros((2, 3), int)}, frames={"b": ["x"]})


def test_the_place_of_volumes_and_rasters(tmp_path):
    affine = np.diag([0.5, 0.75, 3, 1])
    save_nifti(tmp_path / "n.nii.gz", np.zeros((2, 3, 4), np.uint8), affine)
    found = Labels.open("nifti", tmp_path).geometry("n")
    assert found["affine"] == affine.tolist()
    assert found["spacing"] == [3, 0.75, 0.5]
    save_raster(tmp_path / "r.tif", np.zeros((1, 3, 4), np.uint8), crs="EPSG:32632")
    assert Labels.open("geotiff", tmp_path).geometry("r")["transform"] == [2, 0, 100, 0, -2, 900]
    assert Labels.from_arrays({"a": np.zeros((2, 3), int)}).geometry("a") is None


def test_masks_that_have_no_place_are_read_in_silence(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save_raster(tmp_path / "r.tif", maps()[None], transform=rasterio.Affine.identity())
    assert np.array_equal(Labels.open("auto", tmp_path).read("r", "r"), maps())


def test_volumes_that_are_no_labels(tmp_path):
    half = np.full((2, 3, 4), 0.5, np.float32)
    save_nifti(tmp_path / "a.nii.gz", half)
    with pytest.raises(StoreError, match=r"a\.nii\.gz holds 0\.5, which is no whole number"):
        Labels.open("nifti", tmp_path).read("a", "00000")
    save_nifti(tmp_path / "a.nii.gz", half * np.nan)
    with pytest.raises(StoreError, match="that are no ids"):
        Labels.open("nifti", tmp_path).read("a", "00000")
    save_nifti(tmp_path / "a.nii", np.zeros((2, 3, 4), np.uint8))
    with pytest.raises(StoreError, match=r"a\.nii and .*a\.nii\.gz are both of unit 'a'"):
        Labels.open("nifti", tmp_path)
    save_raster(tmp_path / "r.tif", half[:1])
    with pytest.raises(StoreError, match=r"r\.tif holds float32 numbers"):
        Labels.open("geotiff", tmp_path).read("r", "r")


def test_a_volume_that_is_written_again_is_read_again(tmp_path):
    save_nifti(tmp_path / "a.nii.gz", np.zeros((2, 3, 4), np.uint8))
    labels = Labels.open("nifti", tmp_path)
    assert labels.read("a", "00001").sum() == 0
    save_nifti(tmp_path / "a.nii.gz", np.ones((4, 3, 4), np.uint8))
    assert labels.read("a", "00003").sum() == 12


def nnunet(root, labels, **more):
    document = {"labels": labels, "file_ending": ".png", **more}
    (root / "dataset.json").write_text(json.dumps(document))
    return Labels.open("nnunet", root)


def test_nnunet_pictures_and_regions(tmp_path):
    write_labels(tmp_path / "labelsTr" / "case.png", np.array([[0, 1, 2, 3, 4]], np.uint8))
    plain = nnunet(tmp_path, {"background": 0, "b": 2, "a": 1, "c": 3, "ignore": 4})
    assert plain.names == ("background", "a", "b", "c")
    assert plain.read("case", "case").tolist() == [[0, 1, 2, 3, 255]]
    regions = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "active": 3, "ignore": 4}
    labels = nnunet(tmp_path, regions, regions_class_order=[1, 2, 3])
    assert labels.names == ("whole", "core", "active")
    made = labels.channels("case", "case", labels.names)
    assert made.tolist() == [[[0, 1, 1, 1, 255]], [[0, 0, 1, 1, 255]], [[0, 0, 0, 1, 255]]]
    back = labels.class_map.stored(np.where(made == 255, 0, made))
    assert back.tolist() == [[0, 1, 2, 3, 0]]
    with pytest.raises(InputError, match="regions overlap; read channels"):
        labels.read("case", "case")
    first = nnunet(tmp_path, {"0": "background", "1": "a", "2": "b", "3": "c", "4": "d"})
    assert first.names == ("background", "a", "b", "c", "d")
    inside = Labels.open("auto", tmp_path / "labelsTr")
    assert (inside.layout, inside.names) == ("nnunet", first.names)
    other = Labels.open("flat", tmp_path / "labelsTr", class_map="nnunet")
    assert other.class_map == first.class_map
    with pytest.raises(InputError, match=r"file_ending is '\.mha', which has no reader"):
        nnunet(tmp_path, {"background": 0}, file_ending=".mha")
    with pytest.raises(InputError, match='got no "labels"'):
        nnunet(tmp_path, {})
    nnunet(tmp_path, {"background": 0, "a": 1})
    with pytest.raises(StoreError, match="has splits Tr and Ts, got 'val'"):
        Labels.open("nnunet", tmp_path, "val")


def test_coco_segments_without_an_entry(tmp_path):
    root = TestCoco().write(tmp_path, TestCoco().data())
    document = json.loads(root.read_text())
    del document["annotations"][0]["segments_info"][0]
    root.write_text(json.dumps(document))
    with pytest.raises(StoreError, match=r"a_2\.png holds segments that panoptic_val\.json lacks"):
        Labels.open("coco", root).read("a_2", "a_2")
    assert Labels.open("auto", tmp_path).layout == "coco"
    for name in ("../a_2.png", "a_2.jpg"):
        document["annotations"][0]["file_name"] = name
        root.write_text(json.dumps(document))
        with pytest.raises(InputError, match="is no name of a PNG"):
            Labels.open("coco", root)
    root.write_text('{"annotations": [{}], "categories": []}')
    with pytest.raises(InputError, match="no panoptic annotations"):
        Labels.open("coco", root)


def test_zarr_of_other_things(tmp_path):
    group = zarr.open_group(tmp_path / "g", mode="w")
    group.create_array("scores", data=np.zeros((2, 3, 4), np.float32))
    group.create_array("one", data=maps())
    labels = Labels.open("zarr", tmp_path / "g")
    assert np.array_equal(labels.read("one", "one"), maps())
    with pytest.raises(StoreError, match="scores holds float32 numbers"):
        labels.read("scores", "00000")
    array = zarr.create_array(tmp_path / "a", data=np.zeros((2, 3, 4), np.uint8))
    array.attrs["units"] = ["x", "x"]
    with pytest.raises(StoreError, match="2 ids, 1 different"):
        Labels.open("zarr", tmp_path / "a")
    group.attrs["frames"] = 7
    with pytest.raises(StoreError, match="cannot be read as Zarr"):
        Labels.open("zarr", tmp_path / "g")
    array.attrs["units"] = 7
    with pytest.raises(StoreError, match="cannot be read as Zarr"):
        Labels.open("zarr", tmp_path / "a")
    zarr.open_group(tmp_path / "e", mode="w")
    with pytest.raises(StoreError, match="has no array"):
        Labels.open("zarr", tmp_path / "e")
    (tmp_path / "a" / "zarr.json").write_text("not JSON")
    with pytest.raises(StoreError, match="cannot be read as Zarr"):
        Labels.open("zarr", tmp_path / "a")


def test_zarr_channels(tmp_path):
    clip = np.random.default_rng(0).integers(0, 2, (2, 5, 7, 8)).astype(np.uint8)
    group = zarr.open_group(tmp_path / "g", mode="w")
    group.create_array("a", data=clip)
    group.create_array("b", data=np.moveaxis(clip, 1, -1))
    labels = Labels.open("zarr", tmp_path / "g")
    for unit in "ab":
        assert labels.size(unit) == (7, 8)
        assert np.array_equal(labels.channels(unit, "00001", 5), clip[1])


def test_other_processes_open_a_data_set_once(tmp_path):
    for unit in "abc":
        write_labels(tmp_path / f"{unit}.png", maps())
    labels = Labels.open("flat", tmp_path)
    base._again.cache_clear()
    for _ in range(5):
        pickle.loads(pickle.dumps(labels))
    assert base._again.cache_info().misses == 1
