"""Predictions as a data set stores them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from fusion.errors import InputError, StoreError
from fusion.labels import Labels, colour_map, read_class_map, write_colours, write_labels
from fusion.labels.stored_as import StoredAs

NAMES = ("sky", "road")
LABELS = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
COLOURS = {"sky": [0, 0, 9], "road": [9, 0, 0]}


def written(output, tmp_path, labels=LABELS):
    values = labels if output.stored is None else output.stored(labels)
    if values.ndim == 3:
        write_colours(tmp_path / "out.png", values, overwrite=True)
    else:
        write_labels(tmp_path / "out.png", values, palette=output.shown, overwrite=True)
    with Image.open(tmp_path / "out.png") as image:
        return np.asarray(image), image.convert("RGB")


def saved(tmp_path, config):
    (tmp_path / "map.json").write_text(json.dumps(config))
    return str(tmp_path / "map.json")


def test_class_ids_with_vspws_colours(tmp_path):
    values, shown = written(StoredAs.of(NAMES), tmp_path)
    assert np.array_equal(values, LABELS)
    assert np.array_equal(np.asarray(shown), colour_map()[LABELS])


def test_cityscapes_ids_in_its_colours(tmp_path):
    known = read_class_map("cityscapes")
    values, shown = written(StoredAs.of(known.names, "cityscapes"), tmp_path, LABELS + 13)
    assert values.tolist() == (LABELS + 26).tolist()  # car and truck
    assert shown.getpixel((0, 0)) == (0, 0, 142)
    values, shown = written(
        StoredAs.of(known.names, "cityscapes", "classes"), tmp_path, LABELS + 13
    )
    assert np.array_equal(values, LABELS + 13)
    assert shown.getpixel((0, 0)) == (0, 0, 142)
    values, _ = written(StoredAs.of(known.names, "cityscapes", "colours"), tmp_path, LABELS + 13)
    assert values[0, 0].tolist() == [0, 0, 142]


def test_colours_are_written_as_the_truth_stores_them(tmp_path):
    output = StoredAs.of(NAMES, saved(tmp_path, {"colours": COLOURS}))
    values, _ = written(output, tmp_path)
    expected = np.array([COLOURS["sky"], COLOURS["road"]])[LABELS]
    assert np.array_equal(values, expected)
    labels = Labels.open("flat", tmp_path, class_map={"colours": COLOURS})
    assert np.array_equal(labels.read("out", "out"), LABELS)


def test_classes_of_the_same_names_in_another_order(tmp_path):
    known = {"classes": {"road": 7, "sky": 300}}
    values, _ = written(StoredAs.of(NAMES, saved(tmp_path, known)), tmp_path)
    assert np.array_equal(values, np.where(LABELS == 0, 300, 7))


@pytest.mark.parametrize("palette", [COLOURS, [[0, 0, 9], [9, 0, 0]]])
def test_palettes_from_a_file(tmp_path, palette):
    (tmp_path / "palette.json").write_text(json.dumps(palette))
    place = str(tmp_path / "palette.json")
    for form in ("classes", "colours"):
        _, shown = written(StoredAs.of(NAMES, None, form, place), tmp_path)
        assert (shown.getpixel((0, 0)), shown.getpixel((1, 0))) == ((0, 0, 9), (9, 0, 0))
    known = saved(tmp_path, {"classes": {"sky": 23, "road": 7}})
    values, shown = written(StoredAs.of(NAMES, known, None, place), tmp_path)
    assert (values[0, 0], shown.getpixel((0, 0))) == (23, (0, 0, 9))


@pytest.mark.parametrize(
    ("palette", "message"),
    [
        ({"sky": [0, 0, 0]}, "'road' has no colour"),
        ({**COLOURS, "sea": [0, 0, 0]}, "'sea' is no class"),
        ([[0, 0, 0]] * 3, "has 3 colours; give at most 2"),
        ([[0, 0, 256]], "give colours as"),
        (7, "has 7; give at most 2"),
    ],
)
def test_palettes_that_are_refused(tmp_path, palette, message):
    (tmp_path / "palette.json").write_text(json.dumps(palette))
    with pytest.raises(InputError, match=message):
        StoredAs.of(NAMES, None, None, str(tmp_path / "palette.json"))
    with pytest.raises(InputError, match="palette: got 'viridis', which is no file"):
        StoredAs.of(NAMES, None, None, "viridis")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nnunet",), r"give the path of its dataset\.json"),
        (("bits",), "bits overlap, and a label map has one class a pixel"),
        (("cityscapes",), "got 19 classes, the ensemble has 2"),
        ((None, "stored"), "got stored without a class map"),
    ],
)
def test_maps_that_cannot_be_written(arguments, message):
    with pytest.raises(InputError, match=message):
        StoredAs.of(NAMES, *arguments)


def test_void_without_a_value_is_refused(tmp_path):
    output = StoredAs.of(NAMES, "binary")
    with pytest.raises(InputError, match="no value stands for void"):
        written(output, tmp_path, np.full((2, 2), 255, np.uint8))
    assert not list(tmp_path.iterdir())


def test_colours_appear_whole_or_not_at_all(tmp_path):
    write_colours(tmp_path / "a.png", np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(StoreError, match=r"a\.png is taken"):
        write_colours(tmp_path / "a.png", np.zeros((2, 3, 3), np.uint8))
    for wrong in (np.zeros((2, 3), np.uint8), np.zeros((2, 3, 3)), np.zeros((0, 3, 3), np.uint8)):
        with pytest.raises(InputError, match="write_colours: got"):
            write_colours(tmp_path / "b.png", wrong)
