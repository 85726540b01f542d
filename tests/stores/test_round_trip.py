"""What goes into a store comes out, here and in plain zarr, whatever guise a frame has."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fusion.errors import InputError
from fusion.kernels.arithmetic import decode_gaps
from fusion.kernels.average.naive import softmax
from fusion.stores import GapCodec, LogitStore, LogitWriter, MemoryStore
from fusion.stores import video_writer as writing
from tests.stores.common import CLASSES, CLIP, folder_of, pixels, problems, write
from tests.stores.contract import StoreContract


class TestCompact(StoreContract):
    profile = "compact"
    dtype = "uint8"
    config = GapCodec().get_config()

    def kept(self, clip):
        return GapCodec().encode(clip)


class TestExact(StoreContract):
    profile = "exact"
    dtype = "float16"
    config = None

    def kept(self, clip):
        return clip.astype(np.float16)


class TestCompactPack(TestCompact):
    packed = True


class TestExactPack(TestExact):
    packed = True


CLIPS = arrays.arrays(
    np.float32,
    st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
    elements=st.floats(-60000, 60000, width=32) | st.integers(-30, 3),
)


@settings(max_examples=15)
@given(clip=CLIPS, profile=st.sampled_from(["compact", "exact"]))
def test_round_trip(clip, profile):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.zarr"
        write(path, {"v": clip}, profile=profile, size=(480, 853))
        store = LogitStore(path)
        expected = clip.astype(np.float16) if profile == "exact" else GapCodec().encode(clip)
        assert store.codes("v").tobytes() == expected.tobytes()
        decoded = (
            expected.astype(np.float32)
            if profile == "exact"
            else decode_gaps(torch.from_numpy(expected)).numpy()
        )
        assert store.read("v").tobytes() == decoded.tobytes()
        assert store.read("v").dtype == np.float32
        if profile == "compact":
            assert np.array_equal(store.read("v").argmax(axis=1), clip.argmax(axis=1))
        assert (store.profile, store.values, store.model) == (profile, "logits", "s")
        info = store.describe("v")
        ids = tuple(str(t) for t in range(len(clip)))
        assert (info.shape, info.size, info.frames) == (clip.shape, (480, 853), ids)


@pytest.mark.parametrize("classes", [1, 257, 1000])
def test_class_counts(store_of, logits, classes):
    clip = logits(2, classes, 2, 3)
    stored = LogitStore(store_of({"v": clip})).read("v")
    assert np.array_equal(stored.argmax(axis=1), clip.argmax(axis=1))


def test_minus_infinity_is_a_class_that_cannot_be(store_of):
    clip = np.zeros((1, 3, 1, 1), np.float32)
    clip[0, 1] = -np.inf
    exact = LogitStore(store_of({"v": clip}, name="e", profile="exact")).read("v")
    assert softmax(torch.from_numpy(exact[0])).ravel().tolist() == [0.5, 0, 0.5]
    assert LogitStore(store_of({"v": clip})).codes("v").ravel().tolist() == [0, 255, 1]


@pytest.mark.parametrize("limit", [1, 4 * 5 * 6, 2 * 4 * 5 * 6, 3 * 4 * 5 * 6 + 1])
def test_videos_of_several_shards(store_of, monkeypatch, logits, limit):
    clip = logits(7, 4, 5, 6)
    whole = pixels(store_of({"v": clip}, name="whole"))
    monkeypatch.setattr(writing, "MAX_SHARD_BYTES", limit)
    path = store_of({"v": clip}, name="parts")
    frames = max(1, limit // 120)
    files = [sum("/c/" in name for name in found) for found in (pixels(path), whole)]
    assert files == [-(-7 // frames), 1]
    assert files[0] > 1
    assert np.array_equal(LogitStore(path).codes("v"), GapCodec().encode(clip))
    some = LogitStore(path).codes("v", ["6", "1", "3"])
    assert np.array_equal(some, GapCodec().encode(clip[[6, 1, 3]]))
    assert np.array_equal(zarr.open_array(folder_of(path), mode="r")[:], GapCodec().encode(clip))
    assert problems(path) == [None]


def variants():
    """The same frame [4, 5, 6] in every guise that a framework may hand over."""
    frame = CLIP[0].astype(np.float16).astype(np.float32)  # float16 keeps it, too
    locked = frame.copy()
    locked.flags.writeable = False
    yield "strided", np.repeat(frame, 2, axis=2)[:, :, ::2]
    yield "transposed", np.ascontiguousarray(frame.transpose(1, 2, 0)).transpose(2, 0, 1)
    yield "reversed", frame[:, ::-1, :].copy()[:, ::-1, :]
    yield "fortran", np.asfortranarray(frame)
    yield "byte-swapped", frame.astype(">f4")
    yield "read-only", locked
    yield "float64", frame.astype(np.float64)
    yield "float16", frame.astype(np.float16)
    yield "list", frame.tolist()
    yield "torch", torch.from_numpy(frame)
    yield "torch, gradient", torch.from_numpy(frame).clone().requires_grad_()
    yield "torch, graph", torch.from_numpy(frame).clone().requires_grad_() * 1
    yield "torch, float64", torch.from_numpy(frame).double()
    yield "torch, float16", torch.from_numpy(frame).half()
    yield (
        "torch, channels last",
        torch.from_numpy(frame)[None].contiguous(memory_format=torch.channels_last)[0],
    )
    yield "torch, parameter", torch.nn.Parameter(torch.from_numpy(frame))


@pytest.mark.parametrize("profile", ["compact", "exact"])
def test_every_guise_of_a_frame_gives_the_same_bytes(tmp_path, profile):
    plain = CLIP[0].astype(np.float16).astype(np.float32)
    names, guises = zip(*variants(), strict=True)
    write(tmp_path / "plain" / "s.zarr", {"v": [plain] * len(guises)}, profile=profile)
    write(tmp_path / "odd" / "s.zarr", {"v": guises}, profile=profile, classes=CLASSES)
    stored = LogitStore(tmp_path / "odd" / "s.zarr").codes("v")
    pairs = zip(names, stored, strict=True)
    assert [name for name, codes in pairs if codes.tobytes() != stored[0].tobytes()] == []
    assert pixels(tmp_path / "odd" / "s.zarr") == pixels(tmp_path / "plain" / "s.zarr")


def test_bfloat16(store_of):
    frame = torch.from_numpy(CLIP[0]).bfloat16()
    path = store_of({"v": CLIP[:1]})
    write(path, {"half": [frame]})
    assert np.array_equal(
        LogitStore(path).codes("half")[0], GapCodec().encode(frame.float().numpy())
    )


def test_writing_leaves_the_callers_array_alone(store_of):
    clip = CLIP.copy()
    store_of({"v": clip}, values="logits")
    assert clip.tobytes() == CLIP.tobytes()


# --- what the values are


@settings(max_examples=15)
@given(
    clip=arrays.arrays(
        np.float32, (1, 3, 2, 2), elements=st.sampled_from([0.0, 1e-3, 0.25, 0.5, 1.0, 17.0])
    ),
    profile=st.sampled_from(["compact", "exact"]),
)
def test_probabilities_are_kept_as_logarithms_and_come_back_normalised(clip, profile):
    clip[:, 1] += 0.125  # no pixel without any probability
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.zarr"
        write(path, {"v": clip}, profile=profile, values="probabilities")
        store = LogitStore(path)
        assert (store.values, store.kernel_values) == ("probabilities", "logits")
        logits = store.read("v")[0].astype(np.float64)
    exponentials = np.exp(logits - logits.max(axis=0))
    normalised = clip[0].astype(np.float64) / clip[0].sum(axis=0, dtype=np.float64)
    np.testing.assert_allclose(
        exponentials / exponentials.sum(axis=0),
        normalised,
        atol=0.005 if profile == "compact" else 0.002,
    )


def test_scores_are_kept_as_they_are_and_only_in_exact(store_of, tmp_path):
    clip = np.abs(CLIP).astype(np.float16).astype(np.float32)
    store = LogitStore(store_of({"v": clip}, profile="exact", values="scores"))
    assert np.array_equal(store.read("v"), clip)
    assert (store.values, store.kernel_values) == ("scores", "probabilities")
    with pytest.raises(InputError, match="use profile='exact'"):
        LogitWriter(tmp_path / "other", ["a"], values="scores")
    assert not (tmp_path / "other").exists()


def test_codes_are_unpacked_where_they_are_wanted(tmp_path):
    """On disk, in packs and in memory; what does not fit is refused before a byte is written."""
    draw = np.random.default_rng(3)
    clip = draw.normal(0, 3, (5, 3, 4, 6)).astype(np.float32)
    writer = LogitWriter(tmp_path / "m.zarr", ["a", "b", "c"], "exact")
    with writer.video("v", frames=list("abcde"), size=(4, 6)) as out:
        for frame in clip:
            out.append(frame)
    for store in (LogitStore(tmp_path / "m.zarr"), MemoryStore({"v": clip}, ["a", "b", "c"])):
        dtype = store.codes("v").dtype
        frames = [store.frames("v")[k] for k in (3, 0, 4)]
        whole = np.full((6, 3, 4, 6), 7, dtype)  # with gaps between frames
        store.codes_into("v", frames, whole[::2])
        assert np.array_equal(whole[::2], store.codes("v", frames))
        assert (whole[1::2] == 7).all()
        for bad in (whole[:3, :2], whole[:3].astype(np.float64), whole[:3].transpose(0, 1, 3, 2)):
            with pytest.raises(
                InputError, match=r"out: got float\d+ .*; give float\d+ \[T, 3, 4, 6\]"
            ):
                store.codes_into("v", frames, bad)
        strided = np.full((3, 3, 4, 12), 7, dtype)[..., ::2]
        with pytest.raises(InputError, match="frames with gaps; give"):
            store.codes_into("v", frames, strided)
        assert (strided == 7).all()
        with pytest.raises(InputError, match="has no frame 'none'"):
            store.codes_into("v", ["none"], whole[:1])
