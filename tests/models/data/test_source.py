"""Where clips are, as configurations and commands say it."""

from __future__ import annotations

import argparse
import json

import pytest

from fusion.errors import InputError
from fusion.models.data.source import Source, add_source, source_of


def test_sources_are_named_once(folder):
    for vspw, images in (("", ""), ("a", "b")):
        with pytest.raises(InputError, match="one of the two"):
            Source(vspw, images=images).open(labelled=True)
    with pytest.raises(InputError, match="needs class names"):
        Source(images=str(folder / "images")).open(labelled=True)
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
    words = [word for key, value in keys.items() for word in (f"--{key}", value)]
    assert source_of(parser.parse_args(words)) == Source(**keys)
