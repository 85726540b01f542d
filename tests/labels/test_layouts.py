"""The layouts of plain files, each by the contract, and what is its own."""

from __future__ import annotations

import csv
import os

import numpy as np
import pytest
from PIL import Image

from fusion.errors import InputError, StoreError
from fusion.images import Images
from fusion.labels import LAYOUTS, Labels, write_labels
from fusion.labels.layouts.folder import Folder
from tests.labels.contract import LayoutContract, SingleImages, maps

# by hand: the ids of the first eleven of the nineteen classes, and some of those that are void
CITYSCAPES = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23]


class TestFolder(LayoutContract):
    layout = "folder"


class TestFolderOfArrays(LayoutContract):
    layout = "folder"

    def write(self, root, data):
        for unit, frames in data.items():
            (root / unit).mkdir(exist_ok=True)
            for frame, ids in frames.items():
                np.save(root / unit / f"{frame}.npy", ids.astype(np.int64))
        return root


class TestVspw(LayoutContract):
    layout = "vspw"
    class_map = "vspw"

    def file(self, root, unit, frame):
        return root / "data" / unit / "mask" / f"{frame}.png"

    def stored(self, ids):
        return np.where(ids == 255, 0, ids + 1).astype(np.uint8)

    def write(self, root, data):
        (root / "val.txt").write_text("\n".join(data))
        return super().write(root, data)

    def allowed(self, classes):
        return f"1..{classes} (0 and 255 are void)"


class TestFlat(SingleImages):
    layout = "flat"


class TestFlatArrays(SingleImages):
    layout = "flat"

    def write(self, root, data):
        for unit, frames in data.items():
            np.save(root / f"{unit}.npy", frames[unit])
        return root


class TestPattern(LayoutContract):
    layout = "glob"
    options = {"pattern": "**/{unit}_{frame}_gt.png"}  # noqa: RUF012

    def file(self, root, unit, frame):
        return root / "deep" / unit[-1] / f"{unit}_{frame}_gt.png"


class TestCityscapes(SingleImages):
    layout = "cityscapes"
    class_map = "cityscapes"
    units = ("aachen_000000_000019", "aachen_000010_000019", "ulm_000000_000019")

    def file(self, root, unit, frame):
        name = f"{unit}_gtFine_labelIds.png"
        return root / "gtFine" / "val" / unit.split("_")[0] / name

    def stored(self, ids):
        table = np.full(256, 3, np.uint8)
        table[:11] = CITYSCAPES
        return table[ids]

    def allowed(self, classes):
        ids = ", ".join(map(str, CITYSCAPES[:classes]))
        return f"{ids} (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30 and 255 are void)"


class TestVoc(SingleImages):
    layout = class_map = "voc"

    def file(self, root, unit, frame):
        return root / "SegmentationClass" / f"{unit}.png"

    def write(self, root, data):
        lists = root / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / "val.txt").write_text("\n".join(data))
        return super().write(root, data)

    def allowed(self, classes):
        return f"0..{classes - 1} (255 is void)"


class TestAde20k(SingleImages):
    layout = "ade20k"
    class_map = "ade20k-150"

    def file(self, root, unit, frame):
        (root / "images").mkdir(exist_ok=True)
        return root / "annotations" / "validation" / f"{unit}.png"

    def stored(self, ids):
        return np.where(ids == 255, 0, ids + 1).astype(np.uint8)

    def allowed(self, classes):
        return f"1..{classes} (0 is void)"


class TestTable(LayoutContract):
    layout = "csv"

    def file(self, root, unit, frame):
        return root / "masks" / f"{unit}-{frame}.png"

    def write(self, root, data):
        super().write(root, data)
        with (root / "list.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["image", "mask", "unit", "frame"])
            for unit, frames in data.items():
                for frame in frames:
                    rows.writerow([f"{unit}.jpg", f"masks/{unit}-{frame}.png", unit, frame])
        return root / "list.csv"


def test_vspw(vspw):
    labels = Labels.vspw(vspw)
    assert labels.videos == ("9_b", "10_a")
    for frame in ("00000001", "00000002"):  # greyscale and palette alike
        read = labels.read("9_b", frame, classes=124)
        assert read.dtype == np.uint8
        assert read.tolist() == [[255, 0, 1], [123, 255, 6]]
        assert labels.raw("9_b", frame).tolist() == [[0, 1, 2], [124, 255, 7]]


def test_vspw_stray_values_name_the_file_and_the_stored_values(vspw):
    path = vspw / "data" / "9_b" / "mask" / "00000001.png"
    Image.fromarray(np.array([[252, 125, 124, 254, 0, 255]], dtype=np.uint8)).save(path)
    with pytest.raises(InputError, match=r"00000001\.png holds 125, 252, 254 outside 1\.\.124"):
        Labels.vspw(vspw).read("9_b", "00000001")
    assert Labels.vspw(vspw, stray="void").read("9_b", "00000001").tolist() == [
        [255, 255, 123, 255, 255, 255]
    ]


def test_missing_directories(folder):
    with pytest.raises(StoreError, match=rf"does not exist; did you mean '{folder.name}'"):
        Labels.folder(folder.with_name(folder.name + "x"))
    with pytest.raises(StoreError, match=r"classes\.txt is no directory"):
        Labels.folder(folder / "classes.txt")
    with pytest.raises(StoreError, match=r"no <video>/<frame>\.png"):
        Labels.folder(folder / "clip_2")
    (folder / "gone").mkdir()
    write_labels(folder / "gone" / "f1.png", maps())
    labels = Labels.folder(folder)
    (folder / "gone" / "f1.png").unlink()
    with pytest.raises(StoreError, match="has no PNG"):
        labels.frames("gone")
    assert not (folder / "x").exists()


def test_vspw_lists(vspw):
    with pytest.raises(StoreError, match=r"no list vall\.txt; did you mean 'val'"):
        Labels.vspw(vspw, "vall")
    for text, message in [
        ("9_b\nlost\n", "lists 2 videos, 1 without data/<video>/mask, first 'lost'"),
        ("9_b\nx/../10_a\n", "'x/../10_a' is no name"),
        ("9_b\n9_b\n", "twice"),
        ("\n", "lists 0 videos"),
    ]:
        (vspw / "val.txt").write_text(text)
        with pytest.raises(StoreError, match=message):
            Labels.vspw(vspw)
    (vspw / "val.txt").write_text(".DS_Store\n10_a\n")
    assert Labels.vspw(vspw).videos == ("10_a",)


def test_vspw_images_lie_beside_the_masks(vspw):
    images = Images(LAYOUTS["vspw"].images(vspw, "val"))
    path = vspw / "data" / "9_b" / "origin" / "00000001.jpg"
    path.parent.mkdir()
    path.write_bytes(b"")
    assert images.find("9_b", "00000001") == path
    assert Labels.vspw(vspw).path("9_b", "00000001").parent == vspw / "data" / "9_b" / "mask"


def test_videos_without_masks_are_videos_all_the_same(folder, vspw):
    assert {"clip_2", "clip_10", "empty"} <= set(LAYOUTS["folder"].videos(folder, None))
    (vspw / "test.txt").write_text("9_b\nno_masks\n")
    assert LAYOUTS["vspw"].videos(vspw, "test") == ("9_b", "no_masks")


def test_a_new_layout_is_a_class_and_a_name(tmp_path, monkeypatch):
    class Dotted(Folder):
        """Masks of all videos in folders <video>.masks."""

        name = "dotted"

        @classmethod
        def videos(cls, root, split):
            return tuple(sorted(path.stem for path in root.glob("*.masks")))

        def masks(self, unit):
            return self.root / f"{unit}.masks"

    monkeypatch.setitem(LAYOUTS, "dotted", Dotted)
    write_labels(tmp_path / "a.masks" / "1.png", np.array([[0, 3, 255]], np.uint8))
    labels = Labels.open("dotted", tmp_path)
    assert labels.videos == ("a",)
    assert labels.read("a", "1").tolist() == [[0, 3, 255]]
    with pytest.raises(InputError, match="layout: got 'dottted'; did you mean 'dotted'"):
        Labels.open("dottted", tmp_path)


def test_two_files_of_one_frame_are_an_error(tmp_path):
    write_labels(tmp_path / "f" / "a" / "1.png", maps())
    np.save(tmp_path / "f" / "a" / "1.npy", maps())
    with pytest.raises(StoreError, match=r"1\.(png|npy) and .*1\.(png|npy) are both of unit 'a', "):
        Labels.folder(tmp_path / "f").frames("a")
    with pytest.raises(StoreError, match=r"1\.(png|npy) and .*1\.(png|npy) are both of unit '1'; "):
        Labels.open("flat", tmp_path / "f" / "a")
    for city in ("x", "y"):
        write_labels(tmp_path / "g" / city / "a_1_mask.png", maps())
    with pytest.raises(StoreError, match=r"g/x/a_1_mask\.png and .*g/y/a_1_mask\.png are both"):
        Labels.open("glob", tmp_path / "g", pattern="*/{unit}_{frame}_mask.png")


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("{unit}/{frame}_mask.png", {"a": ["1", "2"]}),
        ("*/{unit}_{frame}_gtFine_labelIds.png", {"u_000": ["19"]}),
        ("**/{unit}_mask.png", {"1": ["1"], "2": ["2"], "top": ["top"]}),
        ("{unit}/{unit}_{frame}.png", {"c": ["7"]}),
        ("?/{unit}_mask.png", {"1": ["1"], "2": ["2"]}),
        ("c/{unit}_{frame}.png", {"c": ["7"], "d": ["8"]}),
    ],
)
def test_patterns(tmp_path, pattern, found):
    names = ["a/1_mask.png", "a/2_mask.png", "b/u_000_19_gtFine_labelIds.png", "top_mask.png"]
    for name in [*names, "c/c_7.png", "c/d_8.png", "a/1.jpg", ".hidden/3_mask.png"]:
        write_labels(tmp_path / name, maps())
    labels = Labels.open("glob", tmp_path, pattern=pattern)
    assert {unit: labels.frames(unit) for unit in labels.videos} == found


@pytest.mark.parametrize(
    "pattern", ["{frame}.png", "{unit}.jpg", "{unit}/{name}.png", "/{unit}.png", "../{unit}.png"]
)
def test_patterns_that_say_too_little(tmp_path, pattern):
    with pytest.raises(InputError, match="pattern: got"):
        Labels.open("glob", tmp_path, pattern=pattern)


def test_a_pattern_is_needed_and_must_match(tmp_path):
    with pytest.raises(InputError, match="give pattern="):
        Labels.open("glob", tmp_path)
    with pytest.raises(StoreError, match=r"has no file like \{unit\}_x\.png"):
        Labels.open("glob", tmp_path, pattern="{unit}_x.png")


def test_cityscapes_splits_and_train_ids(tmp_path):
    write_labels(tmp_path / "gtFine/train/ulm/ulm_1_2_gtFine_labelTrainIds.png", maps(3, 19))
    write_labels(tmp_path / "gtFine/train/ulm/ulm_1_2_gtFine_color.png", maps(4))
    for root in (tmp_path, tmp_path / "gtFine"):
        labels = Labels.open("cityscapes", root, "train")
        assert (labels.videos, labels.classes) == (("ulm_1_2",), None)
        assert np.array_equal(labels.read("ulm_1_2", "ulm_1_2", classes=19), maps(3, 19))
    with pytest.raises(StoreError, match=r"has no split 'val'; choose one of train|did you mean"):
        Labels.open("cityscapes", tmp_path)


def test_a_table_without_units(tmp_path):
    write_labels(tmp_path / "m" / "x.png", maps())
    (tmp_path / "a.csv").write_text("mask,image\nm/x.png,photo_7.jpg\n")
    assert Labels.open("csv", tmp_path / "a.csv").videos == ("photo_7",)
    (tmp_path / "a.csv").write_text("mask\nm/x.png\n")
    assert Labels.open("csv", tmp_path / "a.csv").frames("x") == ["x"]
    (tmp_path / "a.csv").write_text("mask,unit,image\nm/x.png,clip,3.jpg\n")
    assert Labels.open("csv", tmp_path / "a.csv").frames("clip") == ["3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mask\n../secret.png\n", r"line 2: mask '\.\./secret\.png' does not lie below"),
        ("mask\n/etc/x.png\n", "does not lie below"),
        ("mask\nm/../../secret.png\n", "does not lie below"),
        ("mask\n\n", "has no row|does not lie below"),
        ("mask\nx.jpg\n", "is of no known format"),
        ("msk\nx.png\n", "none named 'mask'; did you mean 'msk'"),
        ("mask,unit\na.png,u\nb/a.png,u\n", r"a\.png and .*b/a\.png are both of unit 'u'"),
        ("mask\n", "has no row"),
        ("", "has columns"),
    ],
)
def test_tables_that_are_refused(tmp_path, text, message):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "list.csv").write_text(text)
    with pytest.raises((InputError, StoreError), match=message):
        Labels.open("csv", tmp_path / "d" / "list.csv")


def test_a_link_out_of_a_tables_folder_is_refused(tmp_path):
    write_labels(tmp_path / "secret.png", maps())
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "d" / "list.csv").write_text("mask\nx.png\n")
    with pytest.raises(InputError, match="a link out of its folder"):
        Labels.open("csv", tmp_path / "d" / "list.csv").read("x", "x")


def test_jpegs_are_no_masks(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(maps()).save(tmp_path / "a" / "1.jpg")
    with pytest.raises(StoreError, match="JPEG changes class ids"):
        Labels.open("flat", tmp_path / "a")
    os.rename(tmp_path / "a" / "1.jpg", tmp_path / "a" / "1.png")
    with pytest.raises(StoreError, match=r"1\.png is no PNG.*JPEG"):
        Labels.open("flat", tmp_path / "a").read("1", "1")


def test_another_size_inside_a_unit_is_found(folder):
    write_labels(folder / "clip_2" / "f2.png", maps(size=(7, 9)), overwrite=True)
    labels = Labels.folder(folder)
    with pytest.raises(InputError, match=r"f2\.png is \[7, 9\] \[H, W\], expected \[6, 9\]"):
        labels.read("clip_2", "f2", size=labels.size("clip_2"))


def test_a_folder_that_changed_is_not_another_folder(folder):
    import pickle

    labels = Labels.open("flat", folder / "clip_2")
    content = pickle.dumps(labels)
    write_labels(folder / "clip_2" / "f11.png", maps())
    with pytest.raises(StoreError, match="changed since it was opened"):
        pickle.loads(content)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5)), "holds float64 numbers"),
        (np.zeros((4, 5, 6, 7), np.uint8), r"is \[4, 5, 6, 7\]; give \[H, W\]"),
        (np.zeros((0, 5), np.uint8), r"is \[0, 5\]"),
        (np.array([[{}]], object), "is pickled, which could run code"),
    ],
)
def test_arrays_that_are_no_labels(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(StoreError, match=rf"a\.npy {message}"):
        Labels.open("flat", tmp_path).read("a", "a")


def test_an_array_is_not_believed_before_it_is_as_long_as_it_says(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (200_000, 200_000)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(StoreError, match=r"a\.npy claims \[200000, 200000\]"):
        Labels.open("flat", tmp_path).size("a")
    np.save(tmp_path / "a.npy", maps())
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes() + b"x")
    with pytest.raises(StoreError, match="bytes, its header says"):
        Labels.open("flat", tmp_path).read("a", "a")
