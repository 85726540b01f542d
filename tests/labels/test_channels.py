"""Targets of independent channels, by hand and against slow loops."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.labels import Labels, write_colours, write_labels


def one(tmp_path, mask, **options):
    write_labels(tmp_path / "v" / "1.png", np.array(mask), overwrite=True)
    return Labels.folder(tmp_path, **options)


def test_a_mask_of_0_and_1_is_one_channel(tmp_path):
    labels = one(tmp_path, np.array([[0, 1, 255, 0]], np.uint8))
    made = labels.channels("v", "1", 1)
    assert (made.dtype, made.tolist()) == (np.uint8, [[[0, 1, 255, 0]]])
    assert labels.channels("v", "1", ["cell"]).tolist() == made.tolist()
    with pytest.raises(InputError, match=r"1\.png is \[1, 4\] \[H, W\], expected \[4, 1\]"):
        labels.channels("v", "1", 1, size=(4, 1))
    with pytest.raises(InputError, match=r"1\.png holds ids, 3 channels are wanted; give a class"):
        labels.channels("v", "1", 3)
    labels = one(tmp_path, np.array([[0, 1, 2, 2]], np.uint8))
    with pytest.raises(InputError, match="holds 2 outside 0, 1 and 255: 2 has 2 pixels"):
        labels.channels("v", "1", 1)
    labels = one(tmp_path, np.array([[0, 1, 2, 2]], np.uint8), stray="void")
    assert labels.channels("v", "1", 1).tolist() == [[[0, 1, 255, 255]]]


@pytest.mark.parametrize("mask", [[[0, 255, 0]], [[255, 255, 255]]])
def test_masks_of_0_and_255_ask_what_255_is(tmp_path, mask):
    mask = np.array(mask, np.uint8)
    with pytest.raises(InputError) as error:
        one(tmp_path, mask).channels("v", "1", 1)
    assert "class_map='binary' makes 255 the foreground" in str(error.value)
    assert "class_map='binary-void' void" in str(error.value)
    binary = one(tmp_path, mask, class_map="binary").channels("v", "1", 1)
    assert binary.tolist() == [(mask == 255).astype(int).tolist()]
    void = one(tmp_path, mask, class_map="binary-void").channels("v", "1", 1)
    assert void.tolist() == [mask.tolist()]
    assert one(tmp_path, mask * 0).channels("v", "1", 1).sum() == 0


def test_binary_is_two_classes_or_one_channel(tmp_path):
    labels = one(tmp_path, np.array([[0, 1, 255, 7]], np.uint8), class_map="binary", stray="void")
    assert labels.channels("v", "1", 1).tolist() == [[[0, 1, 1, 255]]]
    assert labels.channels("v", "1", 2).tolist() == [[[1, 0, 0, 255]], [[0, 1, 1, 255]]]
    assert labels.channels("v", "1", ["background"]).tolist() == [[[1, 0, 0, 255]]]
    assert labels.read("v", "1").tolist() == [[0, 1, 1, 255]]


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 16)])
def test_bits(tmp_path, dtype, bits):
    mask = np.random.default_rng(0).integers(0, 2**bits, (5, 7)).astype(dtype)
    made = one(tmp_path, mask, class_map="bits").channels("v", "1", bits)
    for channel in range(bits):
        assert np.array_equal(made[channel], mask // 2**channel % 2)
    mask[0, 0] = 2**bits - 1
    with pytest.raises(InputError, match=r"holds .* outside bits 0\.\.2: "):
        one(tmp_path, mask, class_map="bits").channels("v", "1", 3)
    with pytest.raises(InputError, match="a mask has 16 bits at most, 17 are wanted"):
        one(tmp_path, mask, class_map="bits").channels("v", "1", 17)
    with pytest.raises(InputError, match="bits overlap; read channels"):
        one(tmp_path, mask, class_map="bits").read("v", "1")


def test_named_bits_and_back(tmp_path):
    known = {"bits": {"cloud": 0, "shadow": 3}, "void": [128]}
    labels = one(tmp_path, np.array([[0, 1, 8, 9, 128]], np.uint8), class_map=known)
    made = labels.channels("v", "1", 2)
    assert made.tolist() == [[[0, 1, 0, 1, 255]], [[0, 0, 1, 1, 255]]]
    assert labels.channels("v", "1", ["shadow"]).tolist() == made[1:].tolist()
    assert labels.class_map.stored(made[..., :4]).tolist() == [[0, 1, 8, 9]]
    with pytest.raises(InputError, match="channels hold other values than 0 and 1"):
        labels.class_map.stored(made)
    with pytest.raises(InputError, match=r"holds 2 outside bits 0\.\.3"):
        one(tmp_path, np.array([[2]], np.uint8), class_map=known).channels("v", "1", 2)


def test_regions_overlap(tmp_path):
    known = {"regions": {"whole": [1, 2, 3], "core": [2, 3]}, "void": [255]}
    mask = np.array([[0, 1, 2, 3, 255]], np.uint8)
    labels = one(tmp_path, mask, class_map=known)
    assert labels.channels("v", "1", 2).tolist() == [[[0, 1, 1, 1, 255]], [[0, 0, 1, 1, 255]]]
    assert labels.channels("v", "1", ["core", "whole"])[0].tolist() == [[0, 0, 1, 1, 255]]
    with pytest.raises(InputError, match=r"the class map has 2 classes .*, 3 are wanted"):
        labels.channels("v", "1", 3)
    with pytest.raises(InputError, match="holds 9 outside"):
        one(tmp_path, mask * 0 + 9, class_map=known).channels("v", "1", 2)
    with pytest.raises(InputError, match='add "order"'):
        labels.class_map.stored(np.zeros((2, 3, 4), np.uint8))
    listed = {**known, "background": [0, 9]}
    assert one(tmp_path, mask * 0 + 9, class_map=listed).channels("v", "1", 2).sum() == 0


def test_classes_are_one_channel_each(tmp_path):
    known = {"classes": {"a": 4, "b": [5, 6], "c": 7}, "void": 0}
    mask = np.random.default_rng(0).choice([0, 4, 5, 6, 7], (6, 8)).astype(np.uint8)
    made = one(tmp_path, mask, class_map=known).channels("v", "1", 3)
    for channel, ids in enumerate(([4], [5, 6], [7])):
        expected = np.where(mask == 0, 255, np.isin(mask, ids))
        assert np.array_equal(made[channel], expected)
    some = one(tmp_path, mask, class_map=known).channels("v", "1", ["c", "a"])
    assert np.array_equal(some, made[[2, 0]])


def test_colours_are_channels_too(tmp_path):
    shown = np.array([[[0, 0, 9], [9, 0, 0], [0, 0, 0]]], np.uint8)
    write_colours(tmp_path / "v" / "1.png", shown)
    known = {"colours": {"sea": [0, 0, 9], "fire": [9, 0, 0]}, "void": [[0, 0, 0]]}
    made = Labels.folder(tmp_path, class_map=known).channels("v", "1", 2)
    assert made.tolist() == [[[1, 0, 255]], [[0, 1, 255]]]


def test_stored_channels(tmp_path):
    made = np.random.default_rng(0).integers(0, 2, (3, 8, 9)).astype(np.uint8)
    made[0, 0] = 255
    (tmp_path / "v").mkdir()
    for name, array in (("1", made), ("2", np.moveaxis(made, 0, -1)), ("3", made == 1)):
        np.save(tmp_path / "v" / f"{name}.npy", array)
    labels = Labels.folder(tmp_path)
    for name in ("1", "2"):
        assert labels.size("v", name) == (8, 9)
        assert np.array_equal(labels.channels("v", name, 3), made)
    assert np.array_equal(labels.channels("v", "3", 3), made == 1)
    with pytest.raises(InputError, match=r"1\.npy holds 3 channels, 4 are wanted"):
        labels.channels("v", "1", 4)
    made[0, 1, 0] = 1
    np.save(tmp_path / "v" / "1.npy", np.where(made == 1, 2, made))
    with pytest.raises(InputError, match=r"no 1, and channels are .*: write 1 where"):
        labels.channels("v", "1", 3)
    made[0, 2, 0] = 2
    np.save(tmp_path / "v" / "1.npy", made)
    with pytest.raises(InputError, match=r"holds 2 outside 0, 1 and 255: 2 has 1 pixels"):
        labels.channels("v", "1", 3)
    with pytest.raises(InputError, match="no video 'w'"):
        labels.channels("w", "1", 3)
