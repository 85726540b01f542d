"""Readers of images and masks, and what damaged data say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fusion.errors import InputError, StoreError
from fusion.labels import write_labels
from fusion.models.data.clips import DEVIATION, MEAN, Clips, standardised
from fusion.models.data.source import Source


def test_vspw_is_read_as_its_masks_say(vspw):
    clips = Clips.vspw(vspw, "train")
    assert len(clips.videos) == 6
    assert len(clips.classes) == 124
    video, frame = clips.labelled()[0]
    image, mask = clips.pair(video, frame)
    stored = np.array(Image.open(vspw / "data" / video / "mask" / f"{frame}.png"))
    assert image.size == mask.shape[::-1] == (96, 64)
    void = (stored == 0) | (stored == 255)
    np.testing.assert_array_equal(mask, np.where(void, 255, stored.astype(int) - 1))
    assert Clips.vspw(vspw, "test", labelled=False).videos == Clips.vspw(vspw, "test").videos


def test_folders_read_the_same_as_vspw(vspw, tmp_path):
    clips = Clips.vspw(vspw, "val")
    for video in clips.videos:
        shutil.copytree(vspw / "data" / video / "origin", tmp_path / "images" / video)
        for frame in clips.frames(video):
            write_labels(tmp_path / "labels" / video / f"{frame}.png", clips.pair(video, frame)[1])
    other = Clips.folder(tmp_path / "images", tmp_path / "labels", classes=clips.classes)
    assert other.labelled() == clips.labelled()
    for video, frame in clips.labelled():
        (left, mask), (right, twin) = other.pair(video, frame), clips.pair(video, frame)
        assert left.tobytes() == right.tobytes()
        np.testing.assert_array_equal(mask, twin)


def test_standardised_by_hand():
    found = standardised(Image.new("RGB", (2, 1), (255, 0, 51)))
    expected = (torch.tensor([1.0, 0.0, 0.2]) - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
    torch.testing.assert_close(found[:, 0, 1], expected)


def test_missing_image(folder, clips):
    (folder / "images" / "clip" / "1.png").unlink()
    got = r"1 of 2 masks have no image; the first: .* of unit 'clip', frame '1'.*; restore the"
    with pytest.raises(InputError, match=got):
        clips.labelled()
    with pytest.raises(StoreError, match="has no picture of unit 'clip', frame '1'"):
        clips.image("clip", "1")


def test_missing_mask_is_only_left_out_of_training(folder, clips):
    (folder / "labels" / "clip" / "1.png").unlink()
    assert clips.labelled() == [("clip", "0")]
    assert clips.frames("clip") == ["0", "1"]


def test_sizes_differ(folder, clips):
    write_labels(folder / "labels" / "clip" / "0.png", np.zeros((40, 49), np.uint8), overwrite=True)
    with pytest.raises(InputError, match="video 'clip', frame '0': image 40x50, mask 40x49"):
        clips.pair("clip", "0")


def test_unknown_class(clips):
    with pytest.raises(InputError, match=r"0\.png holds 2 outside 0\.\.1"):
        replace(clips, classes=("a", "b")).pair("clip", "0")


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_corrupted_jpeg(vspw, tmp_path, damage):
    video = Clips.vspw(vspw, "val").videos[0]
    content = next((vspw / "data" / video / "origin").glob("*.jpg")).read_bytes()
    path = tmp_path / "broken.jpg"
    garbage = b"\xff\xd8" + bytes(100)
    damaged = {"truncated": content[: len(content) // 2], "garbage": garbage, "empty": b""}
    path.write_bytes(damaged[damage])
    got = r"images: .*broken\.jpg cannot be decoded .*; restore the file"
    with pytest.raises(StoreError, match=got):
        Clips.folder(tmp_path, classes="a").image("broken", "broken")


def test_two_files_of_one_frame(folder, clips):
    shutil.copy(folder / "images" / "clip" / "0.png", folder / "images" / "clip" / "0.jpg")
    with pytest.raises(StoreError, match="3 pictures, 2 different ids"):
        clips.frames("clip")
    with pytest.raises(InputError, match=r"may be clip/0\.(jpg|png), clip/0\.(jpg|png); keep one"):
        clips.labelled()


def test_classes_of_a_release_with_masks_and_without(vspw, tmp_path):
    root = shutil.copytree(vspw, tmp_path / "release")
    numbers = {f"thing {c}": str(c) for c in range(1, 125)} | {"others": "0"}
    path = root / "label_num_dic_final.json"
    path.write_text(json.dumps(numbers))
    names = tuple(f"thing {c}" for c in range(1, 125))
    for labelled in (True, False):
        assert Clips.vspw(root, "test", labelled=labelled).classes == names
        assert Clips.vspw(vspw, "test", labelled=labelled).classes[:1] == ("class_000",)
        assert Source(root=str(root), split="test").open(labelled=labelled).classes == names
        other = Source(vspw=str(vspw), split="test", classes=str(path)).open(labelled=labelled)
        assert other.classes == names


def test_number_of_class_names(vspw):
    with pytest.raises(InputError, match="got 2 names, the class map has 124"):
        Clips.vspw(vspw, classes=("a", "b"))
