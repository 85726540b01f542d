"""Bringing .npy and .npz files: every layout gives the clip that a plain transpose gives; what is unclear or broken is refused by name."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fusion import cli
from fusion.errors import InputError
from fusion.stores import GapCodec, LogitStore, LogitWriter
from fusion.stores import __main__ as commands
from fusion.stores.importers.arrays import (
    as_clip,
    find_videos,
    import_videos,
    load_array,
    read_classes,
    read_frames,
)

T, C, H, W = 3, 4, 5, 6
CLIP = np.random.default_rng(3).normal(0, 6, (T, C, H, W)).astype(np.float32)
CODES = GapCodec().encode(CLIP)
NAMES = ["sky", "road", "car", "tree"]


def save(path: Path, array: np.ndarray, key: str = "arr_0", **others: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        np.savez_compressed(path, **{key: array}, **others)
    else:
        np.save(path, array)
    return path


@pytest.fixture
def classes(tmp_path):
    (tmp_path / "classes.txt").write_text("\n".join(NAMES) + "\n\n")
    return tmp_path / "classes.txt"


@pytest.fixture
def bring(tmp_path, classes, capsys):
    """Runs the import command on tmp_path/source into tmp_path/s.zarr; returns (code, stdout, stderr)."""

    def run(*options, source="source", dest="s.zarr") -> tuple[int, str, str]:
        arguments = ["import", tmp_path / source, tmp_path / dest, "--classes", classes, *options]
        code = cli.run(commands.main, [str(a) for a in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


# --- layouts


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("order", ["TCHW", "CTHW", "THWC"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8"])
def test_a_file_per_video_in_any_order(tmp_path, bring, suffix, order, dtype):
    save(
        tmp_path / f"source/v{suffix}",
        CLIP.transpose(["TCHW".index(axis) for axis in order]).astype(dtype),
    )
    assert bring(*(() if order == "TCHW" else ("--axes", order)))[0] == 0
    store = LogitStore(tmp_path / "s.zarr")
    assert np.array_equal(store.codes("v"), CODES)
    assert store.frames("v") == ("00000", "00001", "00002")
    assert (store.classes, store.describe("v").size) == (tuple(NAMES), (H, W))


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize(
    ("order", "shape"), [("CHW", None), ("HWC", None), ("CTHW", "[C,1,H,W]"), ("TCHW", "[1,C,H,W]")]
)
def test_a_file_per_frame_in_any_order(tmp_path, bring, suffix, order, shape):
    for t, frame in zip((1, 2, 10), CLIP, strict=True):
        clip = frame[None] if shape else frame
        axes = "TCHW" if shape else "CHW"
        save(
            tmp_path / f"source/v/frame{t}{suffix}",
            clip.transpose([axes.index(axis) for axis in order]),
        )
    assert bring(*(("--axes", "HWC") if order == "HWC" else ()))[0] == 0
    store = LogitStore(tmp_path / "s.zarr")
    assert store.frames("v") == ("frame1", "frame2", "frame10")  # in natural order
    assert np.array_equal(store.codes("v"), CODES)


def test_fortran_order_and_half_precision(tmp_path, bring):
    save(tmp_path / "source/v.npy", np.asfortranarray(CLIP.astype(np.float16)))
    assert bring()[0] == 0
    assert np.array_equal(
        LogitStore(tmp_path / "s.zarr").codes("v"), GapCodec().encode(CLIP.astype(np.float16))
    )


def test_nnunet_folder(tmp_path, bring):
    probabilities = np.exp(CLIP) / np.exp(CLIP).sum(axis=1, keepdims=True)
    for t, frame in enumerate(probabilities):
        save(tmp_path / f"source/v/f{t}.npz", frame[:, None], "probabilities", spacing=np.ones(3))
    assert bring("--values", "probabilities", "--profile", "exact")[0] == 0
    store = LogitStore(tmp_path / "s.zarr")
    assert (store.values, store.profile) == ("probabilities", "exact")
    assert store.codes("v").tobytes() == np.log(probabilities).astype(np.float16).tobytes()


def test_keys(tmp_path, bring):
    save(tmp_path / "source/v.npz", CLIP, "ours", theirs=CLIP * 2)
    code, _, err = bring()
    assert code == 2
    assert "v.npz: holds ['ours', 'theirs']; choose one with --key" in err
    code, _, err = bring("--key", "other")
    assert code == 2
    assert "no array 'other', it holds ['ours', 'theirs']" in err
    assert bring("--key", "theirs")[0] == 0
    assert np.array_equal(LogitStore(tmp_path / "s.zarr").codes("v"), GapCodec().encode(CLIP * 2))


# [3, 4, 5, 6] and the like, worked out by hand: what is taken by itself, and what must be said
@pytest.mark.parametrize(
    ("shape", "axes", "result"),
    [
        ((3, 4, 5, 6), None, (3, 4, 5, 6)),
        ((4, 5, 6), None, (1, 4, 5, 6)),
        ((4, 1, 5, 6), None, (1, 4, 5, 6)),
        ((4, 4, 5, 6), None, (4, 4, 5, 6)),
        ((4, 4, 4, 4), None, (4, 4, 4, 4)),
        ((4, 5, 4), None, (1, 4, 5, 4)),
        ((4, 3, 5, 6), "CTHW", (3, 4, 5, 6)),
        ((4, 4, 5, 6), "CTHW", (4, 4, 5, 6)),
        ((5, 6, 4), "HWC", (1, 4, 5, 6)),
        ((3, 5, 6, 4), "THWC", (3, 4, 5, 6)),
        ((4, 3, 5, 6), None, r"shape \[4, 3, 5, 6\].*if its axes are CTHW, say so with --axes"),
        ((5, 6, 4), None, r"shape \[5, 6, 4\].*if its axes are HWC, say so with --axes"),
        ((4, 3, 5, 4), None, "if its axes are CTHW or THWC, say so with --axes"),
        (
            (3, 5, 6),
            None,
            r"shape \[3, 5, 6\], expected \[T, C, H, W\] or \[C, H, W\] with C = 4 classes$",
        ),
        ((4, 5), None, r"shape \[4, 5\]"),
        ((1, 3, 4, 5, 6), None, r"shape \[1, 3, 4, 5, 6\]"),
        ((), None, r"shape \[\]"),
        (
            (3, 4, 5, 6),
            "CTHW",
            r"shape \[3, 4, 5, 6\], expected CTHW with C = 4 classes; if its axes are TCHW, say so",
        ),
        ((3, 4, 5, 6), "CHW", r"shape \[3, 4, 5, 6\], expected CHW"),
        ((3, 4, 5, 6), "XYZ", "--axes: got 'XYZ'; choose one of"),
    ],
)
def test_axes(shape, axes, result):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    if isinstance(result, str):
        with pytest.raises(InputError, match=result):
            as_clip(array, 4, axes, Path("v.npy"))
        return
    clip = as_clip(array, 4, axes, Path("v.npy"))
    assert clip.shape == result
    order = axes or {3: "CHW", 4: "CTHW" if shape[:2] == (4, 1) else "TCHW"}[len(shape)]
    for t, c, y, x in np.ndindex(*result):
        place = {"T": t, "C": c, "H": y, "W": x}
        assert clip[t, c, y, x] == array[tuple(place[axis] for axis in order)]


# --- broken files


def npy_claiming(shape: str, descr: str = "'<f4'") -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(64)


def zipped(name: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([1, None], object))
    return buffer.getvalue()


BROKEN = {
    "empty.npy": b"",
    "text.npy": b"hello",
    "cut header.npy": npy_claiming("(3, 4, 5, 6)")[:40],
    "cut data.npy": npy_claiming("(3, 4, 5, 6)"),
    "absurd shape.npy": npy_claiming("(1000000000000, 4, 5, 6)"),
    "negative shape.npy": npy_claiming("(-3, 4, 5, 6)"),
    "bad header.npy": npy_claiming("(3, 4"),
    "header of code.npy": npy_claiming("__import__('os').mkdir('x')"),
    "objects.npy": pickled(),
    "objects.npz": zipped("arr_0.npy", pickled()),
    "empty.npz": b"",
    "text.npz": b"hello",
    "no zip.npz": npy_claiming("(1,)"),
    "nothing inside.npz": zipped("readme.txt", b"hi"),
    "cut data.npz": zipped("arr_0.npy", npy_claiming("(3, 4, 5, 6)")),
    "absurd shape.npz": zipped("arr_0.npy", npy_claiming("(1000000000000, 4, 5, 6)")),
    "overflowing shape.npz": zipped("arr_0.npy", npy_claiming("(4611686018427387904, 4, 5, 6)")),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("place", ["", "folder/"])
def test_a_broken_file_is_refused_by_name(tmp_path, bring, name, place):
    save(tmp_path / "source/0.npy", CLIP)
    path = tmp_path / "source" / place / name.replace(" ", "_")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(BROKEN[name])
    code, _, err = bring()
    assert code == 2
    assert path.name in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert LogitStore(tmp_path / "s.zarr").videos == ("0",)
    assert sorted(
        p.name for p in (tmp_path / "s.zarr").iterdir() if not p.name.startswith(".")
    ) == [
        LogitStore(tmp_path / "s.zarr")._videos["0"][0].name,
        "zarr.json",
    ]


def test_any_flipped_byte_of_an_npz_is_an_array_or_a_refusal(tmp_path):
    path = save(tmp_path / "v.npz", CLIP[:1, :, :2, :2])
    data = bytearray(path.read_bytes())
    refused = 0
    for position in range(len(data)):
        data[position] ^= 0xFF
        path.write_bytes(data)
        try:
            load_array(path, None)
        except InputError as error:
            refused += path.name in str(error)
        data[position] ^= 0xFF
    assert refused > len(data) // 2


def test_an_npz_that_unpacks_to_more_than_any_frame_is_not_read(tmp_path, monkeypatch):
    path = save(tmp_path / "v.npz", np.zeros((1, 4, 100, 100), np.float32))
    monkeypatch.setattr("fusion.stores.importers.arrays.MAX_FRAME_ELEMENTS", 9999)
    with pytest.raises(InputError, match="an array of 160128 bytes; split it"):
        load_array(path, None)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_pickle_is_never_opened(tmp_path, suffix):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    path = save(tmp_path / f"v{suffix}", np.array([Bomb()], object))
    with pytest.raises(InputError, match=r"not a readable array .*[Oo]bject"):
        load_array(path, None)
    assert not (tmp_path / "exploded").exists()


def test_two_frames_in_a_file_per_frame(tmp_path, bring):
    save(tmp_path / "source/v/f0.npy", CLIP[:2])
    code, _, err = bring()
    assert code == 2
    assert "f0.npy: holds 2 frames, one expected" in err


# --- what is found


def test_finding_videos(tmp_path):
    for name in (
        "b10.npy",
        "b9.npz",
        "a/1.npy",
        "a/note.txt",
        "empty/note.txt",
        "note.txt",
        "2²3.npy",
    ):
        save(tmp_path / name, CLIP) if name.endswith(("npy", "npz")) else (
            tmp_path / name
        ).parent.mkdir(exist_ok=True)
    assert [(s.video, s.per_frame, len(s.files)) for s in find_videos(tmp_path)] == [
        ("2²3", False, 1),
        ("a", True, 1),
        ("b9", False, 1),
        ("b10", False, 1),
    ]
    save(tmp_path / "a.npz", CLIP)
    with pytest.raises(InputError, match=r"video 'a' is there twice"):
        find_videos(tmp_path)


def test_nothing_to_import(tmp_path, bring):
    code, _, err = bring()
    assert (code, "source: no such folder" in err) == (2, True)
    (tmp_path / "source").mkdir()
    code, _, err = bring()
    assert (code, "source: no .npy or .npz inside" in err) == (2, True)
    code, _, err = bring("--each")
    assert (code, "source: no subfolder; --each expects one per model" in err) == (2, True)
    assert not (tmp_path / "s.zarr").exists()


def test_a_frame_twice(tmp_path, bring):
    save(tmp_path / "source/v/f0.npy", CLIP[0])
    save(tmp_path / "source/v/f0.npz", CLIP[0])
    code, _, err = bring()
    assert (code, "'f0'" in err, "twice" in err) == (2, True, True)


# --- frame ids, sizes, classes


def test_frame_ids_from_json(tmp_path, bring):
    save(tmp_path / "source/v.npy", CLIP)
    (tmp_path / "frames.json").write_text(json.dumps({"videos": {"v": ["x", "y", 7], "other": []}}))
    assert bring("--frames", tmp_path / "frames.json")[0] == 0
    assert LogitStore(tmp_path / "s.zarr").frames("v") == ("x", "y", "7")


def test_frame_ids_that_do_not_fit(tmp_path, bring):
    save(tmp_path / "source/v.npy", CLIP)
    (tmp_path / "frames.json").write_text(json.dumps({"v": ["x", "y"]}))
    code, _, err = bring("--frames", tmp_path / "frames.json")
    assert (code, "v.npy: 3 frames, but 2 frame ids are given" in err) == (2, True)
    assert LogitStore(tmp_path / "s.zarr").videos == ()


@pytest.mark.parametrize(
    "text", ["", "[1]", "5", "null", '{"v": 5}', '{"videos": [1]}', '{"v": "abc"}', "\xff"]
)
def test_frame_ids_that_are_none(tmp_path, text):
    (tmp_path / "frames.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="frame ids cannot be read"):
        read_frames(tmp_path / "frames.json")


@pytest.mark.parametrize("text", ["480x853", "480X853"])
def test_size(tmp_path, bring, text):
    save(tmp_path / "source/v.npy", CLIP)
    assert bring("--size", text)[0] == 0
    assert LogitStore(tmp_path / "s.zarr").describe("v").size == (480, 853)


@pytest.mark.parametrize("text", ["480", "480x", "axb", "480x853x3", "0x5"])
def test_bad_size(tmp_path, bring, text):
    save(tmp_path / "source/v.npy", CLIP)
    code, _, err = bring("--size", text)
    assert code == 2
    assert err.startswith("error: ")
    assert "size" in err


def test_class_lists(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(NAMES))
    (tmp_path / "c.txt").write_text(" sky \n\nroad\r\ncar\ntree")
    assert read_classes(tmp_path / "c.json") == read_classes(tmp_path / "c.txt") == NAMES
    (tmp_path / "d.json").write_text("{}")
    (tmp_path / "e.txt").write_bytes(b"\xff\xfe\xff")
    for name in ("d.json", "e.txt", "missing.txt"):
        with pytest.raises(InputError, match=name):
            read_classes(tmp_path / name)


def test_a_class_list_that_is_empty_or_too_short(tmp_path, bring, classes):
    save(tmp_path / "source/v.npy", CLIP)
    classes.write_text("")
    code, _, err = bring()
    assert (code, "classes: " in err) == (2, True)
    classes.write_text("a\nb\nc")
    code, _, err = bring(dest="other.zarr")
    assert (code, "v.npy: shape [3, 4, 5, 6]" in err, "C = 3 classes" in err) == (2, True, True)


def test_frame_ids_and_sizes_from_labels(tmp_path, bring):
    for t in range(T):
        path = tmp_path / f"labels/v/img_{t}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 24), t, np.uint8)).save(path)
    save(tmp_path / "source/v.npy", CLIP)
    assert bring("--labels", tmp_path / "labels")[0] == 0
    info = LogitStore(tmp_path / "s.zarr").describe("v")
    assert info.frames == ("img_0", "img_1", "img_2")
    assert info.size == (20, 24)
    assert bring("--labels", tmp_path / "labels", "--size", "40x48", dest="other.zarr")[0] == 0
    assert LogitStore(tmp_path / "other.zarr").describe("v").size == (40, 48)


# --- whole runs


def test_each_subfolder_becomes_a_store(tmp_path, bring):
    for model, scale in (("swin", 1), ("segformer", 2)):
        save(tmp_path / f"source/{model}/v.npy", CLIP * scale)
        save(tmp_path / f"source/{model}/w/f0.npy", CLIP[0] * scale)
    expected = f"4 videos written, 0 were there already, in 2 store(s) under {tmp_path}/cache\n"
    assert bring("--each", dest="cache")[:2] == (0, expected)
    assert sorted(os.listdir(tmp_path / "cache")) == ["segformer.zarr", "swin.zarr"]
    for model, scale in (("swin", 1), ("segformer", 2)):
        store = LogitStore(tmp_path / f"cache/{model}.zarr")
        assert store.model == model
        assert store.videos == ("v", "w")
        assert np.array_equal(store.codes("v"), GapCodec().encode(CLIP * scale))


def test_running_it_again_resumes(tmp_path, bring):
    save(tmp_path / "source/a.npy", CLIP)
    save(tmp_path / "source/b.npy", np.full_like(CLIP, np.nan))
    code, _, err = bring()
    assert (code, "video 'b', frame 0 ('00000')" in err) == (2, True)
    assert LogitStore(tmp_path / "s.zarr").videos == ("a",)
    save(tmp_path / "source/b.npy", CLIP)
    assert bring()[:2] == (
        0,
        f"1 videos written, 1 were there already, in 1 store(s) under {tmp_path}/s.zarr\n",
    )
    assert bring()[:2] == (
        0,
        f"0 videos written, 2 were there already, in 1 store(s) under {tmp_path}/s.zarr\n",
    )


def test_another_clip_under_the_same_name_is_a_conflict(tmp_path, bring):
    save(tmp_path / "source/a.npy", CLIP)
    assert bring()[0] == 0
    save(tmp_path / "source/a.npy", CLIP[:2])
    code, _, err = bring()
    assert (code, "video 'a' is committed already with other content" in err) == (2, True)
    assert np.array_equal(LogitStore(tmp_path / "s.zarr").codes("a"), CODES)


def test_the_library_call_yields_what_happened(tmp_path):
    save(tmp_path / "source/a.npy", CLIP)
    writer = LogitWriter(tmp_path / "s.zarr", NAMES)
    for there in (False, True):
        assert list(
            import_videos(writer, find_videos(tmp_path / "source"), sizes={"a": (50, 60)})
        ) == [("a", there)]
    assert LogitStore(tmp_path / "s.zarr").describe("a").size == (50, 60)
