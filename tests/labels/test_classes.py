"""Class lists on disk: JSON or one name a line, told by suffix or content."""

from __future__ import annotations

import json

import pytest

from fusion.errors import InputError
from fusion.labels.classes import read_classes

NAMES = ["sky", "road", "car", "tree"]


def test_class_lists(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(NAMES))
    (tmp_path / "c.txt").write_text(" sky \n\nroad\r\ncar\ntree")
    (tmp_path / "j.txt").write_text("\n " + json.dumps(NAMES, indent=1))
    for name in ("c.json", "c.txt", "j.txt"):
        assert read_classes(tmp_path / name) == NAMES
    (tmp_path / "d.json").write_text("{}")
    (tmp_path / "e.txt").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "f.txt").write_text('["sky"')
    for name in ("d.json", "e.txt", "f.txt", "missing.txt"):
        with pytest.raises(InputError, match=name):
            read_classes(tmp_path / name)
