"""Label PNGs: what is read is what was written; no damaged or unsuitable file passes as labels."""

from __future__ import annotations

import errno
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageFile

from fusion.errors import InputError, StoreError
from fusion.labels import Labels, colour_map, write_labels
from tests.labels.contract import maps

SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=20)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, depth, colour, rows, interlaced=0):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = {b"IHDR": header, b"IDAT": zlib.compress(rows), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in parts.items())


def read_f1(folder):
    return Labels.folder(folder).read("clip_2", "f1")


@pytest.mark.parametrize(
    ("mode", "found"),
    [
        *(("RGB", "8-bit RGB"), ("RGBA", "8-bit RGBA"), ("LA", "8-bit greyscale with alpha")),
        *(("1", "1-bit greyscale"), ("I;16", "16-bit greyscale")),
    ],
)
def test_other_kinds_of_png_are_refused(folder, mode, found):
    path = folder / "clip_2" / "f1.png"
    Image.new(mode, (9, 6)).save(path)
    with pytest.raises(StoreError, match=rf"f1\.png is {found}; give 8-bit greyscale or palette"):
        read_f1(folder)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_small_palettes_are_indices(folder, depth):
    bits = np.random.default_rng(0).integers(0, 2**depth, (3, 8)).astype(np.uint8)
    image = Image.fromarray(bits)
    image.putpalette([200] * 3 * 2**depth)  # all of one colour: only indices tell them apart
    image.save(folder / "clip_2" / "f1.png", bits=depth)
    np.testing.assert_array_equal(read_f1(folder), bits)


def interlaced(labels):
    """Adam7 by the letter of the specification."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
    parts = [labels[y::dy, x::dx] for x, y, dx, dy in [*passes, (0, 1, 1, 2)]]
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    return png(labels.shape[1], labels.shape[0], 8, 0, rows, interlaced=1)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (9, 5), (8, 16)])
def test_interlaced(folder, size):
    labels = maps(size=size)
    (folder / "clip_2" / "f1.png").write_bytes(interlaced(labels))
    np.testing.assert_array_equal(read_f1(folder), labels)


@pytest.mark.parametrize("loose", [False, True])
def test_every_truncation_is_an_error(folder, loose, monkeypatch):
    # a setting that training scripts like to change
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", loose)
    path = folder / "clip_2" / "f1.png"
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 29), *range(len(whole) - 14, len(whole))]:
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError, match=r"f1\.png"):
            read_f1(folder)


def test_every_flipped_bit_is_an_error(folder):
    path = folder / "clip_2" / "f1.png"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    ends = [*range(40), *range(len(whole) - 30, len(whole))]
    for at in ends + rng.integers(0, len(whole), 60).tolist():
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match=r"f1\.png"):
            read_f1(folder)
    path.write_bytes(whole + b"appended garbage")
    np.testing.assert_array_equal(read_f1(folder), maps(1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no PNG"),
        (b"\xff\xd8\xff\xe0 a photograph", "is no PNG"),
        (png(2, 2, 8, 0, b"\0\1\2"), "cannot be decoded"),
        (png(2, 2, 8, 0, b"\x09\1\2\0\1\2"), "cannot be decoded"),
        (png(20000, 20000, 8, 0, b"\0"), r"claims 20000 x 20000 pixels"),
        (png(0, 5, 8, 0, b""), r"claims 5 x 0 pixels"),
        (png(2, 2, 8, 1, b"\0\1\2\0\1\2"), "8-bit unknown"),
    ],
)
def test_hostile_files(folder, content, message):
    (folder / "clip_2" / "f1.png").write_bytes(content)
    with pytest.raises(StoreError, match=rf"f1\.png.*{message}"):
        read_f1(folder)


def test_size_reads_the_header_only(folder):
    path = folder / "clip_2" / "f1.png"
    path.write_bytes(path.read_bytes()[:33])
    assert Labels.folder(folder).size("clip_2") == (6, 9)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(StoreError, match="truncated or damaged header"):
        Labels.folder(folder).size("clip_2")


@settings(deadline=None, max_examples=40)
@given(arrays(st.sampled_from([np.uint8, np.uint16]), SHAPES))
def test_what_is_written_reads_back(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("out") / "v" / "frame.png"
    write_labels(path, labels)
    reader = Labels.folder(path.parent.parent, classes=1000 if labels.dtype == np.uint16 else None)
    read = reader.raw("v", "frame")
    assert read.dtype == labels.dtype
    np.testing.assert_array_equal(read, labels)
    assert os.listdir(path.parent) == ["frame.png"]


def test_layouts_of_memory_do_not_matter(tmp_path):
    labels = np.arange(2 * 6 * 8, dtype=np.uint16).reshape(2, 6, 8)
    views = [labels[0, ::2, ::-1], labels[1].T, labels[0].astype(">u2")]
    for i, view in enumerate([*views, np.asfortranarray(labels[1]).astype(np.uint8)]):
        view.flags.writeable = False
        write_labels(tmp_path / "v" / f"{i}.png", view)
        reader = Labels.folder(tmp_path, classes=1000 if view.dtype.itemsize == 2 else None)
        np.testing.assert_array_equal(reader.raw("v", str(i)), view)


def test_palettes(tmp_path):
    assert colour_map()[[0, 1, 2, 3, 15, 21, 255]].tolist() == [
        *([0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]),
        *([192, 128, 128], [128, 64, 128], [224, 224, 192]),
    ]
    write_labels(tmp_path / "a.png", maps())
    write_labels(tmp_path / "b.png", maps(), palette=[[1, 2, 3], [4, 5, 6]])
    images = (Image.open(tmp_path / name) for name in ("a.png", "b.png"))
    standard, own = (np.array(image.getpalette()).reshape(-1, 3) for image in images)
    np.testing.assert_array_equal(standard, colour_map())
    assert own[:2].tolist() == [[1, 2, 3], [4, 5, 6]]
    np.testing.assert_array_equal(own[2:], colour_map()[2:])
    wrong = ["viridis", [[1, 2]], [[0.5, 0, 0]], [[0, 0, 256]], [[0, 0, -1]]]
    for palette in [*wrong, np.zeros((257, 3), dtype=np.uint8)]:
        with pytest.raises(InputError, match="palette: got"):
            write_labels(tmp_path / "c.png", maps(), palette=palette)
    assert not (tmp_path / "c.png").exists()


def test_what_exists_is_kept(tmp_path):
    outside = tmp_path / "precious.png"
    outside.write_bytes(b"precious")
    (tmp_path / "file.png").write_bytes(b"old")
    (tmp_path / "dir.png").mkdir()
    (tmp_path / "link.png").symlink_to(outside)
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "dirlink.png").symlink_to(tmp_path / "dir.png")
    for name in ("file", "dir", "link", "dangling", "dirlink"):
        with pytest.raises(StoreError, match=rf"{name}\.png is taken"):
            write_labels(tmp_path / f"{name}.png", maps())
    assert (tmp_path / "file.png").read_bytes() == b"old"
    for name in ("file", "link", "dangling", "dirlink"):
        write_labels(tmp_path / f"{name}.png", maps(), overwrite=True)
        assert not (tmp_path / f"{name}.png").is_symlink()
        np.testing.assert_array_equal(np.array(Image.open(tmp_path / f"{name}.png")), maps())
    with pytest.raises(StoreError, match=r"dir\.png is taken \(a directory\)"):
        write_labels(tmp_path / "dir.png", maps(), overwrite=True)
    assert outside.read_bytes() == b"precious"
    assert not (tmp_path / "nowhere.png").exists()
    assert not list(tmp_path.glob(".*"))


def test_another_writer_that_was_faster_wins(tmp_path, monkeypatch):
    # it comes between the look and the write
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    (tmp_path / "a.png").write_bytes(b"first")
    with pytest.raises(StoreError, match="is taken"):
        write_labels(tmp_path / "a.png", maps())
    assert (tmp_path / "a.png").read_bytes() == b"first"
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize("step", ["open", "replace", "link"])
def test_a_disk_that_refuses_leaves_nothing(tmp_path, monkeypatch, step):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    owner = os if step == "link" else Path
    monkeypatch.setattr(owner, step, refuse)
    message = r"a\.png: cannot be written \(No space left on device\), [0-9]+ bytes needed; free"
    with pytest.raises(StoreError, match=message):
        write_labels(tmp_path / "a.png", maps(), overwrite=step == "replace")
    assert not os.listdir(tmp_path)


def test_file_systems_without_hard_links(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write_labels(tmp_path / "a.png", maps())
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "a.png")), maps())
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    "labels",
    [np.zeros((2, 3)), np.zeros((2, 3), int), np.zeros((1, 2, 3), "u1"), np.zeros((0, 4), "u1")],
)
def test_only_label_maps_are_written(tmp_path, labels):
    with pytest.raises(InputError, match=r"write_labels: got"):
        write_labels(tmp_path / "a.png", labels)
    assert not os.listdir(tmp_path)
