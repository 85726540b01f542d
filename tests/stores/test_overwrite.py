"""Replacing what is committed: a reader finds the old or the new one, whole, whoever is killed."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from fusion import files
from fusion.errors import InputError, StoreConflictError, StoreError
from fusion.files import STAGING
from fusion.stores import GapCodec, LogitStore, LogitWriter, pack_writer
from fusion.stores import format as disk
from fusion.stores.maintenance import gc
from tests.stores.common import (
    CLASSES,
    folder_of,
    image,
    in_child,
    packs_of,
    pixels,
    problems,
    staging,
    write,
)
from tests.stores.common import TINY as CLIP
from tests.stores.test_disk import Calls

OLD, NEW = CLIP, -CLIP


def which(path: Path, video: str = "v") -> str:
    """What a reader finds of the video."""
    store = LogitStore(path)
    if video not in store.videos:
        return "absent"
    kept = {GapCodec().encode(clip).tobytes(): name for name, clip in (("old", OLD), ("new", NEW))}
    return kept[store.codes(video).tobytes()]


@pytest.fixture(params=["exchanged", "renamed"])
def way(request, monkeypatch):
    """File systems that exchange two folders, and those that cannot."""
    if request.param == "renamed":
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    return request.param


@pytest.mark.parametrize("packed", [False, True])
def test_the_new_one_takes_the_place_of_the_old(store, packed, way):
    digest = LogitStore(write(store.parent / "new" / "s.zarr", {"v": NEW})).digest()
    assert which(store) == "old"
    write(store, {"v": NEW}, overwrite=True, packed=packed)
    assert which(store) == "new"
    assert LogitStore(store).digest() == digest
    write(store, {"v": NEW})  # committed now, as any other
    write(store, {"v": OLD}, overwrite=True, frames=["x", "y", "z"], packed=packed)
    assert LogitStore(store).frames("v") == ("x", "y", "z")
    assert which(store) == "old"
    assert set(problems(store)) == {None}
    assert staging(store) == []


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_not_there_is_written_as_ever(tmp_path, packed):
    path = write(tmp_path / "s.zarr", {"v": OLD}, overwrite=True, packed=packed)
    plain = write(tmp_path / "plain" / "s.zarr", {"v": OLD}, packed=packed)
    assert pixels(path) == pixels(plain)
    assert len(packs_of(path)) == packed


def test_a_video_that_waits_for_its_pack_is_replaced_there(tmp_path):
    path = tmp_path / "s.zarr"
    with LogitWriter(path, CLASSES).pack() as pack:
        for clip in (OLD, NEW):
            for name in ("v", "w"):
                with pack.video(name, frames=["0", "1", "2"], overwrite=name == "v") as out:
                    out.extend(clip)
    assert [which(path, name) for name in "vw"] == ["new", "old"]
    assert [len(packs_of(path)), problems(path)] == [1, [None] * 2]


def test_a_video_that_waits_is_replaced_by_one_too_large_for_packs(tmp_path, monkeypatch):
    monkeypatch.setattr(pack_writer, "MAX_PACK_FRAMES", 2)
    path = tmp_path / "s.zarr"
    with LogitWriter(path, CLASSES).pack() as pack:
        for clip, ids in ((OLD[:1], "0"), (NEW, "012")):
            with pack.video("v", frames=list(ids), overwrite=True) as out:
                out.extend(clip)
    assert which(path) == "new"
    assert problems(path) == [None]


def test_an_interrupted_replacement_changes_nothing(store, way):
    before = pixels(store)
    with pytest.raises(InputError, match="got 1 frames, 3 announced"):
        write(store, {"v": NEW[:1]}, frames=["0", "1", "2"], overwrite=True)
    assert pixels(store) == before
    assert staging(store) == []


SPOILT = {
    "documents": lambda folder: (folder / "commit.json").write_text("null"),
    "no documents": lambda folder: [(folder / n).unlink() for n in ("commit.json", "zarr.json")],
    "pixels": lambda folder: (folder / "c/0/0/0/0").write_bytes(b"x" * 100),
    "a file": lambda folder: [shutil.rmtree(folder), folder.write_text("x")],
    "a link": lambda folder: [
        folder.rename(folder.with_name(".elsewhere")),
        folder.symlink_to(".elsewhere"),
    ],
    "nothing": shutil.rmtree,
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_is_damaged_is_replaced(video_store, case, way):
    SPOILT[case](folder_of(video_store))
    write(video_store, {"v": NEW}, overwrite=True)
    assert which(video_store) == "new"
    assert problems(video_store) == [None]
    assert staging(video_store) == []
    if case == "a link":  # what it pointed to is not touched
        assert (video_store / ".elsewhere" / "commit.json").exists()


def test_only_the_packs_that_were_there_are_replaced(tmp_path):
    """Of a pack that came from elsewhere later, with other pixels, nobody knows which is meant."""
    path = write(tmp_path / "s.zarr", {"v": OLD, "w": OLD}, packed=True)
    write(path, {"v": NEW}, overwrite=True)
    other = write(tmp_path / "other" / "s.zarr", {"v": OLD}, packed=True)
    (late,) = packs_of(other)
    shutil.copytree(late, path / late.name)
    with pytest.raises(StoreConflictError, match=f"'v' is both in v-.* and {late.name}, with"):
        LogitStore(path)
    write(path, {"v": NEW}, overwrite=True)
    assert [which(path, name) for name in "vw"] == ["new", "old"]


def test_a_pack_that_came_meanwhile_is_not_replaced_unseen(tmp_path):
    path = write(tmp_path / "s.zarr", {"w": OLD})
    out = LogitWriter(path, CLASSES).video("v", frames=["0", "1", "2"], overwrite=True)
    out.extend(NEW)
    write(path, {"v": OLD}, packed=True)
    with pytest.raises(StoreConflictError, match=r"video 'v' is committed already .*pixels"):
        out.__exit__(None)
    assert which(path) == "old"
    assert staging(path) == []


def test_a_store_that_is_open_says_that_a_video_was_replaced(store):
    opened, read = LogitStore(store), LogitStore(store)
    before = read.codes("v")
    write(store, {"v": NEW}, overwrite=True)
    if packs_of(store):  # the pack is still there, and so is what it holds
        assert np.array_equal(opened.codes("v"), before)
        return
    assert np.array_equal(read.codes("v"), before)  # its file is open
    with pytest.raises(StoreError, match="'v' was written again since this store was opened; open"):
        opened.codes("v")
    write(store, {"v": OLD}, overwrite=True)
    assert np.array_equal(opened.codes("v"), before)


@pytest.mark.parametrize("first", [False, True], ids=["folder", "pack"])
def test_readers_find_the_old_or_the_new_one_at_any_moment(tmp_path, first):
    path = write(tmp_path / "s.zarr", {"v": OLD}, packed=first)
    found, done = set(), threading.Event()

    def read() -> None:
        while not done.is_set():
            try:
                found.add(which(path))
            except StoreError as error:
                found.add("reopen" if "was written again since" in str(error) else str(error))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for n in range(40):
        write(path, {"v": (NEW, OLD)[n % 2]}, overwrite=True)
    done.set()
    for thread in threads:
        thread.join()
    assert found - {"reopen"} == {"old", "new"}


def test_a_video_replaced_between_its_two_documents_is_the_new_one(video_store, monkeypatch):
    honest, replaced = disk.read_document, []

    def slow(path: Path) -> bytes:
        document = honest(path)
        if path.name == "commit.json" and not replaced:
            replaced.append(path)
            write(video_store, {"v": NEW}, overwrite=True, size=(30, 50))
        return document

    monkeypatch.setattr(disk, "read_document", slow)
    assert which(video_store) == "new"
    assert replaced


# --- kills


def die(path: Path, at: int | None, log: Path, exchange: bool) -> None:
    """Child: replaces the video and is killed at its `at`-th call, or at its exchange."""

    def act(count: int) -> None:
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

    if not exchange:
        files._exchange = lambda *_: False
    calls = Calls(path, act)
    write(path, {"v": NEW}, shard_frames=2, overwrite=True)
    calls.on = False
    log.write_text(" ".join(calls.seen))


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "pack"])
@pytest.mark.parametrize("exchange", [True, False], ids=["exchanged", "renamed"])
def test_a_kill_at_any_moment_leaves_one_of_them(tmp_path, packed, exchange):
    clean = write(tmp_path / "clean" / "s.zarr", {"v": OLD}, packed=packed)
    assert in_child(die, clean, None, tmp_path / "log", exchange) == 0
    calls = (tmp_path / "log").read_text().split()
    last = len(calls)
    found = []
    for at in sorted({1, last // 2, *range(max(1, last - 14), last + 1)}):
        path = write(tmp_path / str(at) / "s.zarr", {"v": OLD}, packed=packed)
        assert in_child(die, path, at, tmp_path / "log", exchange) == -signal.SIGKILL
        found.append(which(path))
        write(path, {"v": NEW}, shard_frames=2, overwrite=True)
        gc(path, age=0)
        assert which(path) == "new"
        assert pixels(path) == pixels(clean)
        assert set(problems(path)) == {None}
        assert not (path / STAGING).exists() or staging(path) == []
    assert set(found) <= {"old", "new"} | (set() if exchange or packed else {"absent"})
    assert {"old", "new"} <= set(found)
    assert found == sorted(found, key=["old", "absent", "new"].index)


def test_a_rename_that_fails_puts_the_old_one_back(video_store, monkeypatch):
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    honest = Path.rename

    def fail(source: Path, target: Path) -> Path:
        if source.name == "video":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return honest(source, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(StoreError, match="video 'v' not written"):
        write(video_store, {"v": NEW}, overwrite=True)
    assert which(video_store) == "old"


def test_two_that_replace_at_once_both_succeed(video_store, way):
    one, two = (
        LogitWriter(video_store, CLASSES).video("v", frames=["0", "1", "2"], overwrite=True)
        for _ in range(2)
    )
    one.extend(NEW)
    two.extend(OLD)
    one.__exit__(None)
    two.__exit__(None)
    assert which(video_store) == "old"


def test_an_exchange_that_the_disk_refuses_is_an_error(video_store, monkeypatch):
    def refuse(*_: object) -> bool:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(files, "_exchange", refuse)
    with pytest.raises(StoreError, match=r"video 'v' not written \(Permission denied\)"):
        write(video_store, {"v": NEW}, overwrite=True)
    assert which(video_store) == "old"


# --- what a conflict says

CONFLICTS = {
    "frames": (
        {"frames": ["0", "b", "2"]},
        r"\(frame ids \(3 there, 3 here; the first that differs is number 1, '1' there and 'b'",
    ),
    "fewer": (
        {"frames": ["0", "1"]},
        r"frame ids \(3 there, 2 here; the first that differs is number 2, '2' there and None here",
    ),
    "size": ({"size": (8, 9)}, r"\(size \(\(3, 5\) there, \(8, 9\) here\)\)"),
    "geometry": ({"geometry": {"kind": "nifti"}}, r"\(geometry\)"),
}


@pytest.mark.parametrize("case", CONFLICTS)
def test_a_conflict_says_what_differs_and_what_to_do(store, case):
    change, message = CONFLICTS[case]
    clip = OLD[: len(change.get("frames", OLD))]
    with pytest.raises(StoreConflictError, match=message) as caught:
        write(store, {"v": clip}, **change)
    assert str(caught.value).endswith(
        "; give overwrite=True to replace it, nothing was overwritten"
    )
    assert "\n" not in str(caught.value)


def test_a_conflict_of_pixels_names_the_first_frame(tmp_path):
    path = tmp_path / "s.zarr"
    out = LogitWriter(path, CLASSES).video("v", frames=["0"])
    out.extend(image())
    write(path, {"v": image(seed=1)})
    one, two = (
        LogitStore(p).describe("v").crc[0]
        for p in (path, write(tmp_path / "ours.zarr", {"v": image()}))
    )
    said = f"pixels .1 frames; the first is frame '0', crc32c {one:08x} there and {two:08x} here"
    with pytest.raises(StoreConflictError, match=said):
        out.__exit__(None)
