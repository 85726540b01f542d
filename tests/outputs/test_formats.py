"""The formats, each by the contract, read with libraries that are not ours."""

from __future__ import annotations

import json
import pickle
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
        with pytest.raises(StoreError, match="case: is a link; outputs are written"):
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


class TestNnUnet(OutputContract):
    kind = "nnunet"
    geometry: ClassVar = {"case": VOLUME}

    def write(self, ensemble, out, **options):
        if "stored" in options:
            known = {"labels": {"background": 0, "car": 700}, "file_ending": ".nii.gz"}
            options["dataset_json"] = out.parent / "their.json"
            options["dataset_json"].write_text(json.dumps(known))
        return super().write(ensemble, out, **options)

    def main_files(self, out, video):
        return [out / f"{video}.nii.gz"]

    def read(self, out, video, *, probabilities=False):
        if probabilities:
            with np.load(out / f"{video}.npz", allow_pickle=False) as found:
                assert found.files == ["probabilities"]
                return np.moveaxis(found["probabilities"], 1, 0)
        image = nibabel.load(out / f"{video}.nii.gz")
        assert np.allclose(image.affine, AFFINE if video == "case" else np.eye(4), atol=1e-5)
        return np.asarray(image.dataobj).T


def labels_of(probabilities, dataset):
    """What nnU-Net's LabelManager makes of probabilities [C, ...], by its dataset.json."""
    if "regions_class_order" not in dataset:
        assert sorted(dataset["labels"].values()) == list(range(len(probabilities)))
        return probabilities.argmax(axis=0)
    labels = np.zeros(probabilities.shape[1:], int)
    for mask, label in zip(probabilities > 0.5, dataset["regions_class_order"], strict=True):
        labels[mask] = label
    return labels


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("independent", [False, True])
def test_nnunet_decides_alike(tmp_path, number, independent):
    ensemble = FakeEnsemble(number=number, independent=independent, geometry={"case": VOLUME})
    regions = independent and number > 1
    ids = {"compose": {"class 0": 3, "class 1": 1, "class 2": 2}} if regions else {}
    write(ensemble, tmp_path, "nnunet", probabilities=True, **ids)
    dataset = json.loads((tmp_path / "dataset.json").read_text())
    assert dataset["labels"]["background"] == 0
    for case in ensemble.videos:
        with np.load(tmp_path / f"{case}.npz") as found:
            decided = labels_of(found["probabilities"], dataset)
        image = nibabel.load(tmp_path / f"{case}.nii.gz")
        assert np.array_equal(np.asarray(image.dataobj).T, decided)
    if regions:
        assert dataset["labels"]["class 0"] == [3, 1, 2]
        assert dataset["labels"]["class 2"] == 2


def test_nnunet_properties_are_what_itk_says(tmp_path):
    """By hand: SimpleITK's frame is NIfTI's turned by half about z."""
    ensemble = FakeEnsemble(geometry={"case": VOLUME})
    write(ensemble, tmp_path, "nnunet", probabilities=True)
    properties = pickle.loads((tmp_path / "case.pkl").read_bytes())
    itk = properties["sitk_stuff"]
    place = np.reshape(itk["direction"], (3, 3)) * itk["spacing"]
    assert np.allclose(place, np.diag([-1, -1, 1]) @ np.array(AFFINE)[:3, :3])
    assert np.allclose(itk["origin"], [-10, 20, 30])
    assert np.allclose(properties["spacing"], itk["spacing"][::-1])
    assert np.allclose(properties["nibabel_stuff"]["original_affine"], AFFINE)
    # a reader that turns arrays to R A S would not find ours turned: better no file than that
    assert "reoriented_affine" not in properties["nibabel_stuff"]
    straight = pickle.loads((tmp_path / "image.pkl").read_bytes())["nibabel_stuff"]
    assert straight["reoriented_affine"] == straight["original_affine"]
    assert b"numpy" not in (tmp_path / "case.pkl").read_bytes()


def test_nnunet_pictures(tmp_path):
    frames = {"road_1": ("road_1",), "road_2": ("0",)}
    ensemble = FakeEnsemble(number=3, videos=tuple(frames), frames_of=frames)
    write(ensemble, tmp_path, "nnunet", probabilities=True)
    assert json.loads((tmp_path / "dataset.json").read_text())["file_ending"] == ".png"
    with Image.open(tmp_path / "road_2.png") as image:
        assert image.mode == "L"  # of a palette nnU-Net would read the colours
        assert np.array_equal(np.asarray(image), ensemble.labels("road_2", "0"))
    with np.load(tmp_path / "road_2.npz") as found:
        assert found["probabilities"].shape == (3, 1, 5, 6)


LABELS = {"background": 0, "class 1": 1, "class 2": 2, "class 3": 3}
REGIONS = {"background": 0, "class 0": [1, 2, 3], "class 1": [2, 3], "class 2": 3}


def save(path, **document):
    path.write_text(json.dumps(document))
    return path


def test_nnunet_copies_dataset_and_plans(tmp_path):
    (tmp_path / "model").mkdir()
    facts = {"labels": {**LABELS, "ignore": 4}, "file_ending": ".nii.gz", "name": "theirs"}
    path = save(tmp_path / "model" / "dataset.json", **facts)
    save(tmp_path / "model" / "plans.json", plans_name="nnUNetPlans")
    out = tmp_path / "out"
    write(FakeEnsemble(), out, "nnunet", dataset_json=path)
    for name in ("dataset.json", "plans.json"):
        assert (out / name).read_bytes() == (tmp_path / "model" / name).read_bytes()
    (out / "image.nii.gz").unlink()
    with pytest.raises(StoreError, match=r"dataset\.json: is there with other content"):
        write(FakeEnsemble(), out, "nnunet", videos=["image"])
    order = {"regions_class_order": [1, 2, 3]}
    path = save(tmp_path / "dataset.json", labels=REGIONS, file_ending=".nii.gz", **order)
    ensemble = FakeEnsemble(number=3, independent=True)
    write(ensemble, tmp_path / "regions", "nnunet", dataset_json=path)
    masks = np.stack([ensemble.labels("case", frame) for frame in FRAMES["case"]])
    painted = np.where(masks[:, 0], 1, 0)
    painted = np.where(masks[:, 2], 3, np.where(masks[:, 1], 2, painted))
    image = nibabel.load(tmp_path / "regions" / "case.nii.gz")
    assert np.array_equal(np.asarray(image.dataobj).T, painted)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"labels": LABELS}, "is none that can be copied .'file_ending'"),
        ({"labels": LABELS, "file_ending": ".mha"}, "is none that can be copied .*mha"),
        ({"labels": [1], "file_ending": ".nii.gz"}, "is none that can be copied"),
        ({"labels": LABELS, "file_ending": ".png"}, "'case' has 3 slices, file_ending is .png"),
        ({"labels": {**LABELS, "class 1": 2}, "file_ending": ".nii.gz"}, "these classes in this"),
        ({"labels": {"background": 0}, "file_ending": ".nii.gz"}, "these classes in this order"),
    ],
)
def test_a_dataset_json_of_something_else(tmp_path, document, said):
    path, ensemble = save(tmp_path / "dataset.json", **document), FakeEnsemble()
    with pytest.raises(InputError, match=said):
        write(ensemble, tmp_path / "out", "nnunet", dataset_json=path)
    assert ensemble.worked == []


def test_regions_of_something_else(tmp_path):
    ensemble = FakeEnsemble(number=3, independent=True)
    other = dict(reversed(REGIONS.items()))
    for labels, order in ((other, [1, 2, 3]), (REGIONS, [1, 2]), (REGIONS, None), (LABELS, None)):
        facts = {"labels": labels, "regions_class_order": order, "file_ending": ".nii.gz"}
        path = save(tmp_path / "dataset.json", **facts)
        with pytest.raises(InputError, match="give one of these regions with regions_class_ord"):
            write(ensemble, tmp_path / "out", "nnunet", dataset_json=path)


def test_names_that_nnunet_keeps(tmp_path):
    ensemble = FakeEnsemble(number=2)
    ensemble.classes = ("sky", "ignore")
    with pytest.raises(InputError, match="class 'ignore' has a name that nnU-Net keeps"):
        write(ensemble, tmp_path, "nnunet")
