"""Whole-or-nothing files and folders, and JSON: the only module that renames.

    write_bytes, write_json    a file that appears whole or not at all
    make_folder(path)          a folder whose name is on the disk
    replacing(path)            the same for a file that somebody else's code writes
    staged(root)               a folder of one's own, locked while its owner lives
    publish(draft, place)      makes what was staged visible; of two owners the first wins
    replace(draft, place)      the same in the place of something else; the last wins
    sweep(root)                removes the staging folders whose owners died
    check_no_link(folder)      StoreError where it is a link
    locked(folder)             one process at a time, for what somebody else's code opens
    opened(path)               a handle that is closed again
    scratch()                  a file without a name, gone when it is closed

A reader meets a file or folder whole or not at all: what a killed process leaves stands under a
random name that begins with a dot, or below .staging, where nobody reads. Random names, opened
exclusively, follow no planted link. What is `durable` or published is on the disk, not in a cache,
when the call returns, with the names of folders made for it: content first, then the name, so that
a power cut leaves the old, the new or nothing. Owners hold locks, so what dead ones left is known:
`sweep` takes it from .staging, writers from beside files. What a disk refuses is a StoreError.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import IO, Any

from fusion.errors import StoreError

STAGING = ".staging"  # of a root: work in progress, never read
LOCK = "lock"
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)  # of file systems without them
FULL = (errno.ENOSPC, errno.EDQUOT)
# no link, no pipe that a reader hangs at; Windows knows neither flag, but bytes from text
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
PLAIN = os.O_RDONLY | _NO_LINK | getattr(os, "O_NONBLOCK", 0)
CLAIM = os.O_RDWR | _NO_LINK  # of a lock
_OWNED = re.compile(r"\.[0-9a-f]{24}\.(lock|tmp)")  # a scratch file and its owner's lock
_TIDIED: set[str] = set()  # folders, by this process


@contextlib.contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """The handle of a file or folder, closed when the block ends."""
    handle = os.open(path, flags, 0o644)
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def scratch() -> Iterator[IO[bytes]]:
    """A file that no other process finds, where TMPDIR says. StoreError: the disk refuses."""
    place = Path(tempfile.gettempdir())
    with refusals(place), tempfile.TemporaryFile(dir=place) as file:
        yield file


if sys.platform == "win32":
    import msvcrt

    def _hold(handle: int, *, wait: bool = True) -> None:
        """As below; msvcrt's own waiting ends after ten seconds."""
        while True:
            try:
                return msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            except PermissionError as error:
                if not wait:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
                time.sleep(0.05)
else:
    import fcntl

    def _hold(handle: int, *, wait: bool = True) -> None:
        """Locks a file until its handle is closed; BlockingIOError where another process has it."""
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


@contextlib.contextmanager
def refusals(
    path: object, need: int | None = None, *, problem: str = "cannot be written"
) -> Iterator[None]:
    """Turns an OSError inside into a StoreError: the place, the reason, what to do.

    Args:
        path: the place that the error names.
        need: bytes that were to be written, for people whose disk is full.
        problem: what did not come about.
    """
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        room = "" if need is None else f", {need} bytes needed"
        full = need is not None and error.errno in FULL
        advice = "free that much there" if full else "check the folder's rights and space"
        raise StoreError(f"{path}: {problem} ({reason}){room}; {advice}") from error


@contextlib.contextmanager
def replacing(path: Path, *, overwrite: bool = True, durable: bool = False) -> Iterator[Path]:
    """A scratch path beside `path`, which takes its place when the block ends without an error.

    Folders on the way are made. OSErrors pass unchanged: wrap the call in `refusals`.

    Args:
        path: the file to be; a link there is replaced, not followed.
        overwrite: False for FileExistsError where something is there, also if it came meanwhile.
        durable: whether to wait until the file and its name are on the disk. Without, a power cut
            may leave an empty file of that name, a killed process still leaves none.
    """
    make_folder(path.parent, durable=durable)
    _tidy(path.parent)
    with _owned(path) as scratch:
        yield scratch
        if durable:
            _sync(scratch)
        if overwrite:
            scratch.replace(path)
        else:
            _link(scratch, path)
        if durable:
            _sync(path.parent)


def make_folder(path: Path, *, durable: bool = True) -> None:
    """Makes a folder, and those on the way to it; OSErrors pass unchanged.

    Args:
        path: the folder; it may be there.
        durable: whether to wait until the names of those made are on the disk.
    """
    made = list(takewhile(lambda each: not each.exists(), (path, *path.parents)))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:  # a file in the folder's place
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
    for each in made if durable else ():
        _sync(each.parent)


@contextlib.contextmanager
def _owned(path: Path) -> Iterator[Path]:
    """A scratch path beside a file, and a lock beside that which says that its owner lives."""
    lock, claimed = path.with_name(f".{secrets.token_hex(12)}.lock"), False
    scratch = lock.with_suffix(".tmp")
    with contextlib.ExitStack() as stack:
        stack.callback(_forget, scratch, lock)
        while not claimed:  # another process may tidy it away just before it is locked
            handle = stack.enter_context(opened(lock, CLAIM | os.O_CREAT))
            with contextlib.suppress(OSError):  # without locks nothing is tidied
                _hold(handle)
            claimed = os.fstat(handle).st_nlink > 0
        yield scratch


def _forget(scratch: Path, lock: Path) -> None:
    """The lock last: without it the other one has no owner."""
    with contextlib.suppress(OSError):
        scratch.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)


def _tidy(folder: Path) -> None:
    """Takes away what dead owners left beside files of a folder: once in a process."""
    place = os.path.abspath(folder)
    with contextlib.suppress(OSError):  # a folder may be written to and not listed
        for name in filter(_OWNED.fullmatch, () if place in _TIDIED else os.listdir(folder)):
            lock = (folder / name).with_suffix(".lock")
            # suppressed: its owner lives, or nobody may take it away
            with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
                # the living made theirs first; of the dead a power cut may have left either
                if name.endswith(".lock") or os.path.lexists(lock):
                    _hold(stack.enter_context(opened(lock, CLAIM)), wait=False)
                _forget(lock.with_suffix(".tmp"), lock)
    _TIDIED.add(place)


def _link(draft: Path, path: Path) -> None:
    """Gives a file its name; FileExistsError where that is taken: a rename would not tell."""
    try:
        return os.link(draft, path)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
    draft.replace(path)


def write_bytes(path: Path, data: bytes, *, overwrite: bool = True, durable: bool = True) -> None:
    """A file with this content, as `replacing` makes it, on the disk unless that is not asked for.

    Raises:
        StoreError: the disk refuses, or (without `overwrite`) the path is taken.
    """
    with (
        refusals(path, len(data)),
        replacing(path, overwrite=overwrite, durable=durable) as scratch,
        scratch.open("xb") as file,
    ):
        file.write(data)


def write_json(path: Path, document: Any) -> None:
    """A JSON file, on the disk; NaN is refused with ValueError."""
    write_bytes(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())


@contextlib.contextmanager
def staged(root: Path) -> Iterator[Path]:
    """A fresh root/.staging/<random>, no link, locked while the block runs and removed after it."""
    make_folder(root)
    check_no_link(root / STAGING)
    folder, claimed = root / STAGING / secrets.token_hex(16), False
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        while not claimed:  # a sweep may take the folder just before it is locked
            with contextlib.suppress(FileNotFoundError):
                folder.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(opened(folder / LOCK, CLAIM | os.O_CREAT))
                _hold(lock)
                claimed = os.fstat(lock).st_nlink > 0
        yield folder


def publish(draft: Path, place: Path, *, durable: bool = True) -> bool:
    """Makes a staged file or folder visible, once it is on the disk.

    Args:
        draft: a file or folder inside what `staged` gave.
        place: where it belongs, on the same file system.
        durable: False not to wait for the disk: a power cut may then leave a damaged one.

    Returns:
        False where something is there already, which then stays.
    """
    # from the leaves up; a file is no tree
    tree = [Path(at, n) for at, _, names in os.walk(draft, topdown=False) for n in (*names, ".")]
    for path in (tree or [draft]) if durable else ():
        _sync(path)
    published = True
    try:
        (os.rename if tree else _link)(draft, place)
    except OSError:
        if not os.path.lexists(place):
            raise
        published = False
    if durable:
        _sync(place.parent)
    return published


def replace(draft: Path, place: Path, *, durable: bool = True) -> None:
    """Makes a staged folder visible in the place of whatever is there, which is then removed.

    The two are exchanged at once: nobody finds neither of them. Where the file system cannot, there
    is a moment between two renames: who is killed in it has lost the old one and the new.

    Args:
        draft: a folder inside what `staged` gave; afterwards the old one, until the block ends.
        place: where it belongs, on the same file system.
        durable: as `publish`.
    """
    while not publish(draft, place, durable=durable):
        with contextlib.suppress(FileNotFoundError):  # taken away meanwhile: publish anew
            if not _exchange(draft, place):
                aside = draft.with_name(f"{draft.name}.replaced")
                place.rename(aside)
                try:
                    draft.rename(place)
                except BaseException:
                    with contextlib.suppress(OSError):
                        aside.rename(place)
                    raise
            if durable:
                _sync(place.parent)
            return


def _exchange(one: Path, two: Path) -> bool:
    """Whether two paths have changed places: Linux, and most of its file systems."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if renameat2(here, os.fsencode(one), here, os.fsencode(two), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, *NO_HARD_LINKS):
        return False
    raise OSError(code, os.strerror(code), str(two))


def sweep(root: Path, *, age: float = 0.0, dry_run: bool = False) -> list[tuple[str, int]]:
    """Removes the staging folders of dead owners, and what they left beside the root's files.

    A living owner's lock is what counts: no clock that jumped makes this take its work. Returns
    the name and bytes of each folder, in order; StoreError where root/.staging is a link.

    Args:
        root: the folder that `staged` was given.
        age: seconds; younger folders stay, whoever their owner was.
        dry_run: only look.
    """
    removed, left, staging = [], list[Path](), root / STAGING
    check_no_link(staging)
    if not dry_run:
        _tidy(root)
    with refusals(staging, problem="cannot be listed"), contextlib.suppress(FileNotFoundError):
        left = sorted(staging.iterdir())
    for folder in left:
        # suppressed: its owner finished, or another sweep was faster
        with refusals(folder, problem="cannot be removed"), contextlib.suppress(FileNotFoundError):
            plain = folder.is_dir() and not folder.is_symlink()
            old = plain and abs(time.time() - folder.stat().st_mtime) >= age
            size = _remove(folder, dry_run=dry_run) if old else None
            if size is not None:
                removed.append((folder.name, size))
    return removed


def _remove(folder: Path, *, dry_run: bool) -> int | None:
    """Removes a staging folder, which nobody can claim meanwhile; None where its owner lives."""
    with contextlib.ExitStack() as stack:
        try:
            # who died between folder and lock left none: made here, lest an owner come in between
            flags = CLAIM | (0 if dry_run else os.O_CREAT)
            lock = stack.enter_context(opened(folder / LOCK, flags))
            _hold(lock, wait=False)
            if not os.fstat(lock).st_nlink:  # another sweep took it, and it may be claimed anew
                return None
        except BlockingIOError:
            return None
        except FileNotFoundError:
            if not folder.is_dir():
                return None
        except OSError as error:
            reason = f"cannot tell whether its writer lives ({error.strerror})"
            raise StoreError(f"{folder}: {reason}; check the folder's rights") from error
        files = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
        size = sum(file.lstat().st_size for file in files)
        try:
            if not dry_run:
                shutil.rmtree(folder)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:  # claimed anew, between its lock and itself
                raise
            return None
        return size


@contextlib.contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Waits until this process alone holds a folder's lock, or BlockingIOError without `wait`.

    Nothing is left behind. Where the file system locks no folders nobody waits.
    """
    with opened(folder) as handle:
        try:
            _hold(handle, wait=wait)
        except OSError as error:
            if isinstance(error, BlockingIOError):
                raise
        yield


def check_no_link(folder: Path) -> None:
    """StoreError where a folder that is written into is a link, which leads somewhere else."""
    if folder.is_symlink():
        do = "remove it or give the folder that it leads to"
        raise StoreError(f"{folder}: is a link; files are written into plain folders, {do}")


def _sync(path: Path) -> None:
    """Waits until a file's content, or the names in a folder, are on the disk."""
    if sys.platform == "win32" and path.is_dir():
        return  # it opens no folders
    with opened(path) as handle:
        try:
            os.fsync(handle)
        except OSError as error:  # some file systems do this for no folder
            if error.errno != errno.EINVAL or not path.is_dir():
                raise
