"""Full disks, failing calls, kills, two writers at once: nothing is lost, nothing half there."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from fusion.errors import CorruptStoreError, FusionError, StoreConflictError, StoreError
from fusion.files import STAGING
from fusion.stores import LogitStore
from fusion.stores import video_writer as writing
from fusion.stores.maintenance import gc
from tests.stores.common import PROCESSES, contents, in_child, pixels, problems, staging, write
from tests.stores.common import TINY as CLIP

# --- the disk


PACKED = pytest.mark.parametrize("packed", [False, True], ids=["folders", "packs"])


@PACKED
def test_a_disk_that_reads_back_other_bytes(tmp_path, monkeypatch, packed):
    honest = zarr.Array.__getitem__
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda array, key: honest(array, key) ^ 1)
    with pytest.raises(StoreError, match="read back other bytes than were written"):
        write(tmp_path / "s.zarr", {"v": CLIP}, packed=packed)
    assert LogitStore(tmp_path / "s.zarr").videos == ()
    assert staging(tmp_path / "s.zarr") == []


@PACKED
def test_little_free_space_is_noticed_before_writing(store, monkeypatch, packed):
    monkeypatch.setattr(writing.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 3}))
    what = "pack of 1 videos, 'w' to 'w'," if packed else "video 'w'"
    message = f"s.zarr: {what} not written .3 bytes free.* 180 bytes needed; free that much there"
    with pytest.raises(StoreError, match=message) as caught:
        write(store, {"w": CLIP}, packed=packed)
    assert caught.value.__cause__.errno == errno.ENOSPC
    monkeypatch.undo()
    assert LogitStore(store).videos == ("v",)
    assert staging(store) == []


def fill(path: Path, answer: Path, limit: int | None, packed: bool) -> None:
    """Child: writes a large video where files may not grow beyond `limit`; `answer` says how."""
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    noise = np.random.default_rng(0).normal(0, 9, (3, 4, 200, 200)).astype(np.float32)
    outcome = "written"
    try:
        write(path, {"large": noise}, packed=packed)
    except StoreError as error:
        outcome = f"StoreError: {error}"
    answer.write_text(outcome[: limit or 1000])


def named(packed: bool) -> str:
    return "pack of 1 videos, 'large' to 'large'," if packed else "video 'large'"


@PACKED
def test_a_file_that_may_not_grow(store, tmp_path, packed):
    clean = contents(store)
    assert in_child(fill, store, tmp_path / "answer", 20_000, packed) == 0
    answer = (tmp_path / "answer").read_text()
    problem = f"{named(packed)} not written (File too large)"
    assert answer.startswith(f"StoreError: {store}: {problem}")
    assert contents(store) == clean
    assert staging(store) == []


@PACKED
def test_a_full_disk_keeps_what_was_committed(tmp_path, packed):
    mount = tmp_path / "small"
    mount.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=300k", "none", mount], check=False
        ).returncode
    ):
        pytest.skip("needs the right to mount a small tmpfs")
    try:
        path = write(mount / "s.zarr", {"v": CLIP}, packed=packed)
        clean = contents(path)
        assert in_child(fill, path, tmp_path / "answer", None, packed) == 0
        answer = (tmp_path / "answer").read_text()
        full = "not written (No space left on device), 480000 bytes needed; free that much there"
        assert answer.startswith(f"StoreError: {path}: {named(packed)} {full}")
        assert contents(path) == clean
        subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
        assert contents(path) == clean  # read-only media are read
        assert problems(path) == [None]
        with pytest.raises(StoreError, match=r"'w',? not written"):
            write(path, {"w": CLIP}, packed=packed)
        with pytest.raises(StoreError, match="a store cannot be made here"):
            write(mount / "other.zarr", {"w": CLIP})
    finally:
        subprocess.run(["umount", mount], check=True)


# --- the n-th call

VIDEOS = {"v": CLIP, "w": CLIP[:1] * 2}
EVENTS = {
    "open",
    "os.mkdir",
    "os.rename",
    "os.link",
    "os.remove",
    "os.rmdir",
    "os.listdir",
    "os.scandir",
}


class Calls:
    """Counts file system calls below a folder, and acts on chosen ones; stays: for children."""

    def __init__(self, root: Path, act: Callable[[int], None]) -> None:
        self.root, self.act, self.seen, self.on = str(root), act, [], True
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if (
            self.on
            and event in EVENTS
            and isinstance(arguments[0], (str, os.PathLike))
            and os.fspath(arguments[0]).startswith(self.root)
        ):
            self.seen.append(event)
            self.act(len(self.seen))


def die(path: Path, at: int | None, log: Path, packed: bool) -> None:
    """Child: writes a store and is killed at its `at`-th call."""

    def act(count: int) -> None:
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

    calls = Calls(path, act)
    write(path, VIDEOS, shard_frames=2, packed=packed)
    calls.on = False
    log.write_text(" ".join(calls.seen))


def whole_or_absent(path: Path, clean: Path) -> None:
    """Every video that a reader sees is the clean run's."""
    if (path / "zarr.json").exists():
        store, expected = LogitStore(path), LogitStore(clean)
        for video in store.videos:
            assert store.codes(video).tobytes() == expected.codes(video).tobytes()
            assert store.describe(video) == expected.describe(video)


def resumes(path: Path, clean: Path, videos: dict[str, np.ndarray], packed: bool) -> None:
    """Running the same program again, and gc, leaves the clean run's bytes."""
    write(path, videos, shard_frames=2, packed=packed)
    gc(path, age=0)
    if (path / STAGING).exists():
        (path / STAGING).rmdir()
    assert pixels(path) == pixels(clean)
    assert LogitStore(path).digest() == LogitStore(clean).digest()
    assert set(problems(path)) == {None}


@PACKED
def test_a_killed_writer_leaves_whole_videos_and_resumes(tmp_path, packed):
    clean = tmp_path / "clean" / "s.zarr"
    clean.parent.mkdir()
    assert in_child(die, clean, None, tmp_path / "log", packed) == 0
    (clean / STAGING).rmdir()
    calls = (tmp_path / "log").read_text().split()
    commits = [n for n, call in enumerate(calls, start=1) if call in ("os.rename", "os.link")]
    moments = {
        1,
        2,
        3,
        commits[0],
        commits[0] + 1,
        commits[-1] - 1,
        commits[-1],
        commits[-1] + 1,
        *range(5, len(calls), len(calls) // 7),
    }
    for moment in sorted(moments):
        path = tmp_path / str(moment) / "s.zarr"
        path.parent.mkdir()
        assert in_child(die, path, moment, tmp_path / "log", packed) == -signal.SIGKILL
        whole_or_absent(path, clean)
        resumes(path, clean, VIDEOS, packed)


def fail_every_call(folder: Path, forever: bool, packed: bool) -> None:
    """Child: writes and reads again and again, until a run has no n-th call that could fail.

    Where all calls from the n-th on fail, every fifth n will do.
    """
    videos = {"v": CLIP}  # two shards
    clean = write(folder / "clean" / "s.zarr", videos, shard_frames=2, packed=packed)
    if (clean / STAGING).exists():
        (clean / STAGING).rmdir()
    fails_at = 0

    def act(count: int) -> None:
        if count == fails_at or (forever and count > fails_at):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    calls = Calls(folder / "try", act)
    os.fsync = lambda _: calls(
        "open", (calls.root,)
    )  # the one call that has no audit event; and a test need not wait for the disk
    while fails_at == 0 or len(calls.seen) >= fails_at:
        calls.on, path, caught = False, folder / "try" / str(fails_at) / "s.zarr", None
        path.parent.mkdir(parents=True)
        calls.on, calls.seen, fails_at = True, [], fails_at + (5 if forever else 1)
        try:
            write(path, videos, shard_frames=2, packed=packed)
            contents(path)
        except StoreError as error:
            caught = error
        calls.on = False
        assert caught is None or (
            isinstance(caught.__cause__, OSError) and "\n" not in str(caught)
        )  # the system's error is chained
        whole_or_absent(path, clean)
        resumes(path, clean, videos, packed)
        shutil.rmtree(path.parent)
    assert fails_at > (60 if packed else 80)


@pytest.mark.parametrize("forever", [False, True], ids=["once", "forever"])
@PACKED
def test_any_call_may_fail(tmp_path, forever, packed):
    assert in_child(fail_every_call, tmp_path, forever, packed) == 0


# --- two at once


def race(path: Path, start, sign: int, answer: Path, packed: bool) -> None:
    """Child: writes videos at the same time as another; the "own" ones differ in sign."""
    writers_made = conflicts = 0
    for n in range(6):
        for name, clip in ((f"shared {n}", CLIP), (f"own {n}", CLIP * sign)):
            start.wait(30)
            try:
                write(path, {name: clip}, packed=packed)
                writers_made += 1
            except StoreConflictError:
                conflicts += 1
    answer.write_text(f"{writers_made} {conflicts}")


@PACKED
def test_two_writers_in_two_processes_lose_nothing(tmp_path, packed):
    start = PROCESSES.Barrier(2)
    path = tmp_path / "s.zarr"
    children = [
        PROCESSES.Process(target=race, args=(path, start, sign, tmp_path / f"{sign}", packed))
        for sign in (1, -1)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
        child.close()
    written, conflicts = zip(
        *[map(int, (tmp_path / f"{sign}").read_text().split()) for sign in (1, -1)], strict=True
    )
    # what the other process has committed is skipped by its frame ids; losing the race with other
    # bytes is a conflict
    assert sum(written) + sum(conflicts) == 24
    assert sum(conflicts) <= 6
    store = LogitStore(path)
    assert len(store.videos) == 12
    one, two = (
        LogitStore(write(tmp_path / name, {"v": clip})).codes("v")
        for name, clip in (("one", CLIP), ("two", -CLIP))
    )
    for video in store.videos:
        codes = store.codes(video)
        assert np.array_equal(codes, one) or (
            video.startswith("own") and np.array_equal(codes, two)
        )
    assert staging(path) == []
    assert set(problems(path)) == {None}


def test_every_error_is_the_librarys(store):
    assert issubclass(CorruptStoreError, StoreError)
    assert issubclass(StoreError, FusionError)
    assert issubclass(StoreError, OSError)
