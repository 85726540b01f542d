"""Words and numbers as people read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion import text
from fusion.errors import InputError


@pytest.mark.parametrize(
    ("name", "known", "hint"),
    [
        ("swim", ["swin", "segformer"], "; did you mean 'swin'?"),
        ("x", ["swin", "segformer"], "; choose one of swin, segformer"),
        ("x", [], "; there are none"),
        ("x", (f"name {n}" for n in range(12)), "; choose one of name 0, name 1, "),
    ],
)
def test_hints(name, known, hint):
    assert text.did_you_mean(name, known).startswith(hint)


def test_closest_takes_any_iterable_and_may_find_nothing():
    assert text.closest("swim", {"swin": 1}) == "swin"
    assert text.closest("swim", ["mask"]) is None
    assert text.closest("abcd", ["abxy"], cutoff=0.5) == "abxy"


def test_the_closest_name_is_the_one_in_other_capitals():
    assert text.closest("RandomJpeg", ["RandomHue", "RandomJPEG"]) == "RandomJPEG"
    assert text.closest("A", {1: "", "a": ""}) == "a"


def test_listed():
    assert text.listed([3, 1]) == "3, 1"
    assert text.listed(range(4), most=3) == "0, 1, 2, ..."
    assert text.listed([]) == ""


def test_natural_order():
    names = ["f10", "f9", "f1", "10", "9", "", "f01", "f1a2", "f1a10", "2²3", "f"]
    expected = ["", "2²3", "9", "10", "f", "f01", "f1", "f1a2", "f1a10", "f9", "f10"]
    assert sorted(names, key=text.natural_order) == expected


@given(st.lists(st.text("ab01² ") | st.text(), unique=True))
def test_natural_order_is_one_order_of_all_names(names):
    backwards = names[::-1]
    assert sorted(names, key=text.natural_order) == sorted(backwards, key=text.natural_order)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("4GB", 4 * 10**9),
        ("512MiB", 512 << 20),
        (" 1.5 kb ", 1500),
        ("7", 7),
        (12, 12),
        ("2TiB", 2 << 40),
    ],
)
def test_sizes(written, size):
    assert text.parse_bytes(written) == size


@pytest.mark.parametrize("written", ["", "GB", "4 parsecs", "-1GB", "0", "nan", "1e999GB", "4XB"])
def test_sizes_that_are_none(written):
    with pytest.raises(InputError, match="memory: got"):
        text.parse_bytes(written)


def test_sizes_as_people_read_them():
    sizes = [0, 999, 1000, 123456, 4.2e9, 7e12, 5e16]
    shown = [text.say_bytes(size) for size in sizes]
    assert shown == ["0 B", "999 B", "1 KB", "123 KB", "4.2 GB", "7 TB", "5e+04 TB"]


def test_scores():
    assert text.percent(0.61234) == "61.23"
    assert text.or_none(math.nan) is None
    assert text.or_none(0.5) == 0.5


def test_tables():
    shown = text.table([["swin", "61.2"], ["b", "7"]], ["model", "mIoU"])
    assert shown.splitlines() == ["model  mIoU", "-----  ----", "swin   61.2", "b         7"]


def test_html_is_escaped():
    shown = text.html_table([("<b>", 1)], ("a & b", "c"), "x > y")
    body = "<tbody><tr><td>&lt;b&gt;</td><td>1</td></tr></tbody>"
    head = "<thead><tr><th>a &amp; b</th><th>c</th></tr></thead>"
    assert shown == f"<table><caption>x &gt; y</caption>{head}{body}</table>"
