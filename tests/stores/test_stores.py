"""Logit stores in order: what goes in comes out, in this library and in plain zarr; bad input is refused and nothing is committed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fusion import cli
from fusion.errors import InputError, StoreConflictError, StoreError
from fusion.kernels.arithmetic import decode_gaps
from fusion.kernels.average.naive import softmax
from fusion.stores import GapCodec, LogitStore, LogitWriter
from fusion.stores import __main__ as commands
from fusion.stores import writer as writing
from fusion.stores.format import STAGING, video_key
from fusion.stores.maintenance import gc, verify

CLIP = np.random.default_rng(1).normal(0, 6, (3, 4, 5, 6)).astype(np.float32)


def write(
    path: Path, video: str, clip, *, frames=None, size=None, classes=None, **options
) -> LogitWriter:
    """Writes one clip [T, C, h, w] (or a list of frames) to a new or existing store."""
    writer = LogitWriter(path, classes or [f"class {c}" for c in range(len(clip[0]))], **options)
    with writer.video(video, frames=frames or [str(t) for t in range(len(clip))], size=size) as out:
        for frame in clip:
            out.append(frame)
    return writer


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its bytes."""
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def pixels(folder: Path) -> dict[str, bytes]:
    """The files whose bytes depend on what was written alone, not on who wrote it and when."""
    return {
        name: data
        for name, data in tree(folder).items()
        if not name.startswith(STAGING) and not name.endswith("commit.json")
    }


def nothing_but_the_group(path: Path) -> bool:
    """No video, not even part of one, and no work in progress."""
    return LogitStore(path).videos == () and sorted(tree(path)) == ["zarr.json"]


# --- what goes in comes out


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
        write(path, "v", clip, profile=profile, size=(480, 853))
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
        assert (info.shape, info.size, info.frames) == (
            clip.shape,
            (480, 853),
            tuple(str(t) for t in range(len(clip))),
        )


@pytest.mark.parametrize(("profile", "dtype"), [("compact", "uint8"), ("exact", "float16")])
def test_plain_zarr_reads_the_same_numbers(store_of, profile, dtype):
    path = store_of({"v": CLIP}, profile=profile)
    array = zarr.open_array(path / video_key("v"), mode="r")
    assert array[:].tobytes() == LogitStore(path).codes("v").tobytes()
    assert array.dtype == dtype
    assert array.metadata.dimension_names == ("frame", "class", "y", "x")
    assert array.chunks == (1, 4, 5, 6)
    assert array.attrs["segfusion"]["video"] == "v"
    group = zarr.open_group(path, mode="r").attrs["segfusion"]
    assert group["classes"] == ["class 0", "class 1", "class 2", "class 3"]
    assert group["codec"] == (GapCodec().get_config() if profile == "compact" else None)


@pytest.mark.parametrize("classes", [1, 257, 1000])
def test_class_counts(store_of, logits, classes):
    clip = logits(2, classes, 2, 3)
    assert np.array_equal(
        LogitStore(store_of({"v": clip})).read("v").argmax(axis=1), clip.argmax(axis=1)
    )


def test_constant_logits_and_ties_go_to_the_lowest_class(store_of):
    clip = np.zeros((1, 3, 1, 2), np.float32)
    clip[0, 1:, 0, 1] = 7
    for profile in ("compact", "exact"):
        stored = LogitStore(store_of({"v": clip}, name=profile, profile=profile)).read("v")
        assert stored.argmax(axis=1).ravel().tolist() == [0, 1]


def test_minus_infinity_is_a_class_that_cannot_be(store_of):
    clip = np.zeros((1, 3, 1, 1), np.float32)
    clip[0, 1] = -np.inf
    exact = LogitStore(store_of({"v": clip}, name="e", profile="exact")).read("v")
    assert softmax(torch.from_numpy(exact[0])).ravel().tolist() == [0.5, 0, 0.5]
    assert LogitStore(store_of({"v": clip})).codes("v").ravel().tolist() == [0, 255, 1]


def test_frames_by_id_in_the_order_asked_for(store_of):
    store = LogitStore(store_of({"v": CLIP}, profile="exact"))
    whole = store.read("v")
    assert np.array_equal(store.read("v", ["2", "0", "2"]), whole[[2, 0, 2]])
    assert store.read("v", []).shape == (0, 4, 5, 6)
    with pytest.raises(InputError, match=r"s.zarr: video 'v' has no frame '7' \(2 missing of 3\)"):
        store.read("v", ["0", "7", "8"])


@pytest.mark.parametrize("limit", [1, 4 * 5 * 6, 2 * 4 * 5 * 6, 3 * 4 * 5 * 6 + 1])
def test_videos_of_several_shards(store_of, monkeypatch, logits, limit):
    clip = logits(7, 4, 5, 6)
    whole = pixels(store_of({"v": clip}, name="whole"))
    monkeypatch.setattr(writing, "MAX_SHARD_BYTES", limit)
    path = store_of({"v": clip}, name="parts")
    frames = max(1, limit // 120)
    assert (
        sum("/c/" in name for name in pixels(path))
        == -(-7 // frames)
        > 1
        == sum("/c/" in name for name in whole)
    )
    assert np.array_equal(LogitStore(path).codes("v"), GapCodec().encode(clip))
    assert np.array_equal(
        LogitStore(path).codes("v", ["6", "1", "3"]), GapCodec().encode(clip[[6, 1, 3]])
    )
    assert np.array_equal(
        zarr.open_array(path / video_key("v"), mode="r")[:], GapCodec().encode(clip)
    )
    assert [verdict.problem for verdict in verify(path)] == [None]


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
    write(tmp_path / "plain" / "s.zarr", "v", [plain] * len(list(variants())), profile=profile)
    write(tmp_path / "odd" / "s.zarr", "v", [frame for _, frame in variants()], profile=profile)
    stored = LogitStore(tmp_path / "odd" / "s.zarr").codes("v")
    assert [
        name
        for (name, _), codes in zip(variants(), stored, strict=True)
        if codes.tobytes() != stored[0].tobytes()
    ] == []
    assert pixels(tmp_path / "odd" / "s.zarr") == pixels(tmp_path / "plain" / "s.zarr")


def test_bfloat16(store_of):
    frame = torch.from_numpy(CLIP[0]).bfloat16()
    path = store_of({"v": CLIP[:1]})
    write(path, "half", [frame])
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
        write(path, "v", clip, profile=profile, values="probabilities")
        store = LogitStore(path)
        assert store.values == "probabilities"
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
    assert np.array_equal(
        LogitStore(store_of({"v": clip}, profile="exact", values="scores")).read("v"), clip
    )
    with pytest.raises(InputError, match="use profile='exact'"):
        LogitWriter(tmp_path / "other", ["a"], values="scores")
    assert not (tmp_path / "other").exists()


# --- what is refused


def spoilt(index, value, dtype=np.float32):
    frame = CLIP[0].astype(dtype)
    frame[index] = value
    return frame


REFUSED = {
    "nan": (
        spoilt((1, 2, 3), np.nan),
        {},
        r"frame 1 \('1'\): 1 NaN or \+inf, the first at \[class, y, x\] = \[1, 2, 3\]",
    ),
    "many nan": (
        spoilt((slice(2, 4), 0), np.nan),
        {},
        r"12 NaN or \+inf, the first at \[class, y, x\] = \[2, 0, 0\]",
    ),
    "inf": (
        spoilt((0, 4, 5), np.inf),
        {},
        r"1 NaN or \+inf, the first at \[class, y, x\] = \[0, 4, 5\]",
    ),
    "float64 beyond float32": (spoilt((0, 0, 0), 1e300, np.float64), {}, "beyond float32"),
    "float64 far below": (spoilt((0, 0, 0), -1e300, np.float64), {}, "beyond float32"),
    "torch float64": (
        torch.from_numpy(spoilt((0, 0, 0), -1e300, np.float64)),
        {},
        "beyond float32",
    ),
    "beyond float16": (
        spoilt((1, 0, 0), 65520.0),
        {"profile": "exact"},
        "1 values beyond float16's 65504",
    ),
    "far below float16": (
        spoilt((1, 0, 0), -1e5),
        {"profile": "exact"},
        "1 values beyond float16's 65504",
    ),
    "dead pixel": (
        spoilt((slice(None), 2, 1), -np.inf),
        {},
        r"1 pixels have no class .* \[y, x\] = \[2, 1\]",
    ),
    "dead probability": (
        spoilt(slice(None), 0.0),
        {"values": "probabilities"},
        r"30 pixels have no class .* \[0, 0\]",
    ),
    "negative probability": (
        spoilt(slice(None), -0.5),
        {"values": "probabilities"},
        "120 negative probabilities",
    ),
    "nan score": (spoilt((0, 0, 0), np.nan), {"values": "scores", "profile": "exact"}, "1 NaN"),
    "integers": (CLIP[0].astype(np.int32), {}, "got dtype int32; give floating-point logits"),
    "torch integers": (
        torch.zeros(4, 5, 6, dtype=torch.uint8),
        {},
        "got torch.uint8; give floating-point",
    ),
    "complex": (CLIP[0].astype(np.complex64), {}, "got dtype complex64"),
    "strings": (np.full((4, 5, 6), "x"), {}, "got dtype <U1"),
    "objects": (np.full((4, 5, 6), None), {}, "got dtype object"),
    "class count": (CLIP[0, :3], {}, r"got shape \[3, 5, 6\], expected \[4, h, w\]"),
    "clip": (CLIP, {}, r"got shape \[3, 4, 5, 6\], expected \[4, h, w\]"),
    "flat": (CLIP[0, :, 0], {}, r"got shape \[4, 6\]"),
    "zero height": (CLIP[0, :, :0], {}, r"got shape \[4, 0, 6\]"),
    "other size": (CLIP[0, :, :4], {}, r"got \[4, 4, 6\], the first frame \[4, 5, 6\]"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_frame_is_refused_by_name_and_nothing_is_committed(tmp_path, case):
    frame, options, message = REFUSED[case]
    good = np.abs(CLIP[0])
    with pytest.raises(InputError, match=message) as caught:
        write(tmp_path / "s.zarr", "v", [good, frame], **options)
    assert str(caught.value).startswith("s.zarr: video 'v', frame 1")
    assert "\n" not in str(caught.value)
    assert nothing_but_the_group(tmp_path / "s.zarr")


def test_65504_fits_in_float16(store_of):
    clip = np.full((1, 1, 1, 2), [[[[65504, -65519]]]], np.float32)
    assert LogitStore(store_of({"v": clip}, profile="exact")).read("v").ravel().tolist() == [
        65504,
        -65504,
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": []}, "at least one"),
        ({"frames": "abc"}, "give a list"),
        ({"frames": None}, "give a list"),
        ({"frames": [1, 2]}, "each a string"),
        ({"frames": ["a", "b", "a"]}, r"\['a'\] stand in the list twice"),
        ({"video": 5}, "video id: got 5; give a string"),
        ({"size": (0, 5)}, "both at least 1"),
        ({"size": (480,)}, "give .height, width. in pixels"),
        ({"size": "480x853"}, "give .height, width. in pixels"),
        ({"size": 480}, "give .height, width. in pixels"),
        ({"size": (1.5, 2)}, "give .height, width. in pixels"),
    ],
)
def test_bad_arguments_of_a_video(tmp_path, change, message):
    writer = LogitWriter(tmp_path / "s.zarr", ["a"])
    arguments = {"video": "v", "frames": ["0"], **change}
    with pytest.raises(InputError, match=message):
        writer.video(arguments.pop("video"), **arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": []}, "classes: .* at least one"),
        ({"classes": "road"}, "classes: got 'road'; give a list"),
        ({"classes": None}, "classes: got None"),
        ({"classes": [1, 2]}, "each a string"),
        ({"classes": ["sky", "road", "sky"]}, r"\['sky'\] stand in the list twice"),
        ({"profile": "tiny"}, "profile 'tiny'"),
        ({"values": "votes"}, "values 'votes'"),
        ({"model": 5}, "model 5"),
        ({"provenance": {"seed": {1, 2}}}, "provenance: not JSON"),
        ({"provenance": {"loss": float("nan")}}, "provenance: not JSON"),
        ({"provenance": ["seed"]}, "provenance list"),
        ({"provenance": {"log": "x" * (16 << 20)}}, "below 16777216 bytes"),
    ],
)
def test_bad_arguments_of_a_store(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        LogitWriter(tmp_path / "s.zarr", **{"classes": ["a"], **change})
    assert not (tmp_path / "s.zarr").exists()


def test_too_many_and_too_few_frames(tmp_path):
    with pytest.raises(InputError, match="got more frames than the 1 announced"):
        write(tmp_path / "s.zarr", "v", CLIP[:2], frames=["0"])
    with pytest.raises(InputError, match="got 2 frames, 3 announced"):
        write(tmp_path / "s.zarr", "v", CLIP[:2], frames=["0", "1", "2"])
    assert nothing_but_the_group(tmp_path / "s.zarr")


# --- the protocol


def test_a_committed_video_is_skipped_and_its_frames_are_not_looked_at(store_of):
    path = store_of({"v": CLIP})
    before = tree(path)
    with LogitWriter(path, [f"class {c}" for c in range(4)]).video(
        "v", frames=["0", "1", "2"]
    ) as out:
        assert out.committed
        out.append("anything at all")
    assert tree(path) == before


@pytest.mark.parametrize(
    "change", [{"frames": ["0", "1", "3"]}, {"frames": ["0", "2", "1"]}, {"size": (480, 853)}]
)
def test_a_committed_video_is_never_replaced_by_another(store_of, change):
    path = store_of({"v": CLIP})
    before = tree(path)
    with pytest.raises(
        StoreConflictError,
        match=r"video 'v' is committed already with other content .* to replace it",
    ):
        write(path, "v", CLIP, **change)
    assert tree(path) == before


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["d", "c", "b", "a"]},
        {"profile": "exact"},
        {"values": "probabilities"},
        {"model": "another"},
    ],
)
def test_a_store_of_another_kind_is_not_written_to(tmp_path, change):
    write(tmp_path / "s.zarr", "v", CLIP, classes=list("abcd"))
    before = tree(tmp_path)
    with pytest.raises(StoreConflictError, match=f"holds a store with {next(iter(change))} "):
        LogitWriter(tmp_path / "s.zarr", **{"classes": list("abcd"), **change})
    assert tree(tmp_path) == before


def test_readers_see_nothing_before_the_commit(store_of):
    path = store_of({"first": CLIP})
    with LogitWriter(path, [f"class {c}" for c in range(4)]).video(
        "second", frames=["0", "1"]
    ) as out:
        for frame in CLIP[:2]:
            assert LogitStore(path).videos == ("first",)
            out.append(frame)
        assert LogitStore(path).videos == ("first",)
    assert LogitStore(path).videos == ("first", "second")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_interrupted_writer_leaves_nothing_and_resumes(store_of, tmp_path, monkeypatch, stop):
    monkeypatch.setattr(writing, "MAX_SHARD_BYTES", 1)  # every frame is on disk at once
    clean = store_of({"a": CLIP, "b": CLIP * 2}, name="clean/s.zarr")
    path = store_of({"a": CLIP}, name="resumed/s.zarr")
    writer = LogitWriter(path, [f"class {c}" for c in range(4)])
    with pytest.raises(stop), writer.video("b", frames=["0", "1", "2"]) as out:  # noqa: PT012
        out.append(CLIP[0] * 2)
        raise stop
    assert LogitStore(path).videos == ("a",)
    assert list((path / STAGING).iterdir()) == []
    store_of({"a": CLIP, "b": CLIP * 2}, name="resumed/s.zarr")
    assert pixels(path) == pixels(clean)
    assert LogitStore(path).digest() == LogitStore(clean).digest()


def test_losing_a_race_to_the_same_bytes_is_no_error_and_to_others_is_one(tmp_path):
    writer = LogitWriter(tmp_path / "s.zarr", ["a", "b", "c", "d"])
    for video, theirs, ours in (("same", CLIP, CLIP), ("other", CLIP, CLIP[::-1])):
        slow = writer.video(video, frames=["0", "1", "2"])
        write(tmp_path / "s.zarr", video, theirs, classes=["a", "b", "c", "d"])
        for frame in ours:
            slow.append(frame)
        if video == "same":
            slow.__exit__(None)
        else:
            with pytest.raises(StoreConflictError, match="video 'other' is committed already"):
                slow.__exit__(None)
        assert np.array_equal(
            LogitStore(tmp_path / "s.zarr").codes(video), GapCodec().encode(theirs)
        )
    assert list((tmp_path / "s.zarr" / STAGING).iterdir()) == []


def test_of_two_creators_of_a_store_one_wins(tmp_path, monkeypatch):
    link = os.link

    def late(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        LogitWriter(tmp_path / "s.zarr", ["theirs"])
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(StoreConflictError, match="holds a store with classes"):
        LogitWriter(tmp_path / "s.zarr", ["ours"])
    assert LogitStore(tmp_path / "s.zarr").classes == ("theirs",)


def test_the_digest_tells_numbers_apart_and_nothing_else(store_of, tmp_path):
    digest = LogitStore(store_of({"a": CLIP, "b": CLIP}, name="1/s.zarr")).digest()
    write(tmp_path / "2" / "s.zarr", "b", CLIP)
    write(tmp_path / "2" / "s.zarr", "a", CLIP, provenance={"seed": 3})
    assert LogitStore(tmp_path / "2" / "s.zarr").digest() == digest
    other = CLIP.copy()
    other[2, 3, 4, 5] += 9
    assert LogitStore(store_of({"a": CLIP, "b": other}, name="3/s.zarr")).digest() != digest
    assert LogitStore(store_of({"a": CLIP, "c": CLIP}, name="4/s.zarr")).digest() != digest
    assert LogitStore(store_of({"a": CLIP, "b": CLIP}, name="5/other.zarr")).digest() != digest
    store = LogitStore(tmp_path / "2" / "s.zarr")
    assert store.digest(["a"]) != store.digest() == store.digest(["b", "a"])


# --- names


NAMES = [
    "../../x", "/abs", "..", ".", "", " ", "a/b", "a\\b", "C:", "NUL\0byte", "new\nline", "CON", "con", "Con.txt", "x" * 300, "x" * 301,
    "Straße", "STRASSE", unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é"), "\ud800", "\udfff", "日本", ".staging",
    "zarr.json", "commit.json", "-", "_", "a b", "a-b", "\u202e", "%2e%2e", "*", "~",
]  # fmt: skip


def test_no_video_id_escapes_or_collides(tmp_path):
    for number, name in enumerate(NAMES):
        write(
            tmp_path / "s.zarr",
            name,
            CLIP[:1, :, :1, :1] + number,
            frames=[name],
            profile="exact",
            classes=list("abcd"),
        )
    store = LogitStore(tmp_path / "s.zarr")
    assert set(store.videos) == set(NAMES)
    assert sorted(os.listdir(tmp_path)) == ["s.zarr"]
    for number, name in enumerate(NAMES):
        assert np.array_equal(
            store.codes(name, [name]), (CLIP[:1, :, :1, :1] + number).astype(np.float16)
        )
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


def test_reading_needs_no_write_and_makes_no_file(store_of):
    path = store_of({"v": CLIP})
    before = {p: p.stat() for p in path.rglob("*")}
    store = LogitStore(path)
    store.read("v")
    assert [verdict.problem for verdict in verify(path)] == [None]
    assert gc(path) == []
    assert cli.run(commands.main, ["info", str(path)]) == 0
    after = {p: p.stat() for p in path.rglob("*")}
    assert {p: (s.st_mtime_ns, s.st_ctime_ns, s.st_size) for p, s in after.items()} == {
        p: (s.st_mtime_ns, s.st_ctime_ns, s.st_size) for p, s in before.items()
    }


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
    with pytest.raises(InputError, match="no video 'city_001'; did you mean 'city_0001'"):
        store.read("city_001")
    with pytest.raises(InputError, match="it holds 1 videos"):
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


# --- gc


def dead_writer(path: Path, name: str, age: float, *, lock: bool = True) -> Path:
    folder = path / STAGING / name
    (folder / "video").mkdir(parents=True)
    (folder / "video" / "chunk").write_bytes(b"x" * 1000)
    if lock:
        (folder / "lock").touch()
    moment = folder.stat().st_mtime - age
    os.utime(folder, (moment, moment))
    return folder


def test_gc_takes_old_work_of_dead_writers_alone(store_of):
    path = store_of({"v": CLIP})
    before = pixels(path)
    dead_writer(path, "old", 7200)
    dead_writer(path, "old and lockless", 7200, lock=False)
    dead_writer(path, "young", 60)
    dead_writer(path, "from the future", -7200)
    with LogitWriter(path, [f"class {c}" for c in range(4)]).video(
        "living", frames=["0", "1"]
    ) as out:
        out._pending = []
        out.append(CLIP[0])
        out._stage(np.stack(out._pending))
        living = out._staging.name
        os.utime(out._staging, (0, 0))
        assert gc(path, dry_run=True) == [
            ("from the future", 1000),
            ("old", 1000),
            ("old and lockless", 1000),
        ]
        assert len(list((path / STAGING).iterdir())) == 5
        assert [name for name, _ in gc(path)] == ["from the future", "old", "old and lockless"]
        assert {p.name for p in (path / STAGING).iterdir()} == {"young", living}
        out.append(CLIP[1])
    assert [name for name, _ in gc(path, age=0)] == ["young"]
    assert gc(path) == []
    assert LogitStore(path).videos == ("living", "v")
    assert {name: data for name, data in pixels(path).items() if "living" not in name} == before


def test_gc_works_beside_damage_and_follows_no_link(store_of, tmp_path):
    path = store_of({"v": CLIP})
    next(path.glob("v-*/commit.json")).write_text("{}")
    outside = dead_writer(tmp_path / "elsewhere", "precious", 7200)
    (path / STAGING).mkdir(exist_ok=True)
    (path / STAGING / "link").symlink_to(outside)
    dead_writer(path, "old", 7200)
    assert [name for name, _ in gc(path)] == ["old"]
    assert (outside / "video" / "chunk").exists()


def test_gc_beside_a_writer_that_finishes_just_then(store_of, monkeypatch):
    path = store_of({"v": CLIP})
    folder = dead_writer(path, "old", 7200)
    monkeypatch.setattr(
        "fusion.stores.maintenance._alive", lambda _: folder.rename(path / "gone") and False
    )
    monkeypatch.setattr("fusion.stores.maintenance.os.walk", lambda _: iter(()))
    assert gc(path) == []


# --- the command line


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = cli.run(commands.main, [str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_info(store_of, capsys):
    one = store_of({"v": CLIP, "w": CLIP}, name="one.zarr", provenance={"seed": 1})
    two = store_of({"v": CLIP[:, :, :2]}, name="two.zarr", profile="exact")
    code, out, err = run(capsys, "info", one, two)
    assert (code, err) == (0, "")
    header, _, first, second = out.splitlines()
    assert header.split()[:7] == [
        "store",
        "profile",
        "values",
        "classes",
        "videos",
        "frames",
        "shape",
    ]
    assert first.split()[:9] == [
        "one.zarr",
        "compact",
        "logits",
        "4",
        "2",
        "6",
        "5x6",
        "for",
        "5x6",
    ]
    assert second.split()[:9] == ["two.zarr", "exact", "logits", "4", "1", "3", "2x6", "for", "2x6"]
    code, out, _ = run(capsys, "info", "--json", one, two)
    rows = json.loads(out)
    assert code == 0
    assert [row["frames"] for row in rows] == [6, 3]
    assert rows[0]["bytes"] == sum(len(data) for data in tree(one).values())
    assert rows[0]["float16_bytes"] == 2 * 2 * CLIP.size
    assert rows[0]["provenance"] == {"seed": 1}
    assert rows[0]["digest"] == LogitStore(one).digest()


def test_verify_lists_every_damaged_video(store_of, capsys):
    path = store_of(dict.fromkeys("abcdef", CLIP))
    folder = {name: next(path.glob(f"{name}-*")) for name in "abcdef"}
    (folder["a"] / "c/0/0/0/0").unlink()
    (folder["b"] / "commit.json").write_text("null")
    data = bytearray((folder["d"] / "c/0/0/0/0").read_bytes())
    data[40] ^= 1
    (folder["d"] / "c/0/0/0/0").write_bytes(data)
    folder["e"].rename(path / "elsewhere")
    folder["e"].symlink_to("elsewhere")
    code, out, err = run(capsys, "verify", path)
    assert code == 2
    assert (
        out == "7 videos, 6 frames read, 5 videos damaged\n"
    )  # the link and what it points to are both refused
    assert len(err.splitlines()) == 5
    assert all(line.startswith("error: ") for line in err.splitlines())
    for name in "abde":
        assert folder[name].name in err or f"video '{name}'" in err
    code, out, _ = run(capsys, "verify", "--json", path)
    rows = json.loads(out)
    assert code == 2
    assert {row["folder"][0] for row in rows if row["problem"] is None} == {"c", "f"}
    assert [row["frames"] for row in rows if row["problem"] is None] == [3, 3]


def test_verify_of_sound_stores(store_of, capsys):
    one, two = store_of({"v": CLIP}, name="1"), store_of({"v": CLIP, "w": CLIP}, name="2")
    assert run(capsys, "verify", one, two)[:2] == (0, "3 videos, 9 frames read, 0 videos damaged\n")


def test_gc_command(store_of, capsys):
    path = store_of({"v": CLIP})
    folder = dead_writer(path, "old", 7200)
    assert run(capsys, "gc", "--dry-run", path) == (0, f"{path}: would remove old (1 KB)\n", "")
    assert folder.exists()
    assert run(capsys, "gc", "--age", 9000, path) == (0, "", "")
    assert run(capsys, "gc", path) == (0, f"{path}: removed old (1 KB)\n", "")
    assert not folder.exists()


@pytest.mark.parametrize("command", ["info", "verify", "gc"])
def test_a_missing_store_is_one_line_and_code_2(tmp_path, capsys, command):
    code, out, err = run(capsys, command, tmp_path / "none")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {tmp_path}/none: no such logit store")
    assert err.count("\n") == 1


def test_the_program(store_of, tmp_path):
    path = store_of({"v": CLIP})
    shell = [sys.executable, "-m", "fusion.stores"]
    here = Path(__file__).parent.parent
    done = subprocess.run(
        [*shell, "verify", path], cwd=here, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "1 videos, 3 frames read, 0 videos damaged\n",
        "",
    )
    done = subprocess.run(
        [*shell, "info", tmp_path / "none"], cwd=here, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("error: ")
