"""Open files of frames: each is opened and its index checked once, then frames cost one read.

A process keeps at most MOST_OPEN of them, the last used; what a store has open is closed with it.
A file stays readable while somebody reads it, whoever evicts it, renames or removes it meanwhile.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
import weakref
from collections import OrderedDict
from pathlib import Path

import google_crc32c
import numpy as np

from fusion import files
from fusion.errors import CorruptStoreError
from fusion.stores.documents import damaged

MOST_OPEN = 32
NO_MORE = (errno.EMFILE, errno.ENFILE)  # handles, of a process or a machine

_TOKENS = itertools.count()
_LOCK = threading.RLock()  # again: a store that is collected inside gives up its files
_RECENT: OrderedDict[tuple[int, str, str], Shard] = OrderedDict()


class Shard:
    """An open file of frames.

    Attributes:
        handle: for os.pread, which moves no position that threads or forked processes share.
        index: [frames, 2] uint64 offset and length of each.
    """

    def __init__(self, folder: Path, name: str, frames: int, where: str) -> None:
        path = folder / name
        # O_NOFOLLOW looks at the last part of a path alone
        for part in (path, *path.parents[: len(Path(name).parts)]):
            if part.is_symlink():
                advice = "stores hold plain files only, copy it instead"
                raise damaged(where, f"{part} is a link", advice)
        try:
            self.handle = _open(path)
            weakref.finalize(self, os.close, self.handle)
            self.index = _read_index(self.handle, frames, f"{where}: {name}")
        except CorruptStoreError:
            raise
        except OSError as error:
            problem = f"{folder.name}/{name} cannot be read ({error.strerror})"
            raise damaged(where, problem, "write it again") from error


class Shards:
    """The files that a store has open; pickled or copied, it has none."""

    def __init__(self) -> None:
        self._token = next(_TOKENS)
        weakref.finalize(self, _forget, self._token)

    def __reduce__(self) -> tuple[type[Shards], tuple[()]]:
        return Shards, ()

    def open(self, root: Path, folder: str, name: str, frames: int, where: str) -> Shard:
        """A file of the store; CorruptStoreError where it is damaged, a link or missing."""
        key = (self._token, folder, name)
        with _LOCK:
            shard = _RECENT.get(key)
            if shard is not None:
                _RECENT.move_to_end(key)
                return shard
        shard = Shard(root / folder, name, frames, where)
        with _LOCK:
            _RECENT[key] = shard
            while len(_RECENT) > MOST_OPEN:
                _RECENT.popitem(last=False)
        return shard


def _forget(token: int) -> None:
    with _LOCK:
        for key in [key for key in _RECENT if key[0] == token]:
            _RECENT.pop(key, None)


def _new_lock() -> None:
    """For a forked child: another thread, which the child does not have, may hold the old one."""
    global _LOCK
    _LOCK = threading.RLock()


os.register_at_fork(after_in_child=_new_lock)


def _open(path: Path) -> int:
    try:
        return os.open(path, files.PLAIN)
    except OSError as error:
        if error.errno not in NO_MORE:
            raise
    with _LOCK:
        _RECENT.clear()
    return os.open(path, files.PLAIN)


def _read_index(handle: int, frames: int, name: str) -> np.ndarray:
    """[frames, 2] uint64 offset and length of each inner chunk, from the file's tail.

    Source: Zarr v3, sharding_indexed.
    """
    size, end = frames * 16 + 4, os.fstat(handle).st_size
    tail = os.pread(handle, size, max(0, end - size))
    if len(tail) != size or int.from_bytes(tail[-4:], "little") != google_crc32c.value(tail[:-4]):
        problem = f"has a damaged shard index ({end} bytes)"
        raise CorruptStoreError(f"{name} {problem}; write the video again")
    return np.frombuffer(tail[:-4], "<u8").reshape(frames, 2)
