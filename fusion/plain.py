"""Plain files, which end: nobody waits at a pipe, and no more is read than a file should hold.

content(path)     all of its bytes
found(path)       the same, or None where there is no such file
opened(path)      a handle
check(path)       for what somebody else's code opens

check_writable(folder)    before results are worked out that go there
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from fusion import files

MOST, PIECE = 1 << 28, 1 << 20  # bytes, of a file and of a read
# what opening gives where there is nothing, a folder in the way, a link, a folder, a pipe, too much
NONE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EINVAL, errno.EFBIG)


def content(path: Path, most: int = MOST, *, follow: bool = True) -> bytes:
    """The bytes of a plain file.

    Args:
        path: the file, or a link to it.
        most: bytes.
        follow: whether a link will do.

    Raises:
        OSError: there is none, it is no plain file or has more than `most` bytes, or the disk
            refuses.
    """
    with opened(path, most, follow=follow) as handle:
        return b"".join(iter(lambda: os.read(handle, PIECE), b""))


def found(path: Path) -> bytes | None:
    """The bytes of a plain file; None where there is nothing, a link, or what is no such file.

    OSError: the disk refuses. That is no reason to take it for nothing, and to write it anew.
    """
    try:
        return content(path, follow=False)
    except OSError as error:
        if error.errno not in NONE:
            raise
        return None


@contextlib.contextmanager
def opened(path: Path, most: int | None = None, *, follow: bool = True) -> Iterator[int]:
    """The handle of a plain file, closed when the block ends; OSError as of `content`."""
    flags = files.PLAIN & ~getattr(os, "O_NOFOLLOW", 0) if follow else files.PLAIN
    with files.opened(path, flags) as handle:
        _check(os.fstat(handle), path, most)
        yield handle


def check(path: str | Path, most: int | None = None) -> None:
    """OSError where a path is no file that ends: a folder, a pipe, more than `most` bytes."""
    _check(os.stat(path), path, most)


def check_writable(path: Path) -> None:
    """StoreError where results could not be written into a folder; makes nothing."""
    near = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    with files.refusals(path):
        if not near.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(near))
        if not os.access(near, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(near))


def _check(found: os.stat_result, path: str | Path, most: int | None) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "no plain file", str(path))
    if most is not None and found.st_size > most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
