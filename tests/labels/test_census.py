"""The census: what the labels hold, and when to doubt scores on them."""

from __future__ import annotations

import numpy as np
import pytest

from fusion.labels import Census, Labels, write_labels
from fusion.labels.census import outside_values

BINARY = ("background", "cell")


def test_sound_labels_are_one_line():
    census = Census(3, 12, 230_400, np.array([100_000, 89_165]), BINARY)
    amount = "labels: 3 videos, 12 frames, 230,400 pixels"
    assert census.line() == census.text() == f"{amount}: 2 of 2 classes occur, 17.90 % void"
    assert census.warnings() == []


def test_masks_of_0_and_255():
    census = Census(1, 1, 1000, [194, 0], BINARY)
    absent, doubt = census.warnings()
    assert census.text().splitlines() == [census.line(), absent, doubt]
    assert "1 of 2 classes never occur: cell;" in absent
    assert "80.60 % of the pixels are void" in doubt
    assert "every pixel that is not void is 'background'" in doubt
    assert "masks of 0 and 255 need another foreground value" in doubt


def test_mostly_background_in_masks_of_0_and_255():
    doubt = Census(1, 1, 1000, [806, 0], BINARY).warnings()[1]
    assert "never count" not in doubt
    assert "every pixel that is not void is 'background'" in doubt
    assert "masks of 0 and 255 need another foreground value" in doubt


@pytest.mark.parametrize(("counted", "warned"), [(501, False), (500, False), (499, True)])
def test_more_than_half_void(counted, warned):
    found = Census(1, 1, 1000, [counted - 1, 1], BINARY).warnings()
    assert [("are void and never count" in line) for line in found] == [True] * warned


def test_classes_that_never_occur_are_named():
    names = [f"c{k}" for k in range(9)]
    (line,) = Census(1, 1, 20, [0, 10, 0, 10, 0, 0, 0, 0, 0], names).warnings()
    assert "7 of 9 classes never occur: c0, c2, c4, c5, c6, ...;" in line


def test_one_class_is_no_doubt_where_there_is_one_only():
    assert Census(1, 1, 20, [20], ["road"]).warnings() == []
    (line,) = Census(1, 1, 20, [20, 0], BINARY).warnings()[1:]
    assert "predicting it everywhere scores 100 %" in line
    assert "255" not in line  # nothing is void here


def test_no_pixel_at_all():
    census = Census(0, 0, 0, [0, 0], BINARY)
    assert "0 of 2 classes occur, nan % void" in census.line()
    assert len(census.warnings()) == 1


def test_void_is_65535_beyond_255_classes():
    names = [f"c{k}" for k in range(300)]
    (line,) = Census(1, 1, 1000, [1] * 300, names).warnings()
    assert "65535 is void" in line


def test_values_outside_the_classes_are_counted(tmp_path):
    write_labels(tmp_path / "a" / "1.png", np.array([[0, 1, 9, 255]], np.uint8))
    write_labels(tmp_path / "a" / "2.png", np.array([[200, 9, 9, 1]], np.uint8))
    write_labels(tmp_path / "b" / "1.png", np.array([[9, 0]], np.uint8))
    write_labels(tmp_path / "c" / "1.png", np.array([[77, 0]], np.uint8))
    loose, strict = (Labels.folder(tmp_path, stray=rule) for rule in ("void", "error"))
    found = outside_values(loose, ["a", "b"], 2)
    assert found == {9: 4, 200: 1}
    assert outside_values(strict, ["a", "b"], 2) == {}
    (line,) = Census(2, 3, 10, [3, 2], BINARY, found).warnings()
    assert line.endswith("were read as void: 9 (4 pixels), 200 (1 pixels)")


def test_many_pixels_in_no_class_are_loud():
    few = Census(1, 1, 1000, [600, 390], BINARY, {9: 10})
    many = Census(1, 1, 1000, [600, 380], BINARY, {9: 10, 7: 10})
    colours = Census(1, 1, 1000, [600, 380], BINARY, {(1, 2, 3): 20})
    loud = "warning: labels: 2.00 % OF ALL PIXELS ARE IN NO CLASS: the labels may need a class map"
    assert "OF ALL" not in few.text()
    assert many.warnings()[-1].startswith(loud)
    assert colours.warnings()[-1].endswith("were read as void: (1, 2, 3) (20 pixels)")
    assert "OF ALL" not in Census(1, 1, 250, [150, 97], BINARY, {9: 10}, stride=2).text()
