"""Class maps: by hand, against slow loops over pixels, and back to what was stored."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fusion.errors import InputError, StoreError
from fusion.labels import MAPS, ClassMap, Labels, read_class_map, write_colours, write_labels
from fusion.labels.lookup import Lookup, counted, packed, runs
from tests.labels.contract import maps

MERGED = {"classes": {"road": 7, "vehicle": [26, 27, 28], "none": []}, "void": [0, 255]}
WATER = {"colours": {"water": [0, 0, 255], "land": [[0, 255, 0], [9, 9, 9]]}, "void": [[0, 0, 0]]}


def slowly(known: ClassMap, stored: np.ndarray) -> tuple[list, dict]:
    """A pixel at a time; void as None."""
    made, stray = [], {}
    for value in stored.reshape(-1, 3).tolist() if stored.ndim == 3 else stored.ravel().tolist():
        value = tuple(value) if stored.ndim == 3 else value
        owners = [c for c, values in enumerate(known.values) if value in values]
        if not owners and value not in known.void:
            stray[value] = stray.get(value, 0) + 1
        made.append(owners[0] if owners else None)
    return made, stray


def check(known: ClassMap, stored: np.ndarray) -> None:
    labels, stray = known.read(stored)
    void = 255 if len(known.names) <= 255 else 65535
    assert labels.dtype == (np.uint8 if void == 255 else np.uint16)
    assert labels.shape == stored.shape[:2]
    made, found = slowly(known, stored)
    assert [None if label == void else label for label in labels.ravel().tolist()] == made
    assert stray == found


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.int64, np.uint32])
def test_ids_of_every_width(dtype):
    known = ClassMap.from_config(MERGED)
    values = np.random.default_rng(0).choice([0, 7, 26, 27, 28, 100, 1], (9, 13)).astype(dtype)
    check(known, values)
    check(known, values[::2, ::-1])
    if np.dtype(dtype).kind == "i":
        values[3, 3] = -5
        check(known, values)


@pytest.mark.parametrize("classes", [1, 2, 253, 254, 255, 256, 300])
def test_void_and_values_in_no_entry_at_every_number_of_classes(classes):
    names = {f"c{c}": 1000 - c for c in range(classes)}
    known = ClassMap.from_config({"classes": names, "void": 65535})
    check(known, np.arange(700, 1002, dtype=np.uint16).reshape(2, -1))
    check(known, np.array([[65535, 0, 1000]], np.uint16))
    check(known, np.array([[65535, 0, 1000, 70000, -1]], np.int32))


def test_colours():
    known = ClassMap.from_config(WATER)
    palette = np.array([[0, 0, 255], [0, 255, 0], [9, 9, 9], [0, 0, 0], [1, 2, 3]], np.uint8)
    check(known, palette[np.random.default_rng(0).integers(0, 5, (12, 17))])
    check(known, palette[np.zeros((3, 4), int)])
    assert known.colours == ((0, 0, 255), (0, 255, 0))
    with pytest.raises(InputError, match="holds ids, the class map is of colours"):
        known.read(np.zeros((2, 3), np.uint8))
    with pytest.raises(InputError, match="holds colours, the class map is of ids"):
        ClassMap.from_config(MERGED).read(palette[None])


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(st.integers(-3, 70_000), st.integers(0, 200), max_size=12),
    st.lists(st.integers(-3, 70_000), max_size=60),
    st.sampled_from([np.int32, np.int64]),
)
def test_a_lookup_is_a_dictionary(codes, values, dtype):
    found = Lookup(codes, 255, np.uint8)(np.array([*values, *codes], dtype))
    assert found.tolist() == [codes.get(value, 255) for value in [*values, *codes]]


@given(st.lists(st.integers(0, 3), max_size=30))
def test_runs_and_counts(values):
    array = np.array(values, np.uint8)
    starts, lengths = runs(array)
    assert np.repeat(starts, lengths).tolist() == values
    assert (starts[1:] != starts[:-1]).all()
    assert counted(array) == {value: values.count(value) for value in sorted(set(values))}


def test_merges_write_their_first_value():
    known = ClassMap.from_config(MERGED)
    labels = np.array([[0, 1, 255]], np.uint8)
    assert known.stored(labels).tolist() == [[7, 26, 0]]
    assert known.stored(labels).dtype == np.uint8
    with pytest.raises(InputError, match="no value stands for label 2"):
        known.stored(labels + 2)
    with pytest.raises(InputError, match="no value stands for label 9"):
        known.stored(np.full((1, 1), 9, np.uint8))
    bare = ClassMap.from_config({"classes": {"a": 300}})
    assert bare.stored([[0]]).dtype == np.uint16
    with pytest.raises(InputError, match="no value stands for void"):
        bare.stored(labels)
    assert ClassMap.from_config(WATER).stored(labels).tolist() == [
        [[0, 0, 255], [0, 255, 0], [0, 0, 0]]
    ]


@pytest.mark.parametrize("name", [name for name in MAPS if name != "bits"])
def test_every_map_reads_back_what_it_stores(name):
    known = read_class_map(name)
    labels = np.arange(len(known.names), dtype=np.uint8)[None]
    if known.void:
        labels = np.append(labels, [[255]], axis=1)
    read, stray = known.read(known.stored(labels))
    assert np.array_equal(read, labels)
    assert stray == {}


@pytest.mark.parametrize(
    "known",
    [
        *(make() for make in MAPS.values()),
        ClassMap.from_config(MERGED),
        ClassMap.from_config(WATER),
        ClassMap.from_config({"regions": {"a": [1, 2], "b": 2}, "void": 9, "order": [1, 2]}),
        ClassMap.from_config({"bits": {"cloud": 0, "shadow": 3}, "void": 255}),
        ClassMap.from_config({"classes": {"a": 1}, "palette": {"a": [1, 2, 3]}}),
    ],
)
def test_configurations_go_round(known, tmp_path):
    config = known.get_config()
    assert ClassMap.from_config(config) == known
    (tmp_path / "map.json").write_text(json.dumps(config))
    assert read_class_map(tmp_path / "map.json") == known
    assert hash(read_class_map(config)) == hash(known)


def test_maps_that_need_no_file():
    cityscapes, voc, vspw = (read_class_map(n) for n in ("cityscapes", "voc", "vspw"))
    assert len(cityscapes.names) == 19
    assert cityscapes.read(np.array([[7, 33, 0, 29, 26, 255]], np.uint8))[0].tolist() == [
        [0, 18, 255, 255, 13, 255]
    ]
    # from the benchmark's own table: ids that are evaluated, and train ids
    trained = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11}
    trained |= {25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
    ids = np.arange(34, dtype=np.uint8)[None]
    expected = [trained.get(value, 255) for value in range(34)]
    assert cityscapes.read(ids)[0].tolist() == [expected]
    assert cityscapes.names[13] == "car"
    assert cityscapes.colours[13] == (0, 0, 142)
    assert (len(voc.names), voc.names[15], voc.colours[15]) == (21, "person", (192, 128, 128))
    assert voc.read(np.array([[0, 20, 255]], np.uint8))[0].tolist() == [[0, 20, 255]]
    ade = read_class_map("ade20k-150")
    assert (len(ade.names), ade.names[0], ade.names[149]) == (150, "wall", "flag")
    assert ade.names[136] == "traffic light"
    assert ade.read(np.array([[0, 1, 150]], np.uint8))[0].tolist() == [[255, 0, 149]]
    assert ade.read(np.array([[151, 255]], np.uint8))[1] == {151: 1, 255: 1}
    assert vspw.read(np.array([[0, 1, 124, 255]], np.uint8))[0].tolist() == [[255, 0, 123, 255]]
    assert read_class_map("binary").read(np.array([[0, 1, 255]], np.uint8))[0].tolist() == [
        [0, 1, 1]
    ]
    assert read_class_map("binary-void").read(np.array([[0, 1, 255]], np.uint8))[0].tolist() == [
        [0, 1, 255]
    ]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "got nothing; give one of classes"),
        ({"classes": {"a": 1}, "bits": {"a": 1}}, "give one of classes"),
        ({"classes": {"a": 1}, "viod": [2]}, "got keys classes, viod"),
        ({"classes": [1, 2]}, "give one of classes"),
        ({"classes": {"a": "1"}}, "'a': got '1'; give ids as whole numbers"),
        ({"classes": {"a": 1.5}}, "give ids as whole numbers"),
        ({"classes": {"a": True}}, "give ids as whole numbers"),
        ({"classes": {"a": [1, 2], "b": 2}}, "2 is listed under class 'a' and under class 'b'"),
        ({"classes": {"a": [1, 1]}}, "1 is listed under class 'a' and under class 'a'"),
        ({"classes": {"a": 1}, "void": 1}, "1 is listed under void and under class 'a'"),
        ({"colours": {"a": [1, 2]}}, r"give colours as \[red, green, blue\]"),
        ({"colours": {"a": [1, 2, 256]}}, "give colours"),
        ({"colours": {"a": [1, 2, 3], "b": [[1, 2, 3]]}}, r"\(1, 2, 3\) is listed under class 'a'"),
        ({"regions": {"a": [1]}, "void": [1]}, "1 is listed under void and under regions"),
        ({"regions": {"a": [1]}, "order": [1, 2]}, "order and palette are of all classes"),
        ({"classes": {"a": 1}, "palette": {"b": [1, 2, 3]}}, "order and palette are of all"),
        ({"bits": {"a": 16}}, "bits are numbered 0 to 15"),
    ],
)
def test_maps_that_are_refused(config, message, tmp_path):
    with pytest.raises(InputError, match=message):
        ClassMap.from_config(config)
    (tmp_path / "map.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=rf"map\.json.*{message}"):
        read_class_map(tmp_path / "map.json")


def test_files_that_are_no_maps(tmp_path):
    with pytest.raises(InputError, match=r"got 'cityscape', which is .*mean 'cityscapes'"):
        read_class_map("cityscape")
    (tmp_path / "a.json").write_text('{"classes": {"a": 1, "a": 2}}')
    with pytest.raises(InputError, match=r"a\.json: no readable JSON \(it has 'a' twice\)"):
        read_class_map(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match="no readable JSON"):
        read_class_map(tmp_path / "a.json")


def test_labels_are_read_by_a_map(tmp_path):
    raw = np.array([[7, 26, 28, 0], [255, 27, 7, 7]], np.uint8)
    write_labels(tmp_path / "v" / "1.png", raw)
    labels = Labels.folder(tmp_path, class_map=MERGED)
    assert labels.read("v", "1").tolist() == [[0, 1, 1, 255], [255, 1, 0, 0]]
    assert (labels.classes, labels.names) == (3, ("road", "vehicle", "none"))
    assert np.array_equal(labels.raw("v", "1"), raw)
    with pytest.raises(InputError, match="a class map of 3 classes, 4 are wanted"):
        labels.read("v", "1", classes=4)
    with pytest.raises(InputError, match=r"holds 26, 27, 28 outside 7 .*26 has 1 pixels"):
        labels.read("v", "1", classes=1)
    with pytest.raises(InputError, match="classes: got 2, the class map has 3"):
        Labels.folder(tmp_path, class_map=MERGED, classes=2)
    other = {**MERGED, "void": [0, 254, 255]}  # as many classes of the same names
    digests = [Labels.folder(tmp_path, class_map=m).digest() for m in (None, "none", MERGED, other)]
    assert len(set(digests)) == 3


def test_16_bit_ids_and_1_bit_masks(tmp_path):
    write_labels(tmp_path / "v" / "1.png", np.array([[1000, 2000, 7]], np.uint16))
    known = {"classes": {"a": 1000, "b": 2000}, "void": 7}
    read = Labels.folder(tmp_path, class_map=known).read("v", "1")
    assert (read.dtype, read.tolist()) == (np.uint8, [[0, 1, 255]])
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "v" / "1.png")
    assert Labels.folder(tmp_path, class_map="binary").read("v", "1").tolist() == [[1, 0]]
    for mode in ("RGBA", "LA"):
        Image.new(mode, (9, 6)).save(tmp_path / "v" / "1.png")
        with pytest.raises(StoreError, match=r"1\.png is 8-bit (RGBA|greyscale with alpha); give"):
            Labels.folder(tmp_path, class_map="binary").read("v", "1")


def test_colours_without_a_map_say_how_to_give_one(tmp_path):
    colours = np.array([[[c, 0, 9] for c in range(7)]], np.uint8)
    write_colours(tmp_path / "v" / "1.png", colours)
    shown = r"here are \[0, 0, 9\], \[1, 0, 9\], .*\[4, 0, 9\], \.\.\."
    with pytest.raises(StoreError, match=rf"1\.png is 8-bit RGB; .*class_map=FILE.*{shown}"):
        Labels.folder(tmp_path).read("v", "1")
    np.save(tmp_path / "v" / "2.npy", np.repeat(colours, 4, axis=0))
    with pytest.raises(InputError, match=r"2\.npy holds colours; class_map=FILE"):
        Labels.folder(tmp_path).read("v", "2")
    known = {"colours": {f"c{c}": [c, 0, 9] for c in range(6)}}
    with pytest.raises(InputError, match=r"holds \(6, 0, 9\) outside .*\(6, 0, 9\) has 1 pixels"):
        Labels.folder(tmp_path, class_map=known).read("v", "1")
    void = Labels.folder(tmp_path, class_map=known, stray="void")
    assert void.read("v", "1").tolist() == [[0, 1, 2, 3, 4, 5, 255]]
    assert void.strays("v", "1") == {(6, 0, 9): 1}
    assert np.array_equal(void.raw("v", "1"), packed(colours))


def test_a_map_costs_little_beyond_decoding():
    """Loose bounds for a busy machine; see the figures in the commit."""
    raw = np.kron(np.random.default_rng(0).integers(0, 34, (32, 64)), np.ones((32, 32), int))
    raw, known = raw.astype(np.uint8), read_class_map("cityscapes")
    colours = np.random.default_rng(1).integers(0, 256, (34, 3)).astype(np.uint8)
    named = {f"c{c}": colour for c, colour in enumerate(colours.tolist())}
    shown = colours[raw]
    for mapped, stored in ((known, raw), (ClassMap.from_config({"colours": named}), shown)):
        mapped.read(stored)
        times = []
        for _ in range(5):
            began = time.perf_counter()
            mapped.read(stored)
            times.append(time.perf_counter() - began)
        assert min(times) < 0.1


def test_a_label_map_is_what_it_was(tmp_path):
    """Without a map, all that could be read is read as before."""
    write_labels(tmp_path / "v" / "1.png", maps())
    for known in (None, "none"):
        labels = Labels.folder(tmp_path, class_map=known, classes=11)
        assert (labels.names, labels.class_map) == (None, None)
        assert np.array_equal(labels.read("v", "1"), maps())
