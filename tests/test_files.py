"""Whole or nothing: whatever fails, whoever is killed, a reader meets the old file or the new."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import stat
import sys
from pathlib import Path

import pytest

from fusion import files
from fusion.errors import StoreError

PROCESSES = multiprocessing.get_context("forkserver")


@pytest.fixture
def path(tmp_path):
    """A file that is there already."""
    (tmp_path / "file").write_bytes(b"old")
    return tmp_path / "file"


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def failing(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


def in_child(target, *arguments) -> int | None:
    child = PROCESSES.Process(target=target, args=arguments)
    child.start()
    child.join(60)
    return child.exitcode


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_appears_with_its_folders(tmp_path, overwrite, durable):
    place = tmp_path / "a" / "b" / "file"
    files.write_bytes(place, b"new", overwrite=overwrite, durable=durable)
    assert place.read_bytes() == b"new"
    assert names(place.parent) == ["file"]
    files.write_json(place, {"b": [1, None], "a": "é"})
    assert json.loads(place.read_text()) == {"b": [1, None], "a": "é"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(place, {"a": float("nan")})
    assert json.loads(place.read_text())["a"] == "é"


@pytest.mark.parametrize("step", ["write", "rename", "link", "fsync", "mkdir"])
def test_a_failing_step_leaves_the_old_file_and_nothing_else(path, monkeypatch, step):
    owner = {"write": Path, "rename": Path, "mkdir": Path}.get(step, os)
    name = {"write": "open", "rename": "replace"}.get(step, step)
    monkeypatch.setattr(owner, name, failing)
    new = path.with_name("new")
    for place, overwrite in ((path, True), (new, False)) if step != "link" else ((new, False),):
        if step == "rename" and not overwrite:
            continue
        with pytest.raises(StoreError, match=r"cannot be written \(Input/output error\)") as caught:
            files.write_bytes(place, b"content", overwrite=overwrite, durable=True)
        assert str(caught.value).startswith(f"{place}: ")
        assert ", 7 bytes needed; check the folder's rights" in str(caught.value)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    # a sync that fails after the rename cannot take it back: the new file is whole
    assert names(path.parent) in (["file"], ["file", "new"] if step == "fsync" else None)


def test_an_error_inside_leaves_the_old_file(path):
    for stop in (KeyboardInterrupt, ValueError):
        with pytest.raises(stop), files.replacing(path) as scratch:  # noqa: PT012
            scratch.write_bytes(b"half")
            raise stop
    assert path.read_bytes() == b"old"
    assert names(path.parent) == ["file"]


def test_a_full_disk_is_told_what_is_needed(path):
    with (
        pytest.raises(StoreError, match=r"not saved .*, 12 bytes needed; free that much there"),
        files.refusals(path, 12, problem="not saved"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_errors_of_the_library_pass_unchanged(path):
    with pytest.raises(StoreError, match=r"^mine$"), files.refusals(path):
        raise StoreError("mine")


def test_a_folder_that_is_a_file_is_refused(path):
    for overwrite in (True, False):
        with pytest.raises(StoreError, match="Not a directory"):
            files.write_bytes(path / "inside", b"x", overwrite=overwrite)
        with pytest.raises(NotADirectoryError), files.replacing(path / "in", overwrite=overwrite):
            pass


@pytest.mark.parametrize("target", ["file", "folder", "link", "dangling"])
def test_what_is_there_stays_without_overwrite(tmp_path, target):
    outside, place = tmp_path / "outside", tmp_path / "place" / "x"
    outside.write_bytes(b"outside")
    place.parent.mkdir()
    if target == "file":
        place.write_bytes(b"old")
    elif target == "folder":
        place.mkdir()
    else:
        place.symlink_to(outside if target == "link" else tmp_path / "none")
    with pytest.raises(StoreError, match="File exists"):
        files.write_bytes(place, b"new", overwrite=False)
    assert names(place.parent) == ["x"]
    assert outside.read_bytes() == b"outside"
    assert names(tmp_path) == ["outside", "place"]


@pytest.mark.parametrize("target", ["link", "dangling"])
def test_a_planted_link_is_replaced_and_not_followed(tmp_path, target):
    outside, place = tmp_path / "outside", tmp_path / "x"
    if target == "link":
        outside.write_bytes(b"outside")
    place.symlink_to(outside)
    files.write_bytes(place, b"new")
    assert place.read_bytes() == b"new"
    assert not place.is_symlink()
    assert outside.exists() == (target == "link")
    assert target == "dangling" or outside.read_bytes() == b"outside"


def test_a_link_planted_at_the_scratch_name_is_refused(path, tmp_path, monkeypatch):
    """Nobody can guess the name; who knows it all the same gains nothing."""
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "known")
    outside = tmp_path / "outside"
    outside.write_bytes(b"outside")
    (tmp_path / ".known.tmp").symlink_to(outside)
    with pytest.raises(StoreError, match="File exists"):
        files.write_bytes(path, b"new")
    assert outside.read_bytes() == b"outside"
    assert path.read_bytes() == b"old"


def test_scratch_names_are_random(path):
    with files.replacing(path) as one, files.replacing(path) as two:
        one.write_bytes(b"1")
        two.write_bytes(b"2")
        assert len({one, two, path}) == 3
        assert all(scratch.name.startswith(".") for scratch in (one, two))
    assert path.read_bytes() == b"1"


@pytest.mark.parametrize("taken", [False, True])
def test_a_file_system_without_hard_links(path, monkeypatch, taken):
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    place = path if taken else path.with_name("new")
    if taken:
        with pytest.raises(StoreError, match="File exists"):
            files.write_bytes(place, b"new", overwrite=False)
    else:
        files.write_bytes(place, b"new", overwrite=False)
    assert place.read_bytes() == (b"old" if taken else b"new")


def claim(folder: Path, start, me: int) -> None:
    """Child: tries to be the first at each of many files and folders."""
    won = []
    for n in range(20):
        start.wait(30)
        try:
            files.write_bytes(folder / f"file {n}", f"{me}".encode() * 1000, overwrite=False)
            won.append(f"file {n}")
        except StoreError as error:
            assert "File exists" in str(error)  # noqa: PT017
        start.wait(30)
        with files.staged(folder) as draft:
            (draft / "out").mkdir()
            (draft / "out" / "a").write_text(f"{me}" * 1000)
            if files.publish(draft / "out", folder / f"folder {n}"):
                won.append(f"folder {n}")
    (folder / f"won by {me}").write_text("\n".join(won))


def test_of_two_processes_one_wins_and_its_content_is_whole(tmp_path):
    start = PROCESSES.Barrier(2)
    children = [PROCESSES.Process(target=claim, args=(tmp_path, start, me)) for me in (1, 2)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    for n in range(20):
        for name, place in ((f"file {n}", f"file {n}"), (f"folder {n}", f"folder {n}/a")):
            content = (tmp_path / place).read_text()
            winner = [
                me for me in "12" if name in (tmp_path / f"won by {me}").read_text().split("\n")
            ]
            assert [content] == [me * 1000 for me in winner]
    assert names(tmp_path / files.STAGING) == []
    assert not [name for name in names(tmp_path) if name.endswith(".tmp")]


def die_at(event: str, folder: Path, act: str) -> None:
    """Child: is killed when it calls the system for `event`."""

    def hook(called: str, _: tuple) -> None:
        if called == event:
            os.kill(os.getpid(), signal.SIGKILL)

    if act == "write":
        with files.replacing(folder / "file", overwrite=event == "os.rename") as scratch:
            scratch.write_bytes(b"new")
            sys.addaudithook(hook)
    else:
        with files.staged(folder) as draft:
            (draft / "out").mkdir()
            (draft / "out" / "a").write_text("new")
            sys.addaudithook(hook)
            files.publish(draft / "out", folder / "place")


@pytest.mark.parametrize(
    ("act", "event"), [("write", "os.rename"), ("write", "os.link"), ("publish", "os.rename")]
)
def test_a_kill_before_the_rename_leaves_nothing_that_is_read(tmp_path, act, event):
    if event == "os.rename":
        (tmp_path / "file").write_bytes(b"old")
    before = names(tmp_path)
    assert in_child(die_at, event, tmp_path, act) == -signal.SIGKILL
    assert [name for name in names(tmp_path) if not name.startswith(".")] == before
    assert event == "os.link" or (tmp_path / "file").read_bytes() == b"old"
    left = names(tmp_path / files.STAGING) if act == "publish" else []
    assert [name for name, _ in files.sweep(tmp_path)] == left
    assert len(left) == (act == "publish")
    assert act == "write" or names(tmp_path / files.STAGING) == []


@pytest.mark.parametrize("gone", [".lock", ".tmp", None])
def test_what_a_dead_process_left_beside_a_file_is_taken_away(tmp_path, gone):
    """Also where a power cut took one of the two; what is alive, or not ours, stays."""
    assert in_child(die_at, "os.rename", tmp_path, "write") == -signal.SIGKILL
    left = names(tmp_path)
    assert [Path(name).suffix for name in left] == [".lock", ".tmp"]
    for name in left:
        if Path(name).suffix == gone:
            (tmp_path / name).unlink()
    strange = [".0123456789abcdef.tmp", ".lock", f".{'0' * 24}.tmp.mine"]
    for name in strange:
        (tmp_path / name).touch()
    with files.replacing(tmp_path / "living") as scratch:
        scratch.write_bytes(b"half")
        mine = {scratch.name, scratch.with_suffix(".lock").name}
        files._TIDIED.clear()  # as in another process
        files.write_bytes(tmp_path / "file", b"new")
        assert set(names(tmp_path)) == {"file", *mine, *strange}
    assert set(names(tmp_path)) == {"file", "living", *strange}


def synced(monkeypatch, act) -> list[str]:
    """What is synced meanwhile, in order."""
    found: list[str] = []
    monkeypatch.setattr(
        os, "fsync", lambda handle: found.append(os.readlink(f"/proc/self/fd/{handle}"))
    )
    act()
    return found


def test_folders_on_the_way_are_on_the_disk_too(tmp_path, monkeypatch):
    place = tmp_path / "a" / "b" / "file"
    first = synced(monkeypatch, lambda: files.write_bytes(place, b"1"))
    assert sorted(first[:2]) == [str(tmp_path), str(tmp_path / "a")]
    assert Path(first[2]).suffix == ".tmp"
    assert first[3:] == [str(place.parent)]
    again = synced(monkeypatch, lambda: files.write_bytes(place, b"2"))
    assert again[1:] == [str(place.parent)]
    assert not synced(monkeypatch, lambda: files.write_bytes(place, b"3", durable=False))


def test_what_need_not_be_durable_is_not_waited_for(tmp_path, monkeypatch):
    def act() -> None:
        with files.staged(tmp_path) as draft:
            for name in ("one", "two"):
                (draft / name).mkdir()
            assert files.publish(draft / "one", tmp_path / "place", durable=False)
            files.replace(draft / "two", tmp_path / "place", durable=False)

    assert not synced(monkeypatch, act)


def test_a_folder_that_cannot_be_synced_is_no_error_where_none_can(tmp_path, monkeypatch):
    """Some file systems answer EINVAL for folders; for files it would mean that nothing is kept."""
    real = os.fsync

    def picky(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", picky)
    files.write_bytes(tmp_path / "a" / "file", b"1")
    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StoreError, match="Input/output error"):
        files.write_bytes(tmp_path / "a" / "file", b"2")
    assert (tmp_path / "a" / "file").read_bytes() == b"1"
