"""Builds kept between processes, and which of them are trusted.

    <cache>/segfusion/compiled/kernels-<key>    a seal, a line that says what was built, the library

<cache> is XDG_CACHE_HOME where that is an absolute path, as its standard demands, else ~/.cache.
The seal is the sha256 of all that follows it; the line names sources, compiler, flags and
processor, and `key` stands for them: machines that share a home have files of their own.

Whoever can write what is loaded here runs code as this user. So folder and file must be this
user's, no links, and writable by nobody else. Both are opened once, and what is asked is asked of
the handles: folders further up may belong to anybody, since who exchanges a folder after the look
exchanges none that was looked at. What is loaded are the bytes that were hashed, from memory
without a name where the system has such: a file that is cut or changed later stops nobody, and a
disk that must not run programs need not.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fusion import files
from fusion.kernels.native import levels

Record = Mapping[str, str]

LARGEST = 64 << 20  # bytes of a library: a hundred times what it is
_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_HANDLES = Path("/proc/self/fd")
_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)


class Untrusted(Exception):
    """Somebody else could have put code there; the sentence says why."""


def cache_folder() -> Path:
    """Where builds are kept. RuntimeError: this user has no home."""
    named = Path(os.environ.get("XDG_CACHE_HOME") or "")
    base = named if named.is_absolute() else Path.home() / ".cache"
    return base / "segfusion" / "compiled"


def name_of(record: Record) -> str:
    return f"kernels-{hashlib.sha256(_line(record)).hexdigest()[:24]}"


def read(record: Record) -> bytes | None:
    """The library that was built under a record; None where there is none.

    Raises:
        Untrusted: the folder or the file could be somebody else's work, or the file is damaged.
        OSError: the folder cannot be opened.
    """
    with _opened(cache_folder(), make=False) as folder:
        if folder is None:
            return None
        try:
            content = read_own(folder / name_of(record))
        except FileNotFoundError:
            return None
    return unsealed(content, record)


def write(record: Record, library: bytes) -> None:
    """Keeps a library, in the place of whatever has its name. Raises as `read` does."""
    with _opened(cache_folder(), make=True) as folder:
        assert folder is not None
        target = folder / name_of(record)
        if target.is_dir() and not target.is_symlink():
            raise Untrusted(f"{target.name} is a folder")
        with files.replacing(target) as scratch, own_file(scratch) as handle:
            _write(handle, sealed(library, record))


def sealed(library: bytes, record: Record) -> bytes:
    """The content of a file."""
    rest = _line(record) + b"\n" + library
    return hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


def unsealed(content: bytes, record: Record) -> bytes:
    """The library of a file. Untrusted: it is not as it was sealed, or is of another record."""
    seal, _, rest = content.partition(b"\n")
    line, _, library = rest.partition(b"\n")
    if seal != hashlib.sha256(rest).hexdigest().encode() or line != _line(record):
        raise Untrusted(f"{name_of(record)} is damaged")
    return library


@contextmanager
def _opened(place: Path, *, make: bool) -> Iterator[Path | None]:
    """A path that leads into a checked folder, even if its name leads elsewhere meanwhile."""
    if make:
        place.parents[1].mkdir(parents=True, exist_ok=True)
    for folder in (place.parent, place):
        if make:
            folder.mkdir(mode=0o700, exist_ok=True)
        elif not os.path.lexists(folder):
            yield None
            return
        if folder.is_symlink():
            raise Untrusted(f"{folder} is a link")
        _check(folder, folder.lstat(), alone=folder == place)
    if not hasattr(os, "geteuid"):  # Windows, which opens no folders
        yield place
        return
    with files.opened(place, _FOLDER) as handle:
        _check(place, os.fstat(handle), alone=True)
        inside = _HANDLES / str(handle)
        yield inside if inside.is_dir() else place


def _check(path: Path, found: os.stat_result, *, alone: bool) -> None:
    """Untrusted where a file or folder is not this user's, or (`alone`) others may write to it."""
    if not hasattr(os, "geteuid"):  # Windows: a profile's folders are its user's
        return
    if found.st_uid != os.geteuid():
        raise Untrusted(f"{path} belongs to another user (number {found.st_uid})")
    if alone and found.st_mode & _OTHERS:
        raise Untrusted(f"{path} can be written by others; `chmod go-w` it")


def read_own(path: Path) -> bytes:
    """A file's bytes. Untrusted: not a plain file of this user alone; OSError: it cannot be read"""
    if path.is_symlink():
        raise Untrusted(f"{path.name} is a link")
    with files.opened(path, files.PLAIN) as handle:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise Untrusted(f"{path.name} is no file")
        _check(Path(path.name), found, alone=True)
        if found.st_size > LARGEST:
            raise Untrusted(f"{path.name} is of {found.st_size} bytes")
        with open(handle, "rb", closefd=False) as file:
            return file.read(LARGEST)


@contextmanager
def own_file(path: Path) -> Iterator[int]:
    """The handle of a new file, which nobody else may read or write whatever the umask says."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags, 0o600)
    try:
        yield handle
    finally:
        os.close(handle)


def loaded(library: bytes) -> ctypes.CDLL:
    """The library of these bytes. OSError: it is none for this system, or is not whole."""
    _check_whole(library)
    if hasattr(os, "memfd_create"):
        try:
            return _from_memory(library)
        except OSError:
            pass  # no such calls in this container, or no library: the next line says which
    return _from_copy(library)


def _from_memory(library: bytes) -> ctypes.CDLL:
    import fcntl

    handle = os.memfd_create("segfusion-kernels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        _write(handle, library)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(handle, fcntl.F_ADD_SEALS, seals)
        # by this process's number, so that a debugger finds it too
        found = ctypes.CDLL(str(_HANDLES.resolve() / str(handle)))
    except BaseException:
        os.close(handle)
        raise
    return found  # the handle stays: by its path the system knows what it has loaded already


def _from_copy(library: bytes) -> ctypes.CDLL:
    folder = Path(tempfile.mkdtemp(prefix="segfusion-"))  # for this user alone
    path = folder / f"kernels{levels.ENDING}"
    try:
        with own_file(path) as handle:
            _write(handle, library)
        return ctypes.CDLL(str(path))
    finally:
        if os.name != "nt":  # which removes nothing that is loaded
            path.unlink(missing_ok=True)
            folder.rmdir()


def _check_whole(library: bytes) -> None:
    """OSError where a loader would touch what is not there, which ends the process (SIGBUS)."""
    if library[:6] != b"\x7fELF\x02\x01":  # not 64 bits, little-endian: loaders say what it is
        return
    start, size, count = (
        int.from_bytes(library[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58))
    )
    ends = [start + size * count]
    for at in range(start, min(ends[0], len(library)), max(size, 1)):
        offset, length = library[at + 8 : at + 16], library[at + 32 : at + 40]
        ends.append(int.from_bytes(offset, "little") + int.from_bytes(length, "little"))
    if max(ends) > len(library):
        raise OSError(f"a library of {max(ends)} bytes, of which there are {len(library)}")


def _line(record: Record) -> bytes:
    return json.dumps(record, sort_keys=True).encode()


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]
