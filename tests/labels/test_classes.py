"""Class names: one reader, whatever the file is called, and those that VSPW brings."""

from __future__ import annotations

import json
import pickle

import pytest

from fusion.errors import InputError
from fusion.labels import LAYOUTS, Labels, read_classes

NAMES = ["sky", "road, wet", "car"]


@pytest.mark.parametrize("suffix", ["json", "txt", "names"])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_json_list_is_one_under_any_name(tmp_path, suffix, indent):
    path = tmp_path / f"classes.{suffix}"
    path.write_text(json.dumps(NAMES, indent=indent) + "\n")
    assert read_classes(path) == read_classes(str(path)) == NAMES


def test_one_name_a_line(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("\ufeff sky \n\nroad, wet\r\n[car]", encoding="utf-8")
    assert read_classes(path) == ["sky", "road, wet", "[car]"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.json", b"{}", "0 names"),
        ("c.json", b"3", "other JSON"),
        ("c.txt", b'["sky" "road"]', "cannot be read"),
        ("c.txt", b'["sky"', "cannot be read"),
        ("c.json", b"sky\nroad", "cannot be read"),
        ("c.txt", b'["sky", 3]', "other JSON"),
        ("c.txt", b"\xff\xfe\xff", "cannot be read"),
        ("c.txt", b" \n", "0 names"),
        ("c.txt", b"[]", "0 names"),
        ("c.txt", b"sky\nsky", "2 names, 1 different"),
    ],
)
def test_what_is_no_list_of_names(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}.*{message}"):
        read_classes(tmp_path / name)


@pytest.mark.parametrize("suffix", ["json", "txt"])
@pytest.mark.parametrize("said", [str, int])
def test_names_by_number_as_vspw_has_them(tmp_path, suffix, said):
    """label_num_dic_final.json: text for numbers, void among the classes, in any order."""
    numbers = {"wall": 1, "window": 3, "others": 0, "train": 4, "door": 2}
    path = tmp_path / f"label_num_dic_final.{suffix}"
    path.write_text(json.dumps({name: said(number) for name, number in numbers.items()}))
    assert read_classes(path) == ["wall", "door", "window", "train"]
    path.write_text(json.dumps({"b": said(2), "void": said(255), "a": said(1)}))
    assert read_classes(path) == ["a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"sky": "1", "road": "1"}', "has number 1 twice, of 'sky' and of 'road'; give each"),
        ('{"sky": 1, "road": "01"}', "has number 1 twice"),
        ('{"sky": 0, "others": "0", "road": 1}', "has number 0 twice, of 'sky' and of 'others'"),
        ('{"sky": "1", "road": "3", "others": "0"}', "has 2 classes and none of number 2; number"),
        ('{"sky": -1, "road": 1}', "has 2 classes and none of number 2"),
        ('{"road": 0, "sky": 1}', r"'road' has number 0, which is void .* number classes from 1"),
        ('{"others": "0"}', "has 0 names"),
        ('{"sky": 1, "sky": 2}', r"cannot be read \(it has 'sky' twice\)"),
        ('{"sky": 1.0}', "other JSON .'sky' is 1.0, no number"),
        ('{"sky": true}', "no number"),
        ('{"sky": "one"}', "'sky' is 'one', no number"),
        ('{"sky": "\u0661"}', "no number"),
        ('{"sky": ""}', "no number"),
        ('{"sky": null}', "no number"),
        ('{"classes": {"sky": 1}}', "no number"),
    ],
)
def test_numbers_that_are_none_of_classes(tmp_path, content, message):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(InputError, match=rf"c\.json.* ?{message}"):
        read_classes(tmp_path / "c.json")


def test_vspw_classes_are_called_as_the_release_says(vspw):
    bare = Labels.vspw(vspw)
    assert (bare.names[0], bare.names[123]) == ("class_000", "class_123")
    numbers = {f"thing {c}": str(c) for c in range(124, 0, -1)} | {"others": "0"}
    (vspw / "label_num_dic_final.json").write_text(json.dumps(numbers))
    labels = Labels.vspw(vspw)
    assert labels.names == tuple(f"thing {c}" for c in range(1, 125))
    # stored 1, 2, 124, 7, which are ids 0, 1, 123, 6; what is read has not changed
    read = labels.read("9_b", "00000001")
    assert [labels.names[c] for c in read[read != 255]] == [
        *("thing 1", "thing 2", "thing 124", "thing 7")
    ]
    assert labels.digest() == bare.digest()
    assert pickle.loads(pickle.dumps(labels)).names == labels.names
    assert LAYOUTS["vspw"].class_names(vspw) == labels.names
    del numbers["thing 124"]
    (vspw / "label_num_dic_final.json").write_text(json.dumps(numbers))
    with pytest.raises(InputError, match=r"final\.json has 123 classes, VSPW has 124; restore or"):
        Labels.vspw(vspw)


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.txt cannot be read"):
        read_classes(tmp_path / "none.txt")
