"""Images beside masks, in every layout that has a place for them, and in folders of their own."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fusion.errors import InputError, StoreError
from fusion.labels import MAPS, write_labels
from fusion.labels.layouts import LAYOUTS
from fusion.models.data.clips import Clips
from fusion.models.data.headers import sizes_of
from fusion.models.data.source import Source

NAMES = ("a_2", "a_10", "b_1")
SIZE = (6, 8)


def mask_of(number: int, classes: int = 3) -> np.ndarray:
    """Class ids of a unit, and some void."""
    ids = np.full(SIZE, number % classes, np.uint8)
    ids[0, 0] = 255
    return ids


def image(path, number: int) -> None:
    """A picture that says which unit it is of."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*SIZE, 3), 40 * number + 10, np.uint8)).save(path, quality=95)


def shifted(ids: np.ndarray, void: int = 0) -> np.ndarray:
    return np.where(ids == 255, void, ids + 1).astype(np.uint8)


def cityscapes(root):
    table = np.full(256, 3, np.uint8)
    table[:3] = 7, 8, 11  # road, sidewalk, building
    for k, name in enumerate(NAMES):
        below = f"train/ulm/ulm_00_{name}"
        write_labels(root / f"gtFine/{below}_gtFine_labelIds.png", table[mask_of(k)])
        image(root / f"leftImg8bit/{below}_leftImg8bit.png", k)
    return root


def vspw(root):
    for k, name in enumerate(NAMES):
        write_labels(root / "data" / name / "mask" / "00000001.png", shifted(mask_of(k)))
        image(root / "data" / name / "origin" / "00000001.jpg", k)
        (root / "data" / name / "mask" / "._00000001.png").write_bytes(b"\0")
    (root / "train.txt").write_text("._a_2\n" + "\n".join(NAMES) + "\n.DS_Store\n")
    return root


def voc(root):
    for k, name in enumerate(NAMES):
        write_labels(root / "SegmentationClass" / f"{name}.png", mask_of(k), palette="vspw")
        image(root / "JPEGImages" / f"{name}.jpg", k)
    image(root / "JPEGImages" / "unlisted.jpg", 5)
    (root / "ImageSets" / "Segmentation").mkdir(parents=True)
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("\n".join(NAMES))
    return root


def ade20k(root):
    for k, name in enumerate(NAMES):
        write_labels(root / "annotations" / "training" / f"{name}.png", shifted(mask_of(k)))
        image(root / "images" / "training" / f"{name}.jpg", k)
    return root


def coco(root):
    annotations = []
    for k, name in enumerate(NAMES):
        path = root / "annotations" / "panoptic_train2017" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        segments = np.where(mask_of(k) == 255, 0, 7)[..., None] * [1, 0, 0]
        Image.fromarray(segments.astype(np.uint8)).save(path)
        infos = [{"id": 7, "category_id": k + 1}]
        annotations.append({"file_name": f"{name}.png", "segments_info": infos})
        image(root / "train2017" / f"{name}.jpg", k)
    categories = [{"id": k + 1, "name": f"thing {k}"} for k in range(3)]
    document = {"annotations": annotations, "categories": categories}
    (root / "annotations" / "panoptic_train2017.json").write_text(json.dumps(document))
    return root


def nnunet(root):
    labels = {"background": 0, "a": 1, "b": 2, "ignore": 255}
    root.mkdir(parents=True, exist_ok=True)
    document = {"labels": labels, "file_ending": ".png"}
    (root / "dataset.json").write_text(json.dumps(document))
    for k, name in enumerate(NAMES):
        write_labels(root / "labelsTr" / f"{name}.png", mask_of(k))
        image(root / "imagesTr" / f"{name}_0000.png", k)
    return root


def table(root):
    rows = ["mask,image"]
    for k, name in enumerate(NAMES):
        write_labels(root / "m" / f"{name}.png", mask_of(k))
        image(root / "photos" / f"{name}.jpg", k)
        rows.append(f"m/{name}.png,photos/{name}.jpg")
    (root / "list.csv").write_text("\n".join(rows))
    return root / "list.csv"


SETS = {
    each.__name__ if each is not table else "csv": each
    for each in (vspw, cityscapes, voc, ade20k, coco, nnunet, table)
}


def check(clips: Clips, size: int = 3) -> None:
    """Each unit's image and mask are its own."""
    pairs = clips.labelled()
    assert len(pairs) == size
    for video, frame in pairs:
        number = next(k for k, name in enumerate(NAMES) if name in f"{video} {frame}")
        picture, mask = clips.pair(video, frame)
        assert abs(int(np.array(picture).mean()) - (40 * number + 10)) <= 2
        np.testing.assert_array_equal(mask, mask_of(number))


@pytest.mark.parametrize("layout", SETS)
def test_a_data_set_is_read_where_it_keeps_its_images(tmp_path, layout):
    root = SETS[layout](tmp_path / "set")
    names = ("x", "y", "z") if layout == "csv" else None
    clips = Clips.dataset(root, "train", classes=names)
    assert clips.masks.layout == layout
    check(clips)
    known = clips.masks.names
    assert clips.classes == (names or known)
    if layout in MAPS:
        assert known == MAPS[layout]().names


@pytest.mark.parametrize("layout", ["vspw", "cityscapes", "voc", "ade20k", "coco"])
def test_images_are_found_without_masks_under_the_same_ids(tmp_path, layout):
    root = SETS[layout](tmp_path / "set")
    labelled = Clips.dataset(root, "train")
    for place in ("gtFine", "SegmentationClass", "annotations/training"):
        shutil.rmtree(root / place, ignore_errors=True)
    kind = {"layout": layout, "classes": labelled.classes}
    alone = Clips.dataset(root, "train", labelled=False, **kind)
    assert sorted(alone.videos) == sorted(labelled.videos)
    for video in alone.videos:
        assert alone.frames(video) == labelled.masks.frames(video)
        assert alone.image(video, alone.frames(video)[0]).size == SIZE[::-1]


def test_every_layout_has_a_place_or_says_that_it_has_none(tmp_path):
    for name, kind in LAYOUTS.items():
        if name not in (*SETS, "hf"):
            with pytest.raises(InputError, match=f"layout {name}: .* give the folders of both"):
                kind.images(tmp_path, None)


def rows(numbers, column="label", image_column="image"):
    """A Hugging Face data set of images and masks of these numbers."""
    datasets = pytest.importorskip("datasets")
    pictures = [Image.fromarray(np.full((*SIZE, 3), 40 * k + 10, np.uint8)) for k in numbers]
    masks = [Image.fromarray(mask_of(k)) for k in numbers]
    columns = {image_column: pictures, column: masks, "id": [*numbers]}
    kinds = {name: datasets.Image() for name in (image_column, column)}
    features = datasets.Features(**kinds, id=datasets.Value("int64"))
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.mark.parametrize("parts", [True, False])
def test_a_hugging_face_data_set_keeps_its_images_in_a_column(tmp_path, parts):
    """Splits have rows of the same numbers, and are other images all the same."""
    datasets = pytest.importorskip("datasets")
    whole, other = rows([2, 0, 1], "seg", "pixel_values"), rows([1], "seg", "pixel_values")
    both = datasets.DatasetDict({"train": whole, "validation": other}) if parts else whole
    both.save_to_disk(tmp_path / "set")
    source = Source(root=str(tmp_path / "set"), column="seg", classes=names_in(tmp_path))
    clips = pickle.loads(pickle.dumps(source.open(labelled=True)))
    assert clips.masks.layout == "hf"
    assert [video for video, _ in clips.labelled()] == ["00000", "00001", "00002"]
    for number, (video, frame) in zip([2, 0, 1], clips.labelled(), strict=True):
        picture, mask = clips.pair(video, frame)
        assert set(np.unique(picture)) == {40 * number + 10}
        np.testing.assert_array_equal(mask, mask_of(number))
    assert sizes_of(clips).tolist() == [[*SIZE]] * 3
    alone = source.open(labelled=False)
    assert alone.videos == clips.videos
    assert alone.image("00001", "00001").getpixel((0, 0)) == (10, 10, 10)
    with pytest.raises(StoreError, match="has no unit '7'"):
        alone.image("7", "7")
    if parts:
        judged = replace(source, split="validation").open(labelled=True)
        assert judged.videos == ("00000",)
        assert judged.root != clips.root


def test_columns_that_are_no_images_or_several(tmp_path):
    rows([0]).remove_columns("image").save_to_disk(tmp_path / "none")
    rows([0], "mine").save_to_disk(tmp_path / "two")  # no name of masks
    for place, count in (("none", 0), ("two", 2)):
        with pytest.raises(InputError, match=rf"{place} has {count} columns that may be images,"):
            Clips.dataset(tmp_path / place, classes="abc")


def test_a_damaged_row_is_named(tmp_path):
    datasets = pytest.importorskip("datasets")
    made = rows([0, 1]).cast_column("image", datasets.Image(decode=False))
    broken = made.map(lambda row: {"image": {"bytes": b"\x89PNG", "path": None}})
    broken.save_to_disk(tmp_path / "set")
    clips = Clips.dataset(tmp_path / "set", classes="abc")
    with pytest.raises(StoreError, match=r"set/image\[1\] cannot be decoded"):
        clips.image("00001", "00001")


def test_volumes_are_refused_with_what_to_do(tmp_path):
    write_labels(tmp_path / "masks" / "case" / "00000.png", mask_of(0))
    (tmp_path / "volumes").mkdir()
    (tmp_path / "volumes" / "case.nii.gz").write_bytes(b"")
    got = r"volumes holds NIfTI volumes, .*<case>/00000\.png"
    with pytest.raises(InputError, match=got):
        Clips.folder(tmp_path / "volumes", tmp_path / "masks", classes="abc")
    root = nnunet(tmp_path / "set")
    (root / "imagesTr" / "case_0000.nii.gz").write_bytes(b"")
    with pytest.raises(InputError, match=r"imagesTr holds NIfTI volumes"):
        Clips.dataset(root)


def names_in(folder) -> str:
    (folder / "names.txt").write_text("a\nb\nc\n")
    return str(folder / "names.txt")


@pytest.mark.parametrize("suffix", ["", "_mask", "_labelIds"])
def test_single_images_beside_single_masks(tmp_path, suffix):
    for k, name in enumerate(NAMES):
        write_labels(tmp_path / "masks" / f"{name}{suffix}.png", mask_of(k))
        image(tmp_path / "photos" / f"{name}.jpg", k)
        (tmp_path / "masks" / f"._{name}{suffix}.png").write_bytes(b"\0")
        (tmp_path / "photos" / f"._{name}.jpg").write_bytes(b"\0")
    (tmp_path / "photos" / ".DS_Store").write_bytes(b"\0")
    check(Clips.folder(tmp_path / "photos", tmp_path / "masks", classes="abc"))
    alone = Clips.folder(tmp_path / "photos", classes="abc")
    assert alone.videos == ("a_2", "a_10", "b_1")
    assert alone.frames("a_2") == ["a_2"]


def test_a_split_is_the_subfolder_of_both(tmp_path):
    for k, name in enumerate(NAMES):
        write_labels(tmp_path / "masks" / "one" / f"{name}.png", mask_of(k))
        image(tmp_path / "photos" / "one" / f"{name}.jpg", k)
        image(tmp_path / "photos" / "two" / f"{name}.jpg", k + 3)
    check(Clips.folder(tmp_path / "photos", tmp_path / "masks", "one", classes="abc"))


def test_masks_of_colours_need_a_map_of_them(tmp_path):
    colours = np.array([[0, 0, 255], [0, 255, 0], [255, 0, 0]], np.uint8)
    for k, name in enumerate(NAMES):
        image(tmp_path / "photos" / f"{name}.jpg", k)
        painted = np.where((mask_of(k) == 255)[..., None], 0, colours[k]).astype(np.uint8)
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(painted).save(tmp_path / "masks" / f"{name}.png")
    places = tmp_path / "photos", tmp_path / "masks"
    with pytest.raises(StoreError, match=r"a_2\.png .*class_map=FILE .*here are \[0, 0, 0\]"):
        Clips.folder(*places, classes="abc").pair("a_2", "a_2")
    known = dict(zip("xyz", colours.tolist(), strict=True))
    clips = Clips.folder(*places, class_map={"colours": known, "void": [[0, 0, 0]]})
    assert clips.classes == ("x", "y", "z")
    check(clips)


def test_many_classes_in_masks_of_16_bits(tmp_path):
    ids = np.arange(48, dtype=np.uint16).reshape(SIZE) * 20
    ids[0, 0] = 65535
    write_labels(tmp_path / "masks" / "a.png", ids)
    image(tmp_path / "photos" / "a.jpg", 0)
    names = [f"c{k}" for k in range(1000)]
    clips = Clips.folder(tmp_path / "photos", tmp_path / "masks", classes=names)
    np.testing.assert_array_equal(clips.pair("a", "a")[1], ids)
    assert clips.masks.void == 65535


def test_another_video_s_frame_is_no_image_of_this_one(tmp_path):
    """Two videos number their frames alike; one lacks its folder of images."""
    for video in ("one", "two"):
        write_labels(tmp_path / "masks" / video / "0.png", mask_of(0))
    image(tmp_path / "photos" / "one" / "0.jpg", 0)
    clips = Clips.folder(tmp_path / "photos", tmp_path / "masks", classes="abc")
    with pytest.raises(InputError, match=r"1 of 2 masks have no image; .*unit 'two', frame '0'"):
        clips.labelled()


def test_an_image_is_of_one_mask_only(tmp_path):
    for name in ("a", "a_mask"):
        write_labels(tmp_path / "masks" / f"{name}.png", mask_of(0))
    image(tmp_path / "photos" / "a.jpg", 0)
    clips = Clips.folder(tmp_path / "photos", tmp_path / "masks", classes="abc")
    with pytest.raises(InputError, match=r"is the image of video 'a', .* and of video 'a_mask'"):
        clips.labelled()


def test_places_that_hold_nothing(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match=r"empty has no pictures .* and no folders of them"):
        Clips.folder(tmp_path / "empty", classes="a")
    with pytest.raises(StoreError, match="is no folder"):
        Clips.folder(tmp_path / "nowhere", classes="a")
    image(tmp_path / "photos" / "a.jpg", 0)
    with pytest.raises(InputError, match="class names are needed and nothing says them"):
        Clips.folder(tmp_path / "photos")
    flat = tmp_path / "flat"
    write_labels(flat / "a.png", mask_of(0))
    with pytest.raises(InputError, match=r"layout flat: .* has no place of its own for images"):
        Clips.dataset(flat, "train", layout="flat", classes="abc")
