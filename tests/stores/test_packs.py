"""Packs: many small videos in one array, committed together; each is a video like any other."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr

from fusion.errors import InputError, StoreConflictError
from fusion.stores import GapCodec, LogitStore, LogitWriter, pack_writer
from fusion.stores.maintenance import verify
from tests.stores.common import (
    CLASSES,
    IMAGES,
    folder_of,
    image,
    packs_of,
    pixels,
    problems,
    refused,
    staging,
    tree,
    write,
)


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "s.zarr", IMAGES, packed=True)


def test_images_of_many_sizes_share_one_folder(path):
    assert sorted(os.listdir(path)) == [".staging", packs_of(path)[0].name, "zarr.json"]
    store = LogitStore(path)
    assert store.videos == tuple(IMAGES)
    for name, clip in IMAGES.items():
        info = store.describe(name)
        assert store.codes(name).tobytes() == GapCodec().encode(clip).tobytes()
        assert (info.shape, info.size, info.frames) == (clip.shape, clip.shape[2:], ("0",))
    assert problems(path) == [None] * 10
    assert [(v.folder, v.video) for v in verify(path)] == [
        (packs_of(path)[0].name, name) for name in IMAGES
    ]


def test_plain_zarr_reads_rows_that_end_in_fill(path):
    table = zarr.open_array(packs_of(path)[0], mode="r")[:]
    for row, clip in zip(table, IMAGES.values(), strict=True):
        assert row[: clip.size].tobytes() == GapCodec().encode(clip).tobytes()
        assert set(row[clip.size :].tolist()) <= {255}


def test_a_pack_or_a_folder_is_the_same_store(tmp_path):
    how = {"size": (30, 50), "geometry": {"kind": "x"}}
    one, two = (
        LogitStore(write(tmp_path / name / "s.zarr", IMAGES, packed=packed, **how))
        for name, packed in (("one", True), ("two", False))
    )
    assert one.digest() == two.digest()
    assert one.videos == two.videos
    assert all(one.codes(v).tobytes() == two.codes(v).tobytes() for v in one.videos)
    assert all(one.describe(v).geometry == {"kind": "x"} for v in one.videos)


@pytest.mark.parametrize(
    ("limit", "value", "packs"),
    [
        ("MAX_PACK_FRAMES", 4, 3),
        ("MAX_PACK_FRAMES", 1, 10),
        ("MAX_PACK_BYTES", 120, 6),  # of 40 48 80 32 60 64 40 48 80 32
        ("MAX_PACK_METADATA", 2000, 2),
    ],
)
def test_packs_are_cut(tmp_path, monkeypatch, limit, value, packs):
    whole = LogitStore(write(tmp_path / "whole" / "s.zarr", IMAGES, packed=True)).digest()
    monkeypatch.setattr(pack_writer, limit, value)
    path = write(tmp_path / "s.zarr", IMAGES, packed=True)
    assert len(packs_of(path)) == packs
    assert LogitStore(path).digest() == whole
    assert problems(path) == [None] * 10


def test_the_estimate_of_metadata_is_above_what_is_written(tmp_path, monkeypatch):
    geometry = {"affine": [[1, 2], [3, [4, {"deep": [5] * 40}]]]}
    batches = []
    honest = pack_writer.Batch

    class Watched(honest):
        def __init__(self):
            super().__init__()
            batches.append(self)

    monkeypatch.setattr(pack_writer, "Batch", Watched)
    clips = {"ünïcode " * 9: image(), "b": np.repeat(image(), 30, axis=0)}
    path = write(tmp_path / "s.zarr", clips, packed=True, geometry=geometry)
    written = (packs_of(path)[0] / "zarr.json").stat().st_size
    assert written - 1500 < max(batch.metadata for batch in batches) < 3 * written


def test_a_row_that_is_much_longer_than_others_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(pack_writer, "MAX_PACK_BYTES", 2000)
    clips = {f"{n}": image(1, 2, seed=n) for n in range(40)} | {"large": image(20, 20)}
    path = write(tmp_path / "s.zarr", clips, packed=True)
    for pack in packs_of(path):
        assert zarr.open_array(pack, mode="r").size <= 4000
    assert len(packs_of(path)) == 2


def test_a_video_larger_than_a_pack_gets_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(pack_writer, "MAX_PACK_FRAMES", 3)
    clips = {"small": image(), "large": np.repeat(image(), 4, axis=0), "other": image()}
    path = write(tmp_path / "s.zarr", clips, packed=True)
    assert len(packs_of(path)) == 1
    assert [LogitStore(path).describe(v).pack is None for v in clips] == [False, True, False]
    assert problems(path) == [None] * 3


def test_what_is_complete_is_committed_whatever_ends_the_block(tmp_path):
    writer = LogitWriter(tmp_path / "s.zarr", CLASSES)
    with pytest.raises(KeyboardInterrupt), writer.pack() as pack:  # noqa: PT012
        for name in ("a", "b", "c"):
            with pack.video(name, frames=["0"]) as out:
                if name == "b":
                    out.append(image()[0])
                    assert LogitStore(writer.path).videos == ()
                if name == "c":
                    raise KeyboardInterrupt
                out.extend(image() if name == "a" else [])
    assert LogitStore(writer.path).videos == ("a", "b")
    assert staging(writer.path) == []
    with pytest.raises(InputError, match="got 0 frames, 1 announced"), writer.pack() as pack:  # noqa: PT012
        with pack.video("d", frames=["0"]) as out:
            out.append(image()[0])
        with pack.video("e", frames=["0"]):
            pass
    assert LogitStore(writer.path).videos == ("a", "b", "d")
    with pytest.raises(InputError, match="the pack is not open; use it inside"):
        pack.video("f", frames=["0"])


@pytest.mark.parametrize("first", [False, True], ids=["folder first", "pack first"])
@pytest.mark.parametrize("second", [False, True], ids=["then folder", "then pack"])
def test_committed_is_skipped_or_refused_wherever_it_lies(tmp_path, first, second):
    path = write(tmp_path / "s.zarr", {"v": image()}, packed=first)
    before = tree(path)
    write(path, {"v": image() + 1}, packed=second)  # the same ids: not looked at
    for change in ({"frames": ["1"]}, {"size": (9, 9)}, {"geometry": {"a": 1}}):
        with pytest.raises(StoreConflictError, match="video 'v' is committed already"):
            write(path, {"v": image()}, packed=second, **change)
    assert tree(path) == before


def test_a_writer_sees_packs_that_came_later(tmp_path):
    early = LogitWriter(tmp_path / "s.zarr", CLASSES)
    assert not early.video("v", frames=["0"]).committed
    write(early.path, {"v": image()}, packed=True)
    assert early.video("v", frames=["0"]).committed
    with early.pack() as pack:
        assert pack.video("v", frames=["0"]).committed
        with pack.video("w", frames=["0"]) as out:
            out.extend(image())
        assert pack.video("w", frames=["0"]).committed  # waits for its pack
        with pytest.raises(StoreConflictError, match=r"1 there, 1 here; .* '0' there and '1' here"):
            pack.video("w", frames=["1"])
    shutil.rmtree(next(p for p in packs_of(early.path) if '"v"' in (p / "zarr.json").read_text()))
    assert not early.video("v", frames=["0"]).committed


def test_losing_a_race_drops_the_video_and_commits_its_neighbours(tmp_path):
    path = tmp_path / "s.zarr"
    for packed in (False, True):
        names = [f"{what} {packed}" for what in ("same", "other", "alone")]
        with (  # noqa: PT012
            pytest.raises(StoreConflictError, match="video 'other"),
            LogitWriter(path, CLASSES).pack() as pack,
        ):
            for name in names:
                with pack.video(name, frames=["0"]) as out:
                    out.extend(image())
            write(path, {names[0]: image(), names[1]: -image()}, packed=packed)
        assert {info.video for info in LogitStore(path)._videos.values()} >= set(names)
        assert np.array_equal(LogitStore(path).codes(names[1]), GapCodec().encode(-image()))
    assert problems(path) == [None] * 6
    assert staging(path) == []


def test_losing_a_race_at_the_last_moment(tmp_path, monkeypatch):
    path, honest = tmp_path / "s.zarr", pack_writer.write_rows

    def late(*arguments) -> None:
        monkeypatch.setattr(pack_writer, "write_rows", honest)
        write(path, {"a": image()}, packed=True)
        honest(*arguments)

    monkeypatch.setattr(pack_writer, "write_rows", late)
    write(path, {"a": image(), "b": image()}, packed=True)
    assert sorted(verdict.video for verdict in verify(path)) == ["a", "b"]
    assert staging(path) == []


def test_a_writers_block_in_threads(tmp_path):
    with LogitWriter(tmp_path / "s.zarr", CLASSES).pack() as pack:

        def fill(number: int) -> None:
            for n in range(8):
                with pack.video(f"{number}-{n}", frames=["0"]) as out:
                    out.extend(image(seed=n))

        threads = [threading.Thread(target=fill, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems(tmp_path / "s.zarr") == [None] * 32


# --- two packs with one video


def merged(tmp_path: Path, *clips: dict, **options) -> Path:
    """A store with the packs that writers made who knew nothing of each other."""
    path = tmp_path / "s.zarr"
    for n, clip in enumerate(clips):
        other = write(tmp_path / str(n) / "s.zarr", clip, packed=True, **options)
        if n == 0:
            shutil.copytree(other, path)
        for pack in packs_of(other):
            shutil.copytree(pack, path / pack.name, dirs_exist_ok=True)
    return path


def test_equal_videos_in_two_packs_are_one(tmp_path):
    path = merged(tmp_path, {"a": image(), "b": image()}, {"b": image(), "c": image()})
    store = LogitStore(path)
    assert store.videos == ("a", "b", "c")
    assert store.describe("b").folder == packs_of(path)[0].name
    assert problems(path) == [None] * 4


def test_unequal_videos_in_two_packs_are_an_error_that_names_both(tmp_path):
    path = merged(tmp_path, {"a": image(), "b": image()}, {"b": -image(), "c": image()})
    both = " and ".join(pack.name for pack in packs_of(path))
    for message in (refused(path), *(p for p in problems(path) if p)):
        assert f"s.zarr: video 'b' is both in {both}, with other pixels (1 frames" in message
        assert "write it again with overwrite=True" in message
    assert [p is None for p in problems(path)] == [True] * 4 + [False]
    write(path, {"b": 2 * image()}, overwrite=True)
    assert np.array_equal(LogitStore(path).codes("b"), GapCodec().encode(2 * image()))
    assert set(problems(path)) == {None}


@pytest.mark.parametrize("name", ["frame ids", "size", "shape", "geometry"])
def test_whatever_is_unequal_in_two_packs(tmp_path, name):
    first, second = {"a": image(1, 1), "v": np.zeros((1, 4, 1, 2))}, {"v": np.zeros((1, 4, 1, 2))}
    other = {"frame ids": ["x"], "size": (7, 7), "geometry": {"a": 1}}
    path = merged(tmp_path, first)
    clip = np.zeros((1, 4, 2, 1)) if name == "shape" else second["v"]
    how = {"size": (1, 2)} | (
        {name.replace("frame ids", "frames"): other[name]} if name in other else {}
    )
    there = write(tmp_path / "there" / "s.zarr", {"v": clip}, packed=True, **how)
    shutil.copytree(packs_of(there)[0], path / packs_of(there)[0].name)
    with pytest.raises(StoreConflictError, match=f"video 'v' is both in .* with other .*{name}"):
        LogitStore(path)


def test_the_same_program_makes_the_same_packs(tmp_path, path):
    again = write(tmp_path / "again" / "s.zarr", IMAGES, packed=True)
    assert pixels(again) == pixels(path)
    assert [p.name for p in packs_of(again)] == [p.name for p in packs_of(path)]
    assert folder_of(again, "image 0") == packs_of(again)[0]


def test_a_video_is_written_without_a_look_at_every_other(tmp_path, monkeypatch):
    """Whether a pack holds it is asked anew as the store has changed: of packs, not of videos."""
    writer, honest, looked, counts = (
        LogitWriter(tmp_path / "s.zarr", ["a", "b"]),
        os.path.lexists,
        [],
        [],
    )
    monkeypatch.setattr(os.path, "lexists", lambda path: looked.append(path) or honest(path))
    for number in range(9):
        with writer.video(f"v{number}", frames=["0"]) as out:
            out.append(np.zeros((2, 3, 4), np.float32))
        counts.append(len(looked))
        looked.clear()
    assert counts[1:] == [counts[1]] * 8
