"""Pictures are found where data sets keep them, and read as they are."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fusion.errors import InputError, StoreError
from fusion.images import Images


def save(path, value, size=(4, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


@pytest.mark.parametrize(
    ("file", "unit", "frame"),
    [
        ("clip/0001.png", "clip", "0001"),
        ("clip/0001_leftImg8bit.png", "clip", "0001"),
        ("data/clip/origin/0001.png", "clip", "0001"),
        ("image.png", "image", "image"),
        ("image.bmp", "image", "0"),
        ("leftImg8bit/val/ulm/ulm_01_leftImg8bit.png", "ulm_01", "ulm_01"),
    ],
)
def test_pictures_are_found_by_id(tmp_path, file, unit, frame):
    save(tmp_path / file, 7)
    save(tmp_path / "other" / "picture.png", 9)
    picture = Images(tmp_path).read(unit, frame, size=(4, 6))
    assert picture.shape == (4, 6, 3)
    assert picture.dtype == np.uint8
    assert (picture == 7).all()


def test_grey_pictures_have_three_channels(tmp_path):
    Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6)).save(tmp_path / "a.png")
    assert (Images(tmp_path).read("a", "a")[..., 2].ravel() == np.arange(24)).all()


@pytest.mark.parametrize(
    ("unit", "frame", "error", "words"),
    [
        ("clip", "0002", StoreError, "has no picture of unit 'clip', frame '0002'; did you mean"),
        ("../clip", "0002", StoreError, "no picture"),
        ("cut", "0001", StoreError, "cannot be read"),
        ("two", "0001", StoreError, "keep one of them"),
        ("small", "0001", InputError, "got 2x2, its labels are 4x6; give pictures of the labels'"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path, unit, frame, error, words):
    save(tmp_path / "clip" / "0001.png", 7)
    save(tmp_path / "small" / "0001.png", 7, (2, 2))
    save(tmp_path / "two" / "0001_img.png", 7)
    save(tmp_path / "two" / "0001_image.png", 7)
    save(tmp_path / "cut" / "0001.png", 7)
    whole = (tmp_path / "cut" / "0001.png").read_bytes()
    (tmp_path / "cut" / "0001.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(error, match=words) as caught:
        Images(tmp_path).read(unit, frame, size=(4, 6))
    assert "\n" not in str(caught.value)


def test_no_folder_is_refused(tmp_path):
    with pytest.raises(StoreError, match="is no folder"):
        Images(tmp_path / "none")
