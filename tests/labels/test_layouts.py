"""The layouts, each by the contract, and what is its own."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fusion.errors import InputError, StoreError
from fusion.labels import LAYOUTS, Labels, Layout, write_labels
from tests.labels.contract import LayoutContract, maps


class TestFolder(LayoutContract):
    layout = "folder"


class TestVspw(LayoutContract):
    layout = "vspw"

    def stored(self, ids):
        return np.where(ids == 255, 0, ids + 1).astype(np.uint8)

    def finish(self, root, videos):
        (root / "val.txt").write_text("\n".join(videos))


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
    rule = LAYOUTS["vspw"]
    assert rule.images(vspw, "9_b") == vspw / "data" / "9_b" / "origin"
    assert rule.masks(vspw, "9_b") == vspw / "data" / "9_b" / "mask"


def test_videos_without_masks_are_videos_all_the_same(folder, vspw):
    assert {"clip_2", "clip_10", "empty"} <= set(LAYOUTS["folder"].videos(folder, None))
    (vspw / "test.txt").write_text("9_b\nno_masks\n")
    assert LAYOUTS["vspw"].videos(vspw, "test") == ("9_b", "no_masks")


def test_a_new_layout_is_a_class_and_a_name(tmp_path, monkeypatch):
    class Flat(Layout):
        """Masks of all videos in folders <video>.masks, upside down in value."""

        classes = 4

        def videos(self, root, split):
            return tuple(sorted(path.stem for path in root.glob("*.masks")))

        labelled = videos

        def masks(self, root, video):
            return root / f"{video}.masks"

        def ids(self, stored, void):
            return np.where(stored == void, stored, 3 - stored)

    monkeypatch.setitem(LAYOUTS, "flat", Flat())
    write_labels(tmp_path / "a.masks" / "1.png", np.array([[0, 3, 255]], np.uint8))
    labels = Labels.open("flat", tmp_path)
    assert (labels.videos, labels.classes) == (("a",), 4)
    assert labels.read("a", "1").tolist() == [[3, 0, 255]]
    with pytest.raises(InputError, match="layout: got 'flatt'; did you mean 'flat'"):
        Labels.open("flatt", tmp_path)
