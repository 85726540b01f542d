"""Label maps on disk: what is read back is what was written, and no damaged or unsuitable file passes as labels."""

from __future__ import annotations

import errno
import os
import pickle
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageFile

from fusion.errors import InputError, StoreError
from fusion.labels import Labels, colour_map, natural_order, write_labels


def maps(seed=0, high=11, size=(6, 9)):
    labels = np.random.default_rng(seed).integers(0, high, size).astype(np.uint8)
    labels[0, 0] = 255
    return labels


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, depth, colour, rows):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def folder(tmp_path):
    for video in ("clip_10", "clip_2"):
        for frame in (1, 2, 10):
            write_labels(tmp_path / video / f"f{frame}.png", maps(frame))
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "classes.txt").write_text("road\n")
    (tmp_path / "clip_2" / "._f1.png").write_bytes(b"resource fork")
    return tmp_path


@pytest.fixture
def vspw(tmp_path):
    for video in ("9_b", "10_a"):
        mask = tmp_path / "data" / video / "mask"
        mask.mkdir(parents=True)
        raw = np.array([[0, 1, 2], [124, 255, 7]], dtype=np.uint8)
        Image.fromarray(raw).save(mask / "00000001.png")
        image = Image.fromarray(raw)
        image.putpalette(colour_map().tobytes())
        image.save(mask / "00000002.png")
    (tmp_path / "val.txt").write_text("9_b\n10_a\n")
    return tmp_path


def test_folder(folder):
    labels = Labels.folder(folder, classes=11)
    assert labels.videos == ("clip_2", "clip_10")
    assert labels.frames("clip_2") == ["f1", "f2", "f10"]
    assert labels.size("clip_2") == labels.size("clip_10", "f10") == (6, 9)
    read = labels.read("clip_2", "f10", size=(6, 9))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, maps(10))
    np.testing.assert_array_equal(labels.raw("clip_2", "f10"), maps(10))
    assert labels.void == 255


def test_vspw(vspw):
    labels = Labels.vspw(vspw)
    assert labels.videos == ("9_b", "10_a")
    for frame in ("00000001", "00000002"):  # greyscale and palette alike
        read = labels.read("9_b", frame, classes=124)
        assert read.dtype == np.uint8
        assert read.tolist() == [[255, 0, 1], [123, 255, 6]]
        assert labels.raw("9_b", frame).tolist() == [[0, 1, 2], [124, 255, 7]]


def test_vspw_stray_values_name_the_file_and_the_stored_values(vspw):
    path = vspw / "data" / "9_b" / "mask" / "00000001.png"
    Image.fromarray(np.array([[252, 125, 124, 254, 0, 255]], dtype=np.uint8)).save(path)
    with pytest.raises(InputError, match=r"00000001\.png holds 125, 252, 254 outside 1\.\.124"):
        Labels.vspw(vspw).read("9_b", "00000001")
    assert Labels.vspw(vspw, stray="void").read("9_b", "00000001").tolist() == [
        [255, 255, 123, 255, 255, 255]
    ]


def test_folder_stray_values(folder):
    with pytest.raises(
        InputError, match=r"clip_2/f1\.png holds 9, 10 outside 0\.\.8 \(void is 255\)"
    ):
        Labels.folder(folder).read("clip_2", "f1", classes=9)
    loose = Labels.folder(folder, stray="void").read("clip_2", "f1", classes=9)
    np.testing.assert_array_equal(loose, np.where(maps(1) < 9, maps(1), 255))
    np.testing.assert_array_equal(Labels.folder(folder).read("clip_2", "f1"), maps(1))
    with pytest.raises(InputError, match="stray: got 'ignore'"):
        Labels.folder(folder, stray="ignore")


def test_beyond_255_classes(tmp_path):
    wide = np.array([[0, 255, 256], [999, 65535, 1]], dtype=np.uint16)
    write_labels(tmp_path / "v" / "1.png", wide)
    labels = Labels.folder(tmp_path, classes=1000)
    read = labels.read("v", "1")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, wide)
    assert labels.void == 65535
    np.testing.assert_array_equal(Labels.folder(tmp_path).read("v", "1", classes=1000), wide)
    with pytest.raises(InputError, match=r"holds 999 outside 0\.\.998"):
        labels.read("v", "1", classes=999)
    with pytest.raises(StoreError, match=r"1\.png is 16-bit greyscale.*announce"):
        Labels.folder(tmp_path).read("v", "1")
    write_labels(tmp_path / "v" / "2.png", maps())
    with pytest.raises(StoreError, match=r"2\.png is 8-bit palette; beyond 255"):
        labels.read("v", "2")


@pytest.mark.parametrize(
    ("mode", "found"),
    [
        ("RGB", "8-bit RGB"),
        ("RGBA", "8-bit RGBA"),
        ("LA", "8-bit greyscale with alpha"),
        ("1", "1-bit greyscale"),
        ("I;16", "16-bit greyscale"),
    ],
)
def test_other_kinds_of_png_are_refused(folder, mode, found):
    path = folder / "clip_2" / "f1.png"
    Image.new(mode, (9, 6)).save(path)
    with pytest.raises(StoreError, match=rf"f1\.png is {found}; give 8-bit greyscale or palette"):
        Labels.folder(folder).read("clip_2", "f1")


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_small_palettes_are_indices(folder, depth):
    bits = np.random.default_rng(0).integers(0, 2**depth, (3, 8)).astype(np.uint8)
    image = Image.fromarray(bits)
    image.putpalette(
        np.full(3 * 2**depth, 200, dtype=np.uint8).tobytes()
    )  # all of one colour: only indices tell them apart
    image.save(folder / "clip_2" / "f1.png", bits=depth)
    np.testing.assert_array_equal(Labels.folder(folder).read("clip_2", "f1"), bits)


def interlaced(labels):
    """Adam7 by the letter of the specification."""
    rows = b""
    for x, y, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        part = labels[y::dy, x::dx]
        rows += b"".join(b"\0" + row.tobytes() for row in part if part.size)
    header = struct.pack(">IIBBBBB", labels.shape[1], labels.shape[0], 8, 0, 0, 0, 1)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (9, 5), (8, 16)])
def test_interlaced(folder, size):
    labels = maps(size=size)
    (folder / "clip_2" / "f1.png").write_bytes(interlaced(labels))
    np.testing.assert_array_equal(Labels.folder(folder).read("clip_2", "f1"), labels)


def test_wrong_size_names_the_file(folder):
    with pytest.raises(InputError, match=r"f1\.png is \[6, 9\] \[H, W\], expected \[9, 6\]"):
        Labels.folder(folder).read("clip_2", "f1", size=(9, 6))


@pytest.mark.parametrize("loose", [False, True])
def test_every_truncation_is_an_error(folder, loose, monkeypatch):
    monkeypatch.setattr(
        ImageFile, "LOAD_TRUNCATED_IMAGES", loose
    )  # a setting that training scripts like to change
    path = folder / "clip_2" / "f1.png"
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 29), *range(len(whole) - 14, len(whole))]:
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError, match=r"f1\.png"):
            Labels.folder(folder).read("clip_2", "f1")


def test_every_flipped_bit_is_an_error(folder):
    path = folder / "clip_2" / "f1.png"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in [
        *range(40),
        *rng.integers(0, len(whole), 60).tolist(),
        *range(len(whole) - 30, len(whole)),
    ]:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match=r"f1\.png"):
            Labels.folder(folder).read("clip_2", "f1")
    path.write_bytes(whole + b"appended garbage")
    np.testing.assert_array_equal(Labels.folder(folder).read("clip_2", "f1"), maps(1))


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
        Labels.folder(folder).read("clip_2", "f1")


def test_size_reads_the_header_only(folder):
    path = folder / "clip_2" / "f1.png"
    path.write_bytes(path.read_bytes()[:33])
    assert Labels.folder(folder).size("clip_2") == (6, 9)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(StoreError, match="truncated or damaged header"):
        Labels.folder(folder).size("clip_2")


def test_names_that_are_not_there(folder):
    labels = Labels.folder(folder)
    with pytest.raises(InputError, match=r"no video 'clip_3'.*did you mean 'clip_2'"):
        labels.frames("clip_3")
    with pytest.raises(InputError, match=r"no frame 'f3'.*did you mean 'f2'"):
        labels.read("clip_2", "f3")
    for frame in ("../clip_10/f1", "", "/f1", "f1.png", ".."):
        with pytest.raises(InputError, match="has no frame"):
            labels.path("clip_2", frame)
    for video in ("..", "", ".hidden", "empty"):
        with pytest.raises(InputError, match="no video"):
            labels.path(video, "f1")


def test_missing_directories(folder):
    with pytest.raises(StoreError, match=rf"does not exist; did you mean '{folder.name}'"):
        Labels.folder(folder.with_name(folder.name + "x"))
    with pytest.raises(StoreError, match=r"classes\.txt is no directory"):
        Labels.folder(folder / "classes.txt")
    with pytest.raises(StoreError, match=r"no <video>/<frame>\.png"):
        Labels.folder(folder / "clip_2")
    (folder / "gone").mkdir()
    write_labels(folder / "gone" / "f1.png", maps())
    labels = Labels.folder(folder)
    (folder / "gone" / "f1.png").unlink()
    with pytest.raises(StoreError, match="has no PNG"):
        labels.frames("gone")
    assert not (folder / "x").exists()


def test_vspw_lists(vspw):
    with pytest.raises(StoreError, match=r"no list vall\.txt; did you mean 'val'"):
        Labels.vspw(vspw, "vall")
    for text, message in [
        ("9_b\nlost\n", "lists 2 videos, 1 without data/<video>/mask, first 'lost'"),
        ("9_b\nx/../10_a\n", "1 without"),
        ("9_b\n9_b\n", "twice"),
        ("\n", "lists 0 videos"),
    ]:
        (vspw / "val.txt").write_text(text)
        with pytest.raises(StoreError, match=message):
            Labels.vspw(vspw)
    (vspw / "val.txt").write_text(".DS_Store\n10_a\n")
    assert Labels.vspw(vspw).videos == ("10_a",)


def test_labels_travel(folder):
    labels = Labels.folder(folder, classes=11)
    sent = pickle.dumps(labels)
    assert pickle.loads(sent) == labels
    assert len(sent) < 1000


def test_digest_follows_the_data(folder):
    labels = Labels.folder(folder, classes=11)
    digest = labels.digest()
    assert (
        digest
        == labels.digest(reversed(labels.videos))
        == Labels.folder(folder, classes=11).digest()
    )
    frames = {video: labels.frames(video)[::-1] for video in labels.videos}
    assert digest == labels.digest(frames=frames)
    others = [
        labels.digest(["clip_2"]),
        labels.digest(frames={**frames, "clip_2": ["f1"]}),
        Labels.folder(folder, classes=12).digest(),
        Labels.folder(folder, classes=11, stray="void").digest(),
    ]
    (folder / "clip_2" / "f2.png").rename(folder / "clip_2" / "f3.png")
    others.append(labels.digest())
    (folder / "clip_2" / "f3.png").rename(folder / "clip_2" / "f2.png")
    write_labels(folder / "clip_2" / "f1.png", maps(5), overwrite=True)
    others.append(labels.digest())
    assert len({digest, *others}) == 7


def test_natural_order():
    assert sorted(["f10", "f9", "f09", "a", "10", "9", "²"], key=natural_order) == [
        "9",
        "10",
        "a",
        "f09",
        "f9",
        "f10",
        "²",
    ]


@settings(deadline=None, max_examples=40)
@given(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20))
    | arrays(np.uint16, array_shapes(min_dims=2, max_dims=2, max_side=20))
)
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
    for i, view in enumerate(
        (
            labels[0, ::2, ::-1],
            labels[1].T,
            labels[0].astype(">u2"),
            np.asfortranarray(labels[1]).astype(np.uint8),
        )
    ):
        view.flags.writeable = False
        write_labels(tmp_path / "v" / f"{i}.png", view)
        wide = view.dtype.itemsize == 2
        np.testing.assert_array_equal(
            Labels.folder(tmp_path, classes=1000 if wide else None).raw("v", str(i)), view
        )


def test_palettes(tmp_path):
    assert colour_map()[[0, 1, 2, 3, 15, 21, 255]].tolist() == [
        *([0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]),
        *([192, 128, 128], [128, 64, 128], [224, 224, 192]),
    ]
    write_labels(tmp_path / "a.png", maps())
    write_labels(tmp_path / "b.png", maps(), palette=[[1, 2, 3], [4, 5, 6]])
    standard, own = (
        np.array(Image.open(tmp_path / name).getpalette()).reshape(-1, 3)
        for name in ("a.png", "b.png")
    )
    np.testing.assert_array_equal(standard, colour_map())
    assert own[:2].tolist() == [[1, 2, 3], [4, 5, 6]]
    np.testing.assert_array_equal(own[2:], colour_map()[2:])
    for palette in (
        "viridis",
        [[1, 2]],
        [[0.5, 0, 0]],
        [[0, 0, 256]],
        [[0, 0, -1]],
        np.zeros((257, 3), dtype=np.uint8),
    ):
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
    monkeypatch.setattr(
        os.path, "lexists", lambda path: False
    )  # it comes between the look and the write
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
    with pytest.raises(
        StoreError,
        match=r"a\.png cannot be written \(No space left on device\), [0-9]+ bytes needed",
    ):
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
    [
        np.zeros((2, 3)),
        np.zeros((2, 3), dtype=np.int64),
        np.zeros((1, 2, 3), dtype=np.uint8),
        np.zeros((0, 4), dtype=np.uint8),
    ],
)
def test_only_label_maps_are_written(tmp_path, labels):
    with pytest.raises(InputError, match=r"write_labels: got"):
        write_labels(tmp_path / "a.png", labels)
    assert not os.listdir(tmp_path)
