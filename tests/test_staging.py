"""Staged folders: published by one rename, swept when their owner is dead, never before."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fusion import files
from fusion.errors import StoreError


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def failing(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_publishing_a_folder_or_a_file(tmp_path):
    with files.staged(tmp_path) as draft:
        (draft / "out").mkdir()
        (draft / "out" / "a").write_text("1")
        (draft / "file").write_text("2")
        assert files.publish(draft / "out", tmp_path / "place")
        assert files.publish(draft / "file", tmp_path / "single")
    assert (tmp_path / "place" / "a").read_text() == "1"
    assert (tmp_path / "single").read_text() == "2"
    assert names(tmp_path) == [files.STAGING, "place", "single"]
    assert names(tmp_path / files.STAGING) == []


@pytest.mark.parametrize("draft", ["folder", "file"])
@pytest.mark.parametrize("there", ["folder", "file", "dangling link"])
def test_publish_says_that_a_place_is_taken_and_leaves_it(tmp_path, draft, there):
    place = tmp_path / "place"
    if there == "folder":
        place.mkdir()
        (place / "b").write_text("theirs")
    elif there == "file":
        place.write_text("theirs")
    else:
        place.symlink_to(tmp_path / "none")
    with files.staged(tmp_path) as stage:
        ours = stage / "ours"
        if draft == "folder":
            ours.mkdir()
        (ours / "a" if draft == "folder" else ours).write_text("ours")
        assert files.publish(ours, place) is False
    left = place / "b" if there == "folder" else place
    assert there == "dangling link" or left.read_text() == "theirs"
    assert names(tmp_path) == [files.STAGING, "place"]


def test_publish_raises_what_is_not_about_the_place(tmp_path, monkeypatch):
    with files.staged(tmp_path) as draft:
        (draft / "out").mkdir()
        monkeypatch.setattr(os, "rename", failing)
        with pytest.raises(OSError, match="Input/output error"):
            files.publish(draft / "out", tmp_path / "place")
    assert names(tmp_path / files.STAGING) == []


def test_publish_waits_for_the_disk_before_the_rename(tmp_path, monkeypatch):
    order, rename = [], os.rename
    monkeypatch.setattr(
        os, "fsync", lambda handle: order.append(os.readlink(f"/proc/self/fd/{handle}"))
    )
    monkeypatch.setattr(os, "rename", lambda a, b: (order.append("rename"), rename(a, b)))
    with files.staged(tmp_path) as draft:
        (draft / "out" / "deep").mkdir(parents=True)
        (draft / "out" / "deep" / "a").write_text("1")
        files.publish(draft / "out", tmp_path / "place")
    out = str(draft / "out")
    assert order == [f"{out}/deep/a", f"{out}/deep", out, "rename", str(tmp_path)]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_a_staged_folder_goes_with_its_block(tmp_path, stop):
    with pytest.raises(stop), files.staged(tmp_path) as folder:  # noqa: PT012
        (folder / "big").write_text("x")
        raise stop
    assert names(tmp_path / files.STAGING) == []


def test_a_folder_that_cannot_be_claimed_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(files.fcntl, "flock", failing)
    with pytest.raises(OSError, match="Input/output"), files.staged(tmp_path):
        pass
    assert names(tmp_path / files.STAGING) == []


def hold(folder: Path, ready: Path) -> None:
    """Child: owns a staging folder until it is killed."""
    with files.staged(folder) as mine:
        (mine / "work").write_text("x" * 100)
        ready.write_text(mine.name)
        time.sleep(60)


def owner(folder: Path, ready: Path) -> subprocess.Popen:
    code = "import sys; from pathlib import Path; from tests.test_staging import hold; "
    code += "hold(*map(Path, sys.argv[1:]))"
    child = subprocess.Popen(
        [sys.executable, "-c", code, folder, ready], cwd=Path(__file__).parents[1]
    )
    while not ready.exists() or not ready.read_text():
        time.sleep(0.01)
    return child


def test_sweep_takes_dead_owners_only(tmp_path):
    child = owner(tmp_path, tmp_path / "ready")
    name = (tmp_path / "ready").read_text()
    try:
        with files.staged(tmp_path) as ours:
            for folder in (ours, tmp_path / files.STAGING / name):
                os.utime(folder, (0, 0))  # its age is not what counts
            assert files.sweep(tmp_path) == []
            assert names(tmp_path / files.STAGING) == sorted([ours.name, name])
    finally:
        child.kill()
        child.wait()
    assert files.sweep(tmp_path, dry_run=True) == [(name, 100)]
    assert files.sweep(tmp_path, age=10.0**10) == []
    assert names(tmp_path / files.STAGING) == [name]
    assert files.sweep(tmp_path) == [(name, 100)]
    assert names(tmp_path / files.STAGING) == []


def test_sweep_goes_by_age_whatever_the_clock_says(tmp_path):
    for name, age in (("old", 100), ("young", 1), ("from the future", -100)):
        folder = tmp_path / files.STAGING / name
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - age, time.time() - age))
    assert [name for name, _ in files.sweep(tmp_path, age=50)] == ["from the future", "old"]
    assert files.sweep(tmp_path / "none") == []


def test_sweep_follows_no_link_and_leaves_files(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    staging = tmp_path / "root" / files.STAGING
    staging.mkdir(parents=True)
    (staging / "link").symlink_to(outside)
    (staging / "file").write_text("x")
    (staging / "dead").mkdir()
    (staging / "dead" / "inner").symlink_to(outside)
    assert [name for name, _ in files.sweep(tmp_path / "root")] == ["dead"]
    assert names(staging) == ["file", "link"]
    assert names(outside) == ["precious"]


def test_a_planted_link_in_the_place_of_staging_is_refused(tmp_path):
    """Nothing is written where it leads, and a sweep takes nothing away there."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    (outside / "precious").mkdir(parents=True)
    (outside / "precious" / "file").write_text("x")
    root.mkdir()
    (root / files.STAGING).symlink_to(outside)
    said = rf"root/{files.STAGING}: is a link; files are written into plain folders, remove it"
    with pytest.raises(StoreError, match=said), files.staged(root):
        pass
    for dry in (True, False):
        with pytest.raises(StoreError, match=said):
            files.sweep(root, dry_run=dry)
    assert names(outside) == ["precious"]
    assert names(outside / "precious") == ["file"]
    (root / files.STAGING).unlink()
    (root / files.STAGING).symlink_to(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=said), files.staged(root):
        pass
    assert not (tmp_path / "nowhere").exists()


def test_sweep_names_what_it_cannot_tell_or_remove(tmp_path, monkeypatch):
    folder = tmp_path / files.STAGING / "odd"
    folder.mkdir(parents=True)
    (folder / files.LOCK).symlink_to("elsewhere")
    with pytest.raises(StoreError, match="odd: cannot tell whether its writer lives"):
        files.sweep(tmp_path)
    (folder / files.LOCK).unlink()
    monkeypatch.setattr(files.shutil, "rmtree", failing)
    with pytest.raises(StoreError, match=r"odd: cannot be removed \(Input/output error\)"):
        files.sweep(tmp_path)


def test_sweep_beside_an_owner_that_finishes_just_then(tmp_path, monkeypatch):
    folder = tmp_path / files.STAGING / "old"
    folder.mkdir(parents=True)

    def finish(_: Path) -> list:
        folder.rename(tmp_path / "gone")
        return []

    monkeypatch.setattr(os, "walk", finish)
    assert files.sweep(tmp_path) == []
    assert (tmp_path / "gone").exists()


def test_a_folder_cannot_be_claimed_while_it_is_swept(tmp_path, monkeypatch):
    """Neither one whose owner left a lock nor one whose owner died before that."""
    watched, remove = [], files.shutil.rmtree

    def watch(folder: Path) -> None:
        handle = os.open(folder / files.LOCK, os.O_RDWR)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
        watched.append(folder.name)
        remove(folder)

    for name in ("lockless", "locked"):
        (tmp_path / files.STAGING / name).mkdir(parents=True)
    (tmp_path / files.STAGING / "locked" / files.LOCK).touch()
    monkeypatch.setattr(files.shutil, "rmtree", watch)
    assert [name for name, _ in files.sweep(tmp_path)] == watched == ["locked", "lockless"]


def test_a_folder_that_was_claimed_anew_is_left_alone(tmp_path, monkeypatch):
    """Between our look at its lock and our hold of it another sweep and its owner were faster."""
    folder, flock = tmp_path / files.STAGING / "a", fcntl.flock
    folder.mkdir(parents=True)

    def late(handle: int, how: int) -> None:
        (folder / files.LOCK).unlink()
        flock(handle, how)

    with monkeypatch.context() as patch:
        patch.setattr(files.fcntl, "flock", late)
        assert files.sweep(tmp_path) == []

    def claimed(_: Path) -> None:
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(files.shutil, "rmtree", claimed)
    assert files.sweep(tmp_path) == []
    assert folder.exists()


def test_sweeping_all_the_time_takes_no_living_owners_work(tmp_path):
    """Also not in the moment between a folder and its lock."""
    done = threading.Event()

    def keep_sweeping() -> None:
        while not done.is_set():
            files.sweep(tmp_path)

    sweeper = threading.Thread(target=keep_sweeping)
    sweeper.start()
    try:
        for n in range(300):
            with files.staged(tmp_path) as folder:
                (folder / "out").mkdir()
                (folder / "out" / "a").write_text(str(n))
                assert files.publish(folder / "out", tmp_path / str(n))
    finally:
        done.set()
        sweeper.join()
    assert [(tmp_path / str(n) / "a").read_text() for n in range(300)] == [
        str(n) for n in range(300)
    ]


def test_a_folder_is_locked_by_one_at_a_time(tmp_path, monkeypatch):
    handle = os.open(tmp_path, os.O_RDONLY)
    with files.locked(tmp_path), pytest.raises(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with pytest.raises(BlockingIOError), files.locked(tmp_path, wait=False):
        pass
    os.close(handle)
    with files.locked(tmp_path, wait=False):
        assert names(tmp_path) == []
    monkeypatch.setattr(files.fcntl, "flock", failing)  # a file system that locks no folders
    with files.locked(tmp_path), files.locked(tmp_path, wait=False):
        assert names(tmp_path) == []


OTHER_SYSTEM = """
import contextlib, errno, json, os, pathlib, secrets, shutil, sys, time, types, fusion.errors
def locking(handle, mode, count):
    seen.append((handle, mode, count))
    if len(seen) % 2:
        raise PermissionError(13, "in use")
seen, sys.platform = [], "win32"
sys.modules |= {"fcntl": None, "msvcrt": types.SimpleNamespace(locking=locking, LK_NBLCK=2)}
del os.O_NOFOLLOW, os.O_NONBLOCK
from fusion import files
files._hold(7)
assert seen == [(7, 2, 1)] * 2
try:
    files._hold(7, wait=False)
except BlockingIOError:
    print("imported, waited, refused")
"""


def test_without_posix_locks_come_from_msvcrt():
    """What Windows has and lacks; the module can be imported there."""
    command = [sys.executable, "-c", OTHER_SYSTEM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout == "imported, waited, refused\n", done.stderr
