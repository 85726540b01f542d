"""Class names: one reader, whatever the file is called."""

from __future__ import annotations

import json

import pytest

from fusion.errors import InputError
from fusion.labels import read_classes

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
        ("c.json", b"{}", "other JSON"),
        ("c.txt", b'{"sky": 0}', "other JSON"),
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


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.txt cannot be read"):
        read_classes(tmp_path / "none.txt")
