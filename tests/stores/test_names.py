"""Names: video ids that try to escape, misspelt paths and videos; and reading makes no file."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from fusion import cli
from fusion.errors import InputError, StoreError
from fusion.stores import LogitStore, LogitWriter
from fusion.stores import __main__ as commands
from fusion.stores.format import video_key
from fusion.stores.maintenance import gc, verify
from tests.stores.common import CLIP, problems, write

NAMES = [
    *("../../x", "/abs", "..", ".", "", " ", "a/b", "a\\b", "C:", "NUL\0byte", "new\nline", "*"),
    *("CON", "con", "Con.txt", "x" * 300, "x" * 301, "Straße", "STRASSE", "日本", "\u202e", "~"),
    *(unicodedata.normalize(form, "é") for form in ("NFC", "NFD")),
    *("\ud800", "\udfff", ".staging", "zarr.json", "commit.json", "-", "_", "a b", "a-b", "%2e%2e"),
]


def test_no_video_id_escapes_or_collides(tmp_path):
    for number, name in enumerate(NAMES):
        clip = CLIP[:1, :, :1, :1] + number
        write(tmp_path / "s.zarr", {name: clip}, frames=[name], profile="exact")
    store = LogitStore(tmp_path / "s.zarr")
    assert set(store.videos) == set(NAMES)
    assert sorted(os.listdir(tmp_path)) == ["s.zarr"]
    for number, name in enumerate(NAMES):
        clip = (CLIP[:1, :, :1, :1] + number).astype(np.float16)
        assert np.array_equal(store.codes(name, [name]), clip)
        assert store.describe(name).video == name


@given(st.text() | st.text("aA.-/\\\0\n"), st.text())
def test_video_keys_are_tame(one, two):
    key = video_key(one)
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")
    assert 18 <= len(key) <= 65
    assert key[0] not in ".-"
    assert (key.casefold() == video_key(two).casefold()) == (one == two)


def test_surrogates_that_no_file_system_takes():
    assert video_key("\ud800") != video_key("\udfff") != video_key("?")


# --- reading makes no file, and finds what is meant


def state(path: Path) -> dict:
    """All that changes when somebody writes."""
    found = {entry: entry.stat() for entry in path.rglob("*")}
    return {k: (s.st_mtime_ns, s.st_ctime_ns, s.st_size) for k, s in found.items()}


def test_reading_needs_no_write_and_makes_no_file(store_of):
    path = store_of({"v": CLIP})
    before = state(path)
    store = LogitStore(path)
    store.read("v")
    assert problems(path) == [None]
    assert gc(path) == []
    assert cli.run(commands.main, ["info", str(path)]) == 0
    assert state(path) == before


def test_a_missing_store_is_named_with_a_hint_and_not_made(store_of, tmp_path):
    store_of({"v": CLIP}, name="swin.zarr")
    for use in (LogitStore, gc, lambda path: list(verify(path))):
        with pytest.raises(
            StoreError, match=r"swim.zarr: no such logit store \(did you mean 'swin.zarr'\?\)"
        ):
            use(tmp_path / "swim.zarr")
    with pytest.raises(StoreError, match="nor is there a folder"):
        LogitStore(tmp_path / "no" / "such")
    with pytest.raises(StoreError, match=r"zarr.json: missing"):
        LogitStore(tmp_path)
    with pytest.raises(StoreError, match="no such logit store"):
        LogitStore(tmp_path / "swin.zarr" / "zarr.json")
    assert sorted(os.listdir(tmp_path)) == ["swin.zarr"]


def test_a_misspelt_video_is_named_with_a_hint(store_of):
    store = LogitStore(store_of({"city_0001": CLIP}))
    with pytest.raises(InputError, match=r"no video 'city_001'; did you mean 'city_0001'\?"):
        store.read("city_001")
    with pytest.raises(InputError, match="no video '\\?'; choose one of city_0001"):
        store.frames("?")


def test_an_empty_store_opens_and_says_so(tmp_path):
    LogitWriter(tmp_path / "s.zarr", ["a"])
    store = LogitStore(tmp_path / "s.zarr")
    assert store.videos == ()
    assert "0 videos, 0 frames" in repr(store)


def test_a_store_is_not_made_on_top_of_something_else(tmp_path, store_of):
    (tmp_path / "file").write_text("hello")
    with pytest.raises(StoreError, match="a store cannot be made here"):
        LogitWriter(tmp_path / "file", ["a"])
    zarr.create_group(tmp_path / "foreign.zarr")
    with pytest.raises(StoreError, match="not written by this library"):
        LogitWriter(tmp_path / "foreign.zarr", ["a"])
    video = next(store_of({"v": CLIP}).glob("v-*"))
    with pytest.raises(StoreError, match="not a logit store"):
        LogitStore(video)
