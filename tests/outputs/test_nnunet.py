"""nnU-Net's folder: what nnU-Net itself makes of it."""

from __future__ import annotations

import json
import pickle
from typing import ClassVar

import nibabel
import numpy as np
import pytest
from PIL import Image

from fusion.errors import InputError, StoreError
from fusion.outputs import write
from tests.outputs.contract import OutputContract
from tests.outputs.simulated import AFFINE, FRAMES, VOLUME, FakeEnsemble


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


DEEP = json.loads("[" * 65 + "]" * 65)
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
        ({"labels": LABELS, "file_ending": ".nii.gz", "x": DEEP}, "nested deeper than 64 levels"),
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
