"""Open files of frames: each is opened and its index checked once, then frames cost one read.

A process keeps at most MOST_OPEN of them, the last used; what a store has open is closed with it.
A file of a disk stays readable while somebody reads it, whoever evicts, renames or removes it.
"""

from __future__ import annotations

import errno
import itertools
import os
import threading
import weakref
from collections import OrderedDict

import google_crc32c
import numpy as np

from fusion.errors import CorruptStoreError, StoreError
from fusion.stores.documents import damaged
from fusion.stores.locations import File, Location, MissingError

MOST_OPEN = 32
NO_MORE = (errno.EMFILE, errno.ENFILE)  # handles, of a process or a machine

_TOKENS = itertools.count()
_LOCK = threading.RLock()  # again: a store that is collected inside gives up its files
_RECENT: OrderedDict[tuple[int, str, str], Shard] = OrderedDict()


class Shard:
    """An open file of frames.

    Attributes:
        path: where it lies.
        read: a range of its bytes, by offset and length.
        index: [frames, 2] uint64 offset and length of each.
    """

    def __init__(self, folder: Location, name: str, frames: int, where: str) -> None:
        part = self.path = folder / name
        # O_NOFOLLOW looks at the last part of a path alone
        for _ in range(name.count("/") + 2):
            if part.is_link():
                advice = "stores hold plain files only, copy it instead"
                raise damaged(where, f"{part} is a link", advice)
            part = part.parent
        try:
            file = _open(self.path)
            self.read = file.read
            self.index = _read_index(file, frames, f"{where}: {name}")
        except MissingError as error:
            problem = f"{folder.name}/{name} is missing"
            raise damaged(where, problem, "write it again") from error
        except StoreError:
            raise
        except OSError as error:
            raise unread(where, self.path, error) from error


def unread(where: str, path: Location, error: OSError) -> CorruptStoreError:
    """The error of a file that the disk does not give; it may yet, so its whole path is named."""
    do = "check its disk and rights, or write the video again"
    return damaged(where, f"{path} cannot be read ({error.strerror})", do)


class Shards:
    """The files that a store has open; pickled or copied, it has none."""

    def __init__(self) -> None:
        self._token = next(_TOKENS)
        weakref.finalize(self, _forget, self._token)

    def __reduce__(self) -> tuple[type[Shards], tuple[()]]:
        return Shards, ()

    def open(self, root: Location, folder: str, name: str, frames: int, where: str) -> Shard:
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


def _open(path: Location) -> File:
    try:
        return path.open()
    except OSError as error:
        if error.errno not in NO_MORE:
            raise
    with _LOCK:
        _RECENT.clear()
    return path.open()


def _read_index(file: File, frames: int, name: str) -> np.ndarray:
    """[frames, 2] uint64 offset and length of each inner chunk, from the file's tail.

    Source: Zarr v3, sharding_indexed.
    """
    size, end = frames * 16 + 4, file.size
    tail = file.read(max(0, end - size), size)
    if len(tail) != size or int.from_bytes(tail[-4:], "little") != google_crc32c.value(tail[:-4]):
        problem = f"has a damaged shard index ({end} bytes)"
        raise CorruptStoreError(f"{name} {problem}; write the video again")
    return np.frombuffer(tail[:-4], "<u8").reshape(frames, 2)
