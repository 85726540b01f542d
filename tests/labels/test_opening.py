"""Which layout a place is, what is said of it, and names that do not match."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from fusion.errors import InputError, StoreError
from fusion.labels import Labels, write_labels
from fusion.labels.layouts import LAYOUTS, recognised
from fusion.labels.matching import check_names, mismatch
from fusion.text import bare
from tests.labels.contract import maps


def write(root, *names):
    for name in names:
        write_labels(root / name, maps())
    return root


def test_a_place_that_may_be_several_layouts(tmp_path):
    write(tmp_path, "a/1.png", "b.png")
    with pytest.raises(InputError, match=r"may be folder \(.*\), flat \(.*\); say which") as error:
        Labels.open("auto", tmp_path)
    assert "layout=NAME" in str(error.value)
    assert Labels.open("flat", tmp_path).videos == ("b",)


def test_a_place_of_no_known_layout(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(InputError, match="is of no known layout") as error:
        Labels.open("auto", tmp_path)
    assert all(f"{name}: " in str(error.value) for name in LAYOUTS)
    with pytest.raises(StoreError, match=r"does not exist; did you mean 'notes\.txt'"):
        Labels.open("auto", tmp_path / "note.txt")


def test_what_a_data_set_says_of_itself_comes_first(tmp_path):
    write(tmp_path, "labelsTr/a.png", "labelsTr/b.png")
    assert recognised(tmp_path) == "folder"
    document = {"labels": {"background": 0}, "file_ending": ".png"}
    (tmp_path / "dataset.json").write_text(json.dumps(document))
    assert recognised(tmp_path) == "nnunet"


def test_splits_are_subfolders(tmp_path):
    write(tmp_path, "train/a.png", "val/b.png", "val/c.png")
    assert Labels.open("auto", tmp_path, "val").videos == ("b", "c")
    assert Labels.open("flat", tmp_path, "train").videos == ("a",)
    assert Labels.open("auto", tmp_path / "val", "val").videos == ("b", "c")
    with pytest.raises((StoreError, InputError), match="test"):
        Labels.open("flat", tmp_path, "test")
    assert Labels.open("auto", tmp_path).videos == ("train", "val")  # folders, as before


def test_a_split_that_a_release_does_not_have(tmp_path):
    """It is recognised by what it has, and says which splits those are."""
    write(tmp_path, "gtFine/train/ulm/ulm_0_1_gtFine_labelIds.png")
    for split in ("trian", "val"):
        with pytest.raises(StoreError, match=rf"gtFine has no split '{split}'; .*'?train'?"):
            Labels.open("auto", tmp_path, split)
    assert recognised(tmp_path, "train") == "cityscapes"


def test_a_pattern_is_a_layout(tmp_path):
    write(tmp_path, "x/a_1_gt.png")
    labels = Labels.open("auto", tmp_path, pattern="*/{unit}_{frame}_gt.png")
    assert (labels.layout, labels.frames("a")) == ("glob", ["1"])
    with pytest.raises(InputError, match="layout folder: got pattern=x; it takes none"):
        Labels.open("folder", tmp_path, pattern="x")


def test_labels_say_what_they_are(tmp_path):
    root = write(tmp_path, *(f"v{n}/{f}.png" for n in range(12) for f in "01"))
    labels = Labels.folder(root, classes=11)
    assert labels.summary() == "folder layout, 12 videos, 24 frames: v0, v1, v2, ..."
    assert repr(labels) == f"Labels('folder', '{root}'; 12 videos, 11 classes)"
    html = Labels.open("vspw", _vspw(tmp_path / "x<y>"))._repr_html_()
    assert len(html.splitlines()) <= 10
    assert "x&lt;y&gt;" in html
    assert "class_000, " in html


def _vspw(root):
    write(root, "data/v/mask/1.png")
    (root / "val.txt").write_text("v\n")
    return root


def test_many_units_are_listed_without_opening_one(tmp_path):
    for n in range(300):
        (tmp_path / f"{n}.png").write_bytes(b"")  # reading any would fail
    labels = Labels.open("auto", tmp_path)
    assert labels.videos[:3] == ("0", "1", "2")
    assert len(labels.frames("299")) == 1
    with pytest.raises(StoreError, match=r"299\.png is no PNG"):
        labels.size("299")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aachen_000000_000019_gtFine_labelIds", "aachen_000000_000019"),
        ("aachen_000000_000019_leftImg8bit", "aachen_000000_000019"),
        ("Case_01_Mask.PNG", "case_01"),
        ("brats_001_seg.nii.gz", "brats_001"),
        ("x_0000", "x"),
        ("frame_12", "frame_12"),
    ],
)
def test_plain_names(name, expected):
    assert bare(name) == expected


def test_names_that_differ_by_a_suffix():
    labels, stores = [f"a_{n}_gtFine_labelIds" for n in range(5)], [f"A_{n}" for n in range(6)]
    text = str(mismatch(labels, stores, "videos", intersect=True))
    assert "share no video: labels have 5 ('a_0_gtFine_labelIds', " in text
    assert "stores 6 ('A_0', 'A_1', 'A_2', ...)" in text
    assert "but for suffix, extension or case 5 agree" in text
    assert "(labels 'a_0_gtFine_labelIds', stores 'A_0')" in text
    assert "intersect" not in text  # it would leave nothing


def test_names_that_are_missing():
    labels, stores = [f"v{n}" for n in range(10)], [f"v{n}" for n in range(3, 20)]
    text = str(mismatch(labels, stores, "videos", intersect=True))
    assert "labels hold 3 of 10 videos that no store has: 'v0', 'v1', 'v2'; stores have 17" in text
    assert "or align='intersect' to score the 7 that both have" in text
    few = str(mismatch(labels, ["v0", *"abcdefghijk"], "videos", intersect=True))
    assert "intersect" not in few  # one of ten is no score of these labels
    assert "intersect" not in str(mismatch(labels, stores, "videos", intersect=False))
    near = str(mismatch(["clip_3"], ["clip-3"], "videos", intersect=True))
    assert "did you mean 'clip-3' for 'clip_3'? give labels and stores" in near


def test_classes_in_another_order_are_an_error():
    known = {"classes": {"sky": 1, "road": 0}}
    labels = Labels.from_arrays({"a": np.zeros((2, 3), int)}, class_map=known)
    check_names(labels, ("sky", "road"))
    check_names(labels, ("ciel", "rue"))
    with pytest.raises(InputError, match="class 0 is 'sky' in the labels' class map, 'road' here"):
        check_names(labels, ("road", "sky"))


def test_what_cannot_be_listed_is_one_sentence(tmp_path, monkeypatch):
    root = write(tmp_path, "v/1.png")
    labels = Labels.folder(root)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(StoreError, match=rf"{root} cannot be read \(Permission denied\)"):
        Labels.open("auto", root)
    with pytest.raises(StoreError, match=r"v cannot be read \(Permission denied\)"):
        labels.frames("v")
