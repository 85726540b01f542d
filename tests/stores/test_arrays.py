"""Importing .npy and .npz files: any layout gives what a plain transpose gives, damage is named."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fusion.errors import InputError
from fusion.stores import GapCodec, LogitStore
from fusion.stores.format import video_key
from fusion.stores.importers import arrays
from fusion.stores.importers.arrays import Arrays, as_clip, load_array
from tests.stores.common import CLIP, NAMES, save
from tests.stores.contract import ImporterContract

CODES = GapCodec().encode(CLIP)
H, W = CLIP.shape[2:]


class TestFilePerFrame(ImporterContract):
    importer = Arrays
    suffix = ".npy"

    def save(self, folder, clips):
        for video, clip in clips.items():
            for frame, array in clip.items():
                save(folder / video / f"{frame}{self.suffix}", array)
        return folder

    def damage(self, folder, video):
        next((folder / video).iterdir()).write_bytes(b"hello")


class TestNnunet(TestFilePerFrame):
    """The same with what nnU-Net names its arrays, beside others."""

    suffix = ".npz"

    def save(self, folder, clips):
        for video, clip in clips.items():
            for frame, array in clip.items():
                path = folder / video / f"{frame}.npz"
                save(path, array[:, None], "probabilities", spacing=np.ones(3))
        return folder


class TestChannelsLast(TestFilePerFrame):
    """The same with the classes last, which has to be said."""

    options = {"axes": "HWC"}  # noqa: RUF012

    def save(self, folder, clips):
        turned = {v: {f: a.transpose(1, 2, 0) for f, a in c.items()} for v, c in clips.items()}
        return super().save(folder, turned)


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
        ((4, 3, 5, 6), None, r"shape \[4, 3, 5, 6\].*say so with axes='CTHW'$"),
        ((5, 6, 4), None, r"shape \[5, 6, 4\].*say so with axes='HWC'$"),
        ((4, 3, 5, 4), None, "say so with axes='CTHW' or axes='THWC'$"),
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
            r"shape \[3, 4, 5, 6\], expected CTHW with C = 4 classes; .* say so with axes='TCHW'$",
        ),
        ((3, 4, 5, 6), "CHW", r"shape \[3, 4, 5, 6\], expected CHW"),
        ((3, 4, 5, 6), "XYZ", "axes: got 'XYZ'; choose one of"),
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
    recognised, problem = err.splitlines()
    assert recognised.endswith("source: NumPy arrays, 2 videos, 4 classes, logits (assumed)")
    assert problem.startswith("error: ")
    assert LogitStore(tmp_path / "s.zarr").videos == ("0",)
    names = {p.name for p in (tmp_path / "s.zarr").iterdir() if not p.name.startswith(".")}
    assert names == {video_key("0"), "zarr.json"}


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
    monkeypatch.setattr(arrays, "MAX_FRAME_ELEMENTS", 9999)
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
    assert [(s.video, s.named, len(s.files)) for s in Arrays().videos(tmp_path)] == [
        ("2²3", False, 1),
        ("a", True, 1),
        ("b9", False, 1),
        ("b10", False, 1),
    ]
    save(tmp_path / "a.npz", CLIP)
    with pytest.raises(InputError, match=r"video 'a' is there twice"):
        Arrays().videos(tmp_path)


def test_nothing_to_import(tmp_path, bring):
    code, _, err = bring()
    assert (code, "source: no such file or folder" in err) == (2, True)
    (tmp_path / "source").mkdir()
    code, _, err = bring()
    assert (code, "source: no " in err, Arrays.holds in err, "inside" in err) == (2, *[True] * 3)
    code, _, err = bring("--each")
    assert (code, "source: no subfolder; --each expects one per model" in err) == (2, True)
    assert not (tmp_path / "s.zarr").exists()


def test_a_frame_twice(tmp_path, bring):
    save(tmp_path / "source/v/f0.npy", CLIP[0])
    save(tmp_path / "source/v/f0.npz", CLIP[0])
    code, _, err = bring()
    assert (code, "'f0'" in err, "twice" in err) == (2, True, True)
