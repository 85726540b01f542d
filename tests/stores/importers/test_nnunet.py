"""nnU-Net's folders, written by hand after its source (inference/export_prediction.py, imageio)."""

from __future__ import annotations

import json
import os
import pickle
from collections import OrderedDict
from typing import ClassVar

import nibabel
import numpy as np
import pytest

from fusion.errors import InputError
from fusion.stores import GapCodec, LogitStore
from fusion.stores.importers import choose, import_folder
from fusion.stores.importers.nnunet import NnUnet
from tests.stores.common import run
from tests.stores.contract import ImporterContract
from tests.test_geometry import AFFINE

LABELS = {"background": 0, "liver": 1, "tumour": 2, "vessel": 3}
DATASET = {"labels": LABELS, "file_ending": ".nii.gz", "channel_names": {"0": "CT"}}
# ITK's words for AFFINE: axes to the left and back
SPACING, ORIGIN = (0.7, 0.8, 2.5), (90.0, 126.5, -72.0)
DIRECTION = tuple((np.diag([-1, -1, 1]) @ AFFINE[:3, :3] / SPACING).ravel())
SITK = {"spacing": SPACING, "origin": ORIGIN, "direction": DIRECTION}
RNG = np.random.default_rng(8)
PLACE = {
    "kind": "nifti",
    "affine": pytest.approx(AFFINE, abs=1e-6),
    "spacing": pytest.approx([2.5, 0.8, 0.7]),
}


def softmax(shape, dtype=np.float32) -> np.ndarray:
    logits = RNG.normal(0, 3, shape)
    return (np.exp(logits) / np.exp(logits).sum(axis=0)).astype(dtype)


def save_case(folder, case, array, properties=None, key="probabilities"):
    """As nnU-Net does; a case without properties has no .pkl."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{case}.npz", **{key: array})
    if properties is not None:
        (folder / f"{case}.pkl").write_bytes(pickle.dumps(properties))
    return folder


def whole(array) -> dict:
    """Properties of a case that was not cropped."""
    shape = array.shape[1:]
    return {
        "sitk_stuff": SITK,
        "spacing": list(SPACING[::-1]),
        "shape_before_cropping": shape,
        "bbox_used_for_cropping": [[0, n] for n in shape],
        "shape_after_cropping_and_before_resampling": shape,
        "class_locations": OrderedDict({1: np.ones((2, 4), np.int64), 2: []}),
    }


def document(folder, name="dataset.json", **content):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content))


class TestNnUnet(ImporterContract):
    importer = NnUnet
    values = "probabilities"
    classes = tuple(LABELS)
    frames: ClassVar = ("00000", "00001", "00002")

    def save(self, folder, clips):
        document(folder, **DATASET)
        for video, clip in clips.items():
            array = np.stack([clip[frame] for frame in self.frames], axis=1)
            save_case(folder, video, array, whole(array))
            labels = nibabel.Nifti1Image(array.argmax(0).astype(np.uint8).T, AFFINE)
            nibabel.save(labels, folder / f"{video}.nii.gz")
        return folder

    def damage(self, folder, video):
        path = folder / f"{video}.npz"
        path.write_bytes(path.read_bytes()[:-200])

    def place(self, video):
        return PLACE


class TestPictures(TestNnUnet):
    """2D: Z is 1, there are no .nii.gz, and the place is nowhere."""

    images = True
    frames: ClassVar = ("00000",)

    def save(self, folder, clips):
        document(folder, **DATASET)
        for video, clip in clips.items():
            array = clip["00000"][:, None]
            properties = {**whole(array), "spacing": (999, 1, 1)}
            del properties["sitk_stuff"]
            save_case(folder, video, array, properties)
        return folder

    def place(self, video):
        return None


class TestRegions(TestNnUnet):
    """Regions overlap, and are independent channels."""

    values = "sigmoid-probabilities"
    classes = ("whole", "core", "enhancing")

    def save(self, folder, clips):
        super().save(folder, clips)
        labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}
        document(folder, labels=labels, regions_class_order=[1, 2, 3])
        return folder

    def kept(self, clip):
        clip = clip.astype(np.float64)
        return super().kept(clip)


class TestFolds(TestNnUnet):
    """A trained configuration: each fold has predicted its own part of the training set."""

    def save(self, folder, clips):
        for fold, video in enumerate(clips):
            super().save(folder / f"fold_{fold}" / "validation", {video: clips[video]})
            (folder / f"fold_{fold}" / "validation" / "dataset.json").unlink()
        document(folder, **DATASET)
        document(folder, "plans.json", transpose_backward=[0, 1, 2])
        return folder

    def damage(self, folder, video):
        path = folder / "fold_0" / "validation" / f"{video}.npz"
        path.write_bytes(b"")

    def test_damage_is_named_and_nothing_of_the_video_is_kept(self, folder, tmp_path):
        self.damage(folder, "v2")
        with pytest.raises(InputError, match=r"fold_0/validation/v2.npz: not a readable array"):
            self.bring(folder, tmp_path / "s.zarr")
        assert LogitStore(tmp_path / "s.zarr").videos == ()

    def test_ids_come_in_natural_order(self, folder):
        assert [s.video for s in self.choose(folder).videos(folder)] == ["v2", "v10", "a"]

    def test_the_call_does_it_all(self, folder, tmp_path):
        assert import_folder(folder, tmp_path / "s.zarr") == (3, 0)

    def test_a_link_that_leads_out_is_refused(self, folder, tmp_path):
        (folder / "fold_0").rename(tmp_path / "elsewhere")
        (folder / "fold_0").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(InputError, match=r"v2.npz: a link that leads out of .*; copy"):
            choose(folder).videos(folder)

    def test_a_fold_alone_and_its_validation_alone(self, folder, tmp_path):
        for n, inside in enumerate(("fold_0", "fold_0/validation")):
            assert import_folder(folder / inside, tmp_path / f"{n}.zarr") == (1, 0)
            assert LogitStore(tmp_path / f"{n}.zarr").videos == ("v2",)

    def test_a_case_in_two_folds_is_the_users_choice(self, folder):
        validation = folder / "fold_all" / "validation"
        save_case(validation, "a", softmax((4, 3, 5, 6)))
        both = r"video 'a' is there twice \(fold_2/validation/a.npz and fold_all/validation/a.npz\)"
        with pytest.raises(InputError, match=both):
            choose(folder).videos(folder)

    def test_configurations_side_by_side(self, folder, tmp_path, places, capsys):
        models = tmp_path / "models"
        for name in ("T__P__2d", "T__P__3d_fullres"):
            (models / name).mkdir(parents=True)
            for entry in ("fold_0", "dataset.json", "plans.json"):
                os.symlink(folder / entry, models / name / entry)
        with pytest.raises(InputError, match=r"2 folders of cases \(T__P__2d, T__P__3d_fullres\)"):
            choose(models).videos(models)
        code, _, err = run(capsys, "import", models, tmp_path / "c")
        assert (code, "--each for a store of each" in err) == (2, True)


def codes(path, video="case"):
    return LogitStore(path).codes(video)


@pytest.fixture
def cropped(tmp_path, places):
    """A case of [4, 6, 7] in its image's order, cropped to rows 1-4 and columns 2-7."""
    full = np.zeros((4, 4, 6, 7), np.float32)
    full[0] = 1
    inner = softmax((4, 3, 4, 5))
    full[:, 1:4, 1:5, 2:7] = inner
    document(tmp_path / "source", **DATASET)
    return full, inner


@pytest.mark.parametrize("version", ["cropped", "zeros around", "background around", "first"])
def test_what_lies_outside_the_crop_is_background(tmp_path, cropped, version):
    full, inner = cropped
    box, shape = [[1, 4], [1, 5], [2, 7]], full.shape[1:]
    saved, key = {"cropped": inner, "first": inner}.get(version, full).copy(), "probabilities"
    properties = {"shape_before_cropping": shape, "bbox_used_for_cropping": box}
    if version == "zeros around":
        saved[0][full[0] == 1] = 0
    if version == "first":  # nnU-Net version 1
        key = "softmax"
        properties = {"original_size_of_raw_data": np.array(shape), "crop_bbox": box}
        properties |= {f"itk_{name}": value for name, value in SITK.items()}
    save_case(tmp_path / "source", "case", saved, properties, key)
    assert import_folder(tmp_path / "source", tmp_path / "s.zarr") == (1, 0)
    with np.errstate(divide="ignore"):
        assert np.array_equal(
            codes(tmp_path / "s.zarr"), GapCodec().encode(np.log(full).swapaxes(0, 1))
        )


def test_outside_the_crop_there_is_no_region(tmp_path, cropped):
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    document(tmp_path / "source", labels=labels, regions_class_order=[1, 2])
    inner = RNG.uniform(0.1, 1, (2, 3, 4, 5)).astype(np.float32)
    properties = {
        "shape_before_cropping": (4, 6, 7),
        "bbox_used_for_cropping": [[1, 4], [1, 5], [2, 7]],
    }
    save_case(tmp_path / "source", "case", inner, properties)
    import_folder(tmp_path / "source", tmp_path / "s.zarr", profile="exact")
    store = LogitStore(tmp_path / "s.zarr")
    read = 1 / (1 + np.exp(-store.read("case").swapaxes(0, 1)))
    assert store.classes == ("whole", "core")
    assert np.allclose(read[:, 1:4, 1:5, 2:7], inner, atol=2e-3)
    read[:, 1:4, 1:5, 2:7] = 0
    assert read.max() < 1e-6


@pytest.mark.parametrize("saved", ["cropped", "whole"])
def test_axes_that_nnunet_had_turned(tmp_path, cropped, saved):
    """plans.json says how; what the .pkl says of the crop is in nnU-Net's own order."""
    full, inner = cropped
    forward, backward = [2, 0, 1], [1, 2, 0]
    properties = {
        "shape_before_cropping": tuple(np.array(full.shape[1:])[forward]),
        "bbox_used_for_cropping": [[(1, 4), (1, 5), (2, 7)][axis] for axis in forward],
    }
    document(tmp_path / "source", "plans.json", transpose_backward=backward)
    array = inner if saved == "cropped" else full
    save_case(tmp_path / "source", "case", array, properties)
    import_folder(tmp_path / "source", tmp_path / "s.zarr")
    with np.errstate(divide="ignore"):
        assert np.array_equal(
            codes(tmp_path / "s.zarr"), GapCodec().encode(np.log(full).swapaxes(0, 1))
        )
    (tmp_path / "source" / "plans.json").unlink()
    with pytest.raises(InputError, match=r"case.npz: array of .* restore plans.json and .pkl"):
        import_folder(tmp_path / "source", tmp_path / "t.zarr")


@pytest.mark.parametrize("axes", [("L", "P", "S"), ("P", "I", "R"), ("S", "R", "A")])
def test_axes_that_a_reader_had_turned_to_right_front_up(tmp_path, axes, places):
    """NibabelIOWithReorient: what is imported lies as the image's file does, labels too."""
    from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

    shape = (3, 4, 5)  # the file's (i, j, k)
    theirs, ras = axcodes2ornt(axes), axcodes2ornt("RAS")
    affine = np.diag([0.5, 0.6, 2, 1]) @ inv_ornt_aff(ornt_transform(theirs, ras), shape)
    channels = softmax((4, *shape))
    turned = [
        nibabel.Nifti1Image(channel, affine).as_reoriented(nibabel.io_orientation(affine))
        for channel in channels
    ]
    array = np.stack([np.asarray(each.dataobj).T for each in turned])
    stuff = {"original_affine": affine, "reoriented_affine": turned[0].affine}
    save_case(
        tmp_path / "source", "case", array, {"nibabel_stuff": stuff, "spacing": [2, 0.6, 0.5]}
    )
    document(tmp_path / "source", **DATASET)
    import_folder(tmp_path / "source", tmp_path / "s.zarr")
    expected = channels.transpose(3, 0, 2, 1)  # [Z, C, Y, X]
    assert np.array_equal(codes(tmp_path / "s.zarr"), GapCodec().encode(np.log(expected)))
    assert np.allclose(places["case"]["geometry"]["affine"], affine)


def test_plain_nibabel_geometry_and_that_of_the_labels(tmp_path, places):
    document(tmp_path / "source", **DATASET)
    array = softmax((4, 2, 3, 5))
    properties = {"nibabel_stuff": {"original_affine": AFFINE}, "spacing": [2.5, 0.8, 0.7]}
    save_case(tmp_path / "source", "a", array, properties)
    save_case(tmp_path / "source", "b", array)
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((5, 3, 2), np.uint8), AFFINE), tmp_path / "source/b.nii.gz"
    )
    assert import_folder(tmp_path / "source", tmp_path / "s.zarr") == (2, 0)
    for case in "ab":
        assert np.allclose(places[case]["geometry"]["affine"], AFFINE, atol=1e-5)
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((5, 3, 4), np.uint8), AFFINE), tmp_path / "source/b.nii.gz"
    )
    with pytest.raises(
        InputError, match=r"b.npz: probabilities of \[2, 3, 5\], b.nii.gz of \[4, 3, 5\]"
    ):
        import_folder(tmp_path / "source", tmp_path / "t.zarr")


def test_sitk_and_labels_say_the_same_place(tmp_path, places):
    """What SimpleITK's words become is what its NIfTI files say."""
    array = softmax((4, 2, 3, 5))
    save_case(tmp_path / "source", "a", array, whole(array))
    import_folder(tmp_path / "source", tmp_path / "s.zarr", list(LABELS))
    assert np.allclose(places["a"]["geometry"]["affine"], AFFINE)


def test_class_names_are_the_formats(tmp_path, places):
    shuffled = {"tumour": 2, "background": 0, "ignore": 4, "vessel": 3, "liver": 1}
    document(tmp_path / "source", labels=shuffled)
    array = softmax((4, 2, 3, 5))
    save_case(tmp_path / "source", "a", array, whole(array))
    import_folder(tmp_path / "source", tmp_path / "s.zarr")
    assert LogitStore(tmp_path / "s.zarr").classes == tuple(LABELS)
    document(tmp_path / "source", labels={"0": "background", "1": "liver", "2": "tumour", "3": "v"})
    import_folder(tmp_path / "source", tmp_path / "t.zarr")
    assert LogitStore(tmp_path / "t.zarr").classes == ("background", "liver", "tumour", "v")
    import_folder(tmp_path / "source", tmp_path / "u.zarr", ["b", "l", "t", "v"])
    assert LogitStore(tmp_path / "u.zarr").classes == ("b", "l", "t", "v")
    with pytest.raises(InputError, match=r"in the order background, liver, tumour, v; give them"):
        import_folder(
            tmp_path / "source", tmp_path / "w.zarr", ["liver", "background", "v", "tumour"]
        )
    with pytest.raises(InputError, match="say 4 classes"):
        import_folder(tmp_path / "source", tmp_path / "w.zarr", 3)
    for labels in ({"background": 0, "liver": 2}, [], {"a": "x"}, {"a": None}, {}):
        document(tmp_path / "source", labels=labels)
        with pytest.raises(InputError, match=r"dataset.json: its labels cannot be read"):
            import_folder(tmp_path / "source", tmp_path / "w.zarr")
    (tmp_path / "source/dataset.json").write_text("{")
    with pytest.raises(InputError, match=r"dataset.json: not readable JSON"):
        import_folder(tmp_path / "source", tmp_path / "w.zarr")


def test_regions_without_dataset_json_are_told_by_their_sums(tmp_path, places):
    array = RNG.uniform(0, 1, (3, 2, 4, 5)).astype(np.float32)
    save_case(tmp_path / "source", "a", array, whole(array))
    with pytest.raises(
        InputError, match=r"a.npz, frame '00000': probabilities sum to .*sigmoid-pro"
    ):
        import_folder(tmp_path / "source", tmp_path / "s.zarr", 3)
    one = {"values": "sigmoid-probabilities"}
    assert import_folder(tmp_path / "source", tmp_path / "s.zarr", 3, **one) == (1, 0)


@pytest.mark.parametrize(
    "properties",
    [
        {"shape_before_cropping": (2, 3, 5), "bbox_used_for_cropping": [[0, 2], [0, 3], [1, 9]]},
        {"shape_before_cropping": (2, 3), "bbox_used_for_cropping": [[0, 2], [0, 3]]},
        {"shape_before_cropping": "abc", "bbox_used_for_cropping": [[0, 2]]},
        {"shape_before_cropping": (9, 9, 9), "bbox_used_for_cropping": [[0, 2], [0, 2], [0, 2]]},
        {"sitk_stuff": {"spacing": (1, 1, 1)}},
        {"sitk_stuff": {"spacing": (1, 1, 1), "origin": "x", "direction": (1,) * 9}},
        {"nibabel_stuff": {"original_affine": np.full((4, 4), np.nan)}},
        {"nibabel_stuff": {"original_affine": np.zeros((4, 4)), "reoriented_affine": np.eye(4)}},
        [1, 2],
    ],
)
def test_properties_that_are_nonsense(tmp_path, properties, places):
    save_case(tmp_path / "source", "a", softmax((4, 2, 3, 5)), properties)
    with pytest.raises(InputError, match=r"a\.(npz|pkl): .*restore") as caught:
        import_folder(tmp_path / "source", tmp_path / "s.zarr", 4)
    assert "\n" not in str(caught.value)


def test_a_validation_folder_is_never_a_video(tmp_path, places):
    save_case(tmp_path / "source" / "validation", "a", softmax((4, 2, 3, 5)))
    assert import_folder(tmp_path / "source", tmp_path / "s.zarr", 4) == (1, 0)
    assert LogitStore(tmp_path / "s.zarr").videos == ("a",)
