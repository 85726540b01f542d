"""The commit protocol: a video appears whole, is then skipped or refused, and never replaced."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fusion.errors import StoreConflictError
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
