"""What a person sees of a store: its repr, and its table in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from fusion.stores import LogitStore, LogitWriter
from tests.stores.common import CLIP, write

HOSTILE = "<script>alert(1)</script>&\"'\x1b[2J\n\u202e"


class Reader(HTMLParser):
    """Tags and texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.texts = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        assert attributes == []

    def handle_data(self, data):
        self.texts.append(data)


def test_repr(tmp_path):
    writer = LogitWriter(tmp_path / "s.zarr", ["a", "b"], values="sigmoid", model="swin")
    kept = "compact, sigmoid of 2 classes, model 'swin'"
    assert repr(writer) == f"LogitWriter('{tmp_path}/s.zarr': {kept})"
    assert "\n" not in repr(writer)


TAGS = {"table", "caption", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize("packed", [False, True])
def test_a_notebook_shows_a_small_table(tmp_path, packed):
    path = write(tmp_path / "s.zarr", dict.fromkeys("abcdefghij", CLIP), packed=packed)
    store = Reader(LogitStore(path)._repr_html_())
    assert store.tags == TAGS
    caption = f"{LogitStore(path)!r}: classes class 0, class 1, class 2, class 3; 3 more videos"
    assert store.texts[0] == caption
    assert store.texts[4:7] == ["a", "3", "x".join(map(str, CLIP[0].shape))]
    writer = Reader(LogitWriter(path, [f"class {c}" for c in range(4)])._repr_html_())
    assert writer.tags == TAGS
    assert writer.texts[0] == f"LogitWriter {path}"
    assert "4: class 0, class 1, class 2, class 3" in writer.texts


def test_hostile_names_are_text(tmp_path):
    names = [f"{HOSTILE}{c}" for c in range(4)]
    path = write(tmp_path / "s.zarr", {HOSTILE: CLIP}, classes=names, model=HOSTILE * 100)
    for thing in (LogitStore(path), LogitWriter(path, names, model=HOSTILE * 100)):
        text = thing._repr_html_()
        assert Reader(text).tags == TAGS
        assert not {"\x1b", "\u202e", "\n"} & set(text)
        assert len(text) < 5000
