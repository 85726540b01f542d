"""The commit protocol: a video appears whole, is then skipped or refused, and never replaced."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from fusion.errors import InputError, StoreConflictError
from fusion.stores import GapCodec, LogitStore, LogitWriter
from fusion.stores import video_writer as writing
from tests.stores.common import CLASSES, CLIP, pixels, staging, tree, write


def test_a_committed_video_is_skipped_and_its_frames_are_not_looked_at(store_of):
    path = store_of({"v": CLIP})
    before = tree(path)
    with LogitWriter(path, CLASSES).video("v", frames=["0", "1", "2"]) as out:
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
        write(path, {"v": CLIP}, **change)
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
    write(tmp_path / "s.zarr", {"v": CLIP}, classes=list("abcd"))
    before = tree(tmp_path)
    with pytest.raises(StoreConflictError, match=f"holds a store with {next(iter(change))} "):
        LogitWriter(tmp_path / "s.zarr", **{"classes": list("abcd"), **change})
    assert tree(tmp_path) == before


def test_readers_see_nothing_before_the_commit(store_of):
    path = store_of({"first": CLIP})
    with LogitWriter(path, CLASSES).video("second", frames=["0", "1"]) as out:
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
    writer = LogitWriter(path, CLASSES)
    with pytest.raises(stop), writer.video("b", frames=["0", "1", "2"]) as out:  # noqa: PT012
        out.append(CLIP[0] * 2)
        raise stop
    assert LogitStore(path).videos == ("a",)
    assert staging(path) == []
    store_of({"a": CLIP, "b": CLIP * 2}, name="resumed/s.zarr")
    assert pixels(path) == pixels(clean)
    assert LogitStore(path).digest() == LogitStore(clean).digest()


def test_losing_a_race_to_the_same_bytes_is_no_error_and_to_others_is_one(tmp_path):
    writer = LogitWriter(tmp_path / "s.zarr", CLASSES)
    for video, theirs, ours in (("same", CLIP, CLIP), ("other", CLIP, CLIP[::-1])):
        slow = writer.video(video, frames=["0", "1", "2"])
        write(tmp_path / "s.zarr", {video: theirs})
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
    assert staging(tmp_path / "s.zarr") == []


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
    write(tmp_path / "2" / "s.zarr", {"b": CLIP})
    write(tmp_path / "2" / "s.zarr", {"a": CLIP}, provenance={"seed": 3})
    assert LogitStore(tmp_path / "2" / "s.zarr").digest() == digest
    other = CLIP.copy()
    other[2, 3, 4, 5] += 9
    assert LogitStore(store_of({"a": CLIP, "b": other}, name="3/s.zarr")).digest() != digest
    assert LogitStore(store_of({"a": CLIP, "c": CLIP}, name="4/s.zarr")).digest() != digest
    assert LogitStore(store_of({"a": CLIP, "b": CLIP}, name="5/other.zarr")).digest() != digest
    store = LogitStore(tmp_path / "2" / "s.zarr")
    assert store.digest(["a"]) != store.digest() == store.digest(["b", "a"])


# --- geometry

AFFINE = {"kind": "nifti", "affine": [[0.1, 0, 0, -1e-300], [0, 1 / 3, 0, 5]], "spacing": [3, 1]}


@pytest.mark.parametrize("packed", [False, True])
def test_a_geometry_stands_beside_the_video_and_counts_in_the_digest(tmp_path, packed):
    plain = LogitStore(write(tmp_path / "plain" / "s.zarr", {"v": CLIP}, packed=packed))
    path = write(tmp_path / "s.zarr", {"v": CLIP}, packed=packed, geometry=AFFINE)
    store = LogitStore(path)
    assert store.describe("v").geometry == AFFINE
    assert plain.describe("v").geometry is None
    assert store.digest() != plain.digest()
    assert hash(store.describe("v")) == hash(LogitStore(path).describe("v"))
    assert LogitWriter(path, CLASSES).video("v", frames=["0", "1", "2"]).committed
    write(path, {"v": CLIP}, geometry={**AFFINE})
    with pytest.raises(StoreConflictError, match=r"other content \(geometry\)"):
        write(path, {"v": CLIP}, geometry={**AFFINE, "kind": "other"})
    write(path, {"v": CLIP}, geometry={}, overwrite=True)
    assert LogitStore(path).describe("v").geometry == {}


@pytest.mark.parametrize("packed", [False, True])
def test_without_a_geometry_no_word_of_it_is_written(tmp_path, packed):
    path = write(tmp_path / "s.zarr", {"v": CLIP}, packed=packed)
    assert not any(b"geometry" in data or b"replaces" in data for data in tree(path).values())


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ([1], r"got \[1\]"),
        ("wkt", "got 'wkt'"),
        ({"affine": np.eye(4)}, "not JSON"),
        ({"x": float("nan")}, "not JSON"),
        ({1: 2, "1": 3}, "got {1: 2"),
    ],
)
def test_a_geometry_that_is_none(tmp_path, geometry, message):
    writer = LogitWriter(tmp_path / "s.zarr", CLASSES)
    with writer.pack() as pack:
        for place in (writer, pack):
            with pytest.raises(InputError, match=f"geometry: {message}.*; give a dict"):
                place.video("v", frames=["0"], geometry=geometry)


@pytest.mark.parametrize("packed", [False, True])
def test_a_geometry_beyond_the_limit_of_metadata_is_refused(tmp_path, packed):
    path = tmp_path / "s.zarr"
    with pytest.raises(InputError, match=r"'v': frame ids and geometry take \d+ bytes, metadata"):
        write(path, {"v": CLIP}, packed=packed, geometry={"x": "y" * (17 << 20)})
    assert LogitStore(path).videos == ()
    assert staging(path) == []


# --- extend


@pytest.mark.parametrize(
    "batch", [list, np.asarray, torch.from_numpy, iter, lambda clip: (frame for frame in clip)]
)
@pytest.mark.parametrize("packed", [False, True])
def test_extend_is_append_of_each(tmp_path, batch, packed):
    path = tmp_path / "s.zarr"
    writer = LogitWriter(path, CLASSES)
    with (
        writer.pack() if packed else writer as place,
        place.video("v", frames=["0", "1", "2"]) as out,
    ):
        out.append(CLIP[0])
        out.extend(batch(CLIP[1:]))
    one = write(tmp_path / "one" / "s.zarr", {"v": CLIP}, packed=packed)
    assert pixels(path) == pixels(one)
    with writer.video("v", frames=["0", "1", "2"]) as out:
        out.extend([5])  # there already: not looked at


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (5, "batch: got 5 .int.; give an iterable"),
        (CLIP[0], r"frame 0 .'0'.: got shape \[5, 6\], expected \[4, h, w\]"),
        (CLIP, "frame 2: got more frames than the 2 announced"),
        ([CLIP[0], None], r"frame 1 \('1'\): got dtype object"),
    ],
)
def test_extend_refuses_what_append_refuses(tmp_path, batch, message):
    writer = LogitWriter(tmp_path / "s.zarr", CLASSES)
    with pytest.raises(InputError, match=message), writer.video("v", frames=["0", "1"]) as out:
        out.extend(batch)
    assert LogitStore(tmp_path / "s.zarr").videos == ()
