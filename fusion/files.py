"""Whole-or-nothing files and folders, and JSON: the only module that renames.

    write_bytes, write_json    a file that appears whole or not at all
    replacing(path)            the same for a file that somebody else's code writes
    staged(root)               a folder of one's own under root/.staging, locked while its owner lives
    publish(folder, place)     makes a staged folder visible by one rename; of two owners one wins
    sweep(root)                removes the folders whose owners died

Scratch names are random and opened exclusively, so that no planted link is followed. `durable` writes are on the disk, not
only in its cache, when the call returns. What the disk refuses is a StoreError that names the place.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fusion.errors import StoreError

STAGING = ".staging"  # of a root: work in progress, never read
LOCK = "lock"
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)  # of file systems without them


@contextlib.contextmanager
def refusals(path: Path, need: int | None = None) -> Iterator[None]:
    """Turns an OSError inside into a StoreError that names `path`, and says how many bytes were needed."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        room = f", {need} bytes needed" if need is not None else ""
        raise StoreError(
            f"{path}: cannot be written ({reason}){room}; check the folder's rights and space"
        ) from error


@contextlib.contextmanager
def replacing(path: Path, *, overwrite: bool = True, durable: bool = False) -> Iterator[Path]:
    """A scratch path beside `path`; what was written there takes its place when the block ends without an error.

    Folders on the way are made. overwrite=False: FileExistsError where something is there, also if it came meanwhile; a
    link is never followed. OSErrors pass unchanged: wrap the call in `refusals`, or say it better.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        yield scratch
        if durable:
            _sync(scratch)
        _take_place(scratch, path, overwrite)
        if durable:
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def _take_place(scratch: Path, path: Path, overwrite: bool) -> None:
    if not overwrite:
        try:
            os.link(scratch, path)  # unlike a rename, fails if another writer was faster
            return
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
        if os.path.lexists(path):
            raise FileExistsError(f"{path} exists")
    scratch.replace(path)


def write_bytes(
    path: Path, content: bytes, *, overwrite: bool = True, durable: bool = False
) -> None:
    """A file with this content. StoreError: the disk refuses, or (without `overwrite`) the path is taken."""
    with (
        refusals(path, len(content)),
        replacing(path, overwrite=overwrite, durable=durable) as scratch,
        scratch.open("xb") as file,
    ):
        file.write(content)


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """A JSON file; NaN is refused with ValueError."""
    write_bytes(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())


@contextlib.contextmanager
def staged(root: Path) -> Iterator[Path]:
    """A fresh folder under root/.staging, locked while this block runs and removed after it."""
    folder, lock = _own_folder(root / STAGING)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _own_folder(staging: Path) -> tuple[Path, int]:
    """A locked folder; a sweep may take it before the lock does, then another one is made."""
    while True:
        folder = staging / secrets.token_hex(16)
        folder.mkdir(parents=True)
        with contextlib.suppress(FileNotFoundError):
            lock = _claim(folder)
            if lock is not None:
                return folder, lock


def _claim(folder: Path) -> int | None:
    """The lock of a staging folder, to be closed; None where another process has or had it."""
    lock = os.open(folder / LOCK, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o644)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.lexists(folder / LOCK):
            return lock
    os.close(lock)
    return None


def publish(folder: Path, place: Path) -> bool:
    """Syncs a folder and renames it to `place`; False where something is there already, which then stays."""
    sync_tree(folder)
    try:
        os.rename(folder, place)
    except OSError:
        if not os.path.lexists(place):
            raise
        return False
    finally:
        sync_folder(place.parent)
    return True


def sweep(root: Path, *, age: float = 0.0, dry_run: bool = False) -> list[tuple[str, int]]:
    """Removes staging folders older than `age` seconds whose owner is dead; returns their names and bytes.

    A living owner holds a lock on its folder, which is what counts: a clock that jumped cannot make this take its work.
    """
    removed, staging = [], root / STAGING
    for folder in sorted(staging.iterdir()) if staging.is_dir() else []:
        try:
            recent = abs(time.time() - folder.stat().st_mtime) < age
            if folder.is_symlink() or not folder.is_dir() or recent:
                continue
            lock = _claim(folder)
        except FileNotFoundError:  # its owner finished, or another sweep was faster
            continue
        except OSError as error:
            reason = f"cannot tell whether its writer lives ({error.strerror})"
            raise StoreError(f"{folder}: {reason}; check the folder's rights") from error
        if lock is None:
            continue
        try:  # the lock is held until the folder is gone, so that its owner cannot come in between
            paths = [Path(parent, name) for parent, _, names in os.walk(folder) for name in names]
            size = sum(os.lstat(path).st_size for path in paths)
            if not dry_run:
                shutil.rmtree(folder)
            removed.append((folder.name, size))
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:  # an owner took it when its lock file was gone
                raise
        finally:
            os.close(lock)
    return removed


def sync_tree(folder: Path) -> None:
    """fsync of every file and folder below a folder."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            _sync(Path(parent, name))
        sync_folder(Path(parent))


def sync_folder(folder: Path) -> None:
    """fsync of a folder: makes the renames inside it survive a power cut."""
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
