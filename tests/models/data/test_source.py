"""Where clips are, as configurations and commands say it."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.models.data.source import Source, add_source, source_of


def test_sources_are_named_once(folder):
    for keys in ({}, {"vspw": "a", "images": "b"}, {"root": "a", "vspw": "b"}):
        with pytest.raises(InputError, match=r"say where|nothing says where .*, one of them"):
            Source(**keys).open(labelled=True)
    with pytest.raises(InputError, match="class names are needed"):
        Source(images=str(folder / "images")).open(labelled=False)
    with pytest.raises(InputError, match="masks are needed"):
        Source(images=str(folder / "images")).open(labelled=True, classes=("a",))


def opened(folder, name, content):
    """The clips of `folder` with the names of a file of this content."""
    (folder / name).write_text(content)
    source = Source(images=str(folder / "images"), classes=str(folder / name))
    return source.open(labelled=False)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.txt", "wall\n\n floor \n"),
        ("names.json", '["wall", "floor"]'),
        ("names.txt", '["wall", "floor"]'),
        ("names.json", json.dumps(["wall", "floor"], indent=1)),
    ],
)
def test_class_names(folder, name, content):
    """A JSON list read line by line would be classes named '[', '"wall",', '"floor"' and ']'."""
    assert opened(folder, name, content).classes == ("wall", "floor")


def test_bad_class_names(folder):
    with pytest.raises(InputError, match="2 names, 1 different"):
        opened(folder, "names.txt", "wall\nwall\n")
    for content in ('{"wall": 0}', "[1, 2]", '"wall"'):
        with pytest.raises(InputError, match="names"):
            opened(folder, "names.json", content)
    with pytest.raises(InputError, match="cannot be read"):
        opened(folder, "names.json", "[")
    with pytest.raises(InputError, match="cannot be read"):
        Source(images="somewhere", classes=str(folder / "none.txt")).open(labelled=False)


def test_commands_and_configurations_say_it_alike(folder):
    parser = argparse.ArgumentParser()
    add_source(parser)
    assert source_of(parser.parse_args([])) == Source()
    keys = {"vspw": "V", "split": "val", "images": "I", "labels": "L", "classes": "C"}
    keys |= {"root": "R", "stray": "void"}
    words = [word for key, value in keys.items() for word in (f"--{key}", value)]
    words += ["--label-layout", "flat", "--label-pattern", "{unit}.png", "--label-map", "voc"]
    words += ["--label-column", "seg"]
    of_masks = {"layout": "flat", "pattern": "{unit}.png", "class_map": "voc", "column": "seg"}
    assert source_of(parser.parse_args(words)) == Source(**keys, **of_masks)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"vspw": "V", "labels": "L"}, "labels says nothing beside vspw; leave it out, or give im"),
        ({"vspw": "V", "layout": "flat"}, "layout says nothing beside vspw; .* root or images ins"),
        ({"vspw": "V", "class_map": "voc"}, "class_map says nothing beside vspw"),
        ({"root": "R", "labels": "L"}, "labels says nothing beside root"),
        ({"root": "R", "pattern": "{unit}.png"}, "pattern says nothing beside root"),
        ({"images": "I", "layout": "flat"}, "layout is of masks, and labels are not given"),
        ({"images": "I", "labels": "L", "layout": "flt"}, "layout: got 'flt'; did you mean 'flat'"),
        ({"labels": "L"}, "nothing says where images are"),
        ({"images": "I", "labels": "L", "layout": "flat", "pattern": "{unit}.png"}, "leave one of"),
    ],
)
def test_a_key_that_says_nothing_is_refused(keys, message):
    with pytest.raises(InputError, match=message):
        Source(**keys).open(labelled=True)


def test_strays_are_errors_or_void(folder):
    with pytest.raises(InputError, match="source: stray is 'viod'; give one of error, void"):
        Source(stray="viod")
    places = {"images": str(folder / "images"), "labels": str(folder / "labels")}
    clips = Source(**places, stray="void").open(labelled=True, classes=("a", "b"))
    assert set(np.unique(clips.pair("clip", "0")[1])) == {0, 1, 255}
