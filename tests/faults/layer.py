"""A layer under this process's calls to files: it fails, loses or records what happens there.

    with faults(root, Fault(n, "EIO")) as layer:   # the n-th call of those that can fail so
        work()
    layer.reached                                  # False: the work was done before

    with recorded(root) as disk:                   # tests/faults/power.py
        work()

Python's own files go through these calls as well: those below the root are _pyio's, which are
written in Python. What a C library opens by itself (SQLite) is not seen.
"""

from __future__ import annotations

import _pyio
import builtins
import contextlib
import errno
import fcntl
import io
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

from fusion import files

READS = ("read", "pread", "listdir", "scandir")
WRITES = ("create", "write", "fsync", "mkdir", "rename", "replace", "link", "truncate", "exchange")
GONE = ("unlink", "rmdir")
ALL = ("open", "lock", *READS, *WRITES, *GONE)
PATHS = ("open", "create", "mkdir", "rename", "replace", "link", "exchange", *GONE)
# of each fault the calls that it can strike
KINDS: dict[str, tuple[str, ...]] = {
    "EIO": ALL,
    "ENOSPC": WRITES,
    "EACCES": (*PATHS, "listdir", "scandir"),
    "EMFILE": ("open", "create", "listdir", "scandir"),
    "short write": ("write",),  # half of it is written, and said to be
    "torn write": ("write",),  # half of it is written, then the process dies
    "lost rename": ("rename", "replace", "link", "exchange"),  # said to be done; then it dies
    "lost fsync": ("fsync",),  # said to be done
    "killed": ALL,  # nothing happens any more
}
DEATHS = ("killed", "torn write", "lost rename")


class Killed(BaseException):
    """The process is dead: nothing that it does below the root happens any more."""


@dataclass(frozen=True)
class Fault:
    """What strikes which call.

    n: of the calls that it can strike, from 1. kind: of KINDS. forever: all later ones as well.
    """

    n: int
    kind: str
    forever: bool = False


@dataclass(frozen=True)
class Call:
    """A call below the root: its name, its places, and what does it.

    handle: of an open file, which `places[0]` was the path of. content: bytes to be written.
    """

    name: str
    places: tuple[str, ...]
    do: Callable[..., Any]
    handle: int | None = None
    content: Any = None
    flags: int = 0


class Layer:
    """Sees every call below a root, and does it. Handles are known by the path that they had."""

    def __init__(self, root: Path) -> None:
        self.root, self.handles = os.path.realpath(root), dict[int, str]()
        self.lock = threading.RLock()

    def call(self, call: Call) -> Any:
        """What a watched call does and returns."""
        return call.do()

    def closed(self, handle: int) -> None:
        self.handles.pop(handle, None)

    def place(self, path: Any, folder: int | None = None) -> str | None:
        """A path, absolute; None where it is not below the root."""
        if isinstance(path, int):
            return self.handles.get(path)
        near = os.fsdecode(path)
        if folder is not None:
            near = os.path.join(self.handles.get(folder, "/"), near)
        full = os.path.join(os.path.realpath(os.path.dirname(near) or "."), os.path.basename(near))
        inside = full == self.root or full.startswith(self.root + os.sep)
        return full if inside else None


Kind = TypeVar("Kind", bound=Layer)


class Faults(Layer):
    """A layer with one fault."""

    def __init__(self, root: Path, fault: Fault) -> None:
        super().__init__(root)
        self.fault, self.count, self.dead, self.struck = fault, 0, False, ""

    @property
    def reached(self) -> bool:
        return self.count >= self.fault.n

    def call(self, call: Call) -> Any:
        with self.lock:
            if self.dead:
                raise Killed
            self.count += call.name in KINDS[self.fault.kind]
            strikes = self.count == self.fault.n or (self.fault.forever and self.reached)
            if strikes and call.name in KINDS[self.fault.kind]:
                self.struck = f"{call.name} {' '.join(call.places)}"
                return self._strike(call, self.fault.kind)
            if call.name != "lock":
                return call.do()
        return call.do()  # waits for another thread, whose calls come through here as well

    def _strike(self, call: Call, kind: str) -> Any:
        if kind in DEATHS:
            self.dead = kind != "lost rename"
            if kind == "torn write":
                call.do(call.content[: len(call.content) // 2])
            if kind == "lost rename":
                self.dead = True
                return True if call.name == "exchange" else None
            raise Killed
        if kind == "short write":
            return call.do(call.content[: max(1, len(call.content) // 2)])
        if kind == "lost fsync":
            return None
        code = getattr(errno, kind)
        raise OSError(code, os.strerror(code), call.places[0])


@contextlib.contextmanager
def faults(root: Path, fault: Fault) -> Iterator[Faults]:
    """Strikes a call below a root while the block runs."""
    with under(Faults(root, fault)) as layer:
        yield layer


@contextlib.contextmanager
def under(layer: Kind) -> Iterator[Kind]:
    """Puts a layer under this process's calls while the block runs."""
    with contextlib.ExitStack() as stack:
        for owner, name, made in _patches(layer):
            stack.enter_context(mock.patch.object(owner, name, made))
        yield layer


def _patches(layer: Layer) -> Iterator[tuple[Any, str, Any]]:
    for name in ("mkdir", "rmdir", "unlink", "remove", "listdir", "scandir", "truncate"):
        yield os, name, _of_path(layer, name, getattr(os, name))
    for name in ("rename", "replace", "link"):
        yield os, name, _of_two(layer, name, getattr(os, name))
    for name in ("read", "pread", "write", "pwrite", "fsync", "fdatasync", "ftruncate"):
        yield os, name, _of_handle(layer, name, getattr(os, name))
    yield os, "open", _os_open(layer, os.open)
    yield os, "close", _close(layer, os.close)
    yield fcntl, "flock", _of_handle(layer, "lock", fcntl.flock)
    yield files, "_exchange", _of_two(layer, "exchange", files._exchange)
    for module in (builtins, io):
        yield module, "open", _open(layer, io.open)


def _of_path(layer: Layer, name: str, do: Any) -> Any:
    known = {"remove": "unlink"}.get(name, name)

    def call(path: Any = ".", *args: Any, dir_fd: int | None = None, **how: Any) -> Any:
        place = layer.place(path, dir_fd)
        if dir_fd is not None:
            how["dir_fd"] = dir_fd
        if place is None:
            return do(path, *args, **how)
        handle = path if isinstance(path, int) else None
        return layer.call(Call(known, (place,), lambda: do(path, *args, **how), handle))

    return call


def _of_two(layer: Layer, name: str, do: Any) -> Any:
    def call(one: Any, two: Any, **how: Any) -> Any:
        places = layer.place(one), layer.place(two)
        if None in places:
            return do(one, two, **how)
        return layer.call(Call(name, places, lambda: do(one, two, **how)))  # type: ignore[arg-type]

    return call


def _of_handle(layer: Layer, name: str, do: Any) -> Any:
    known = {"pwrite": "write", "fdatasync": "fsync", "ftruncate": "truncate"}.get(name, name)

    def call(handle: Any, *args: Any) -> Any:
        number = handle if isinstance(handle, int) else handle.fileno()
        place = layer.handles.get(number)
        if place is None:
            return do(handle, *args)
        # copied: an error's traceback keeps it, and _pyio shortens its buffer when it tries again
        content = bytes(memoryview(args[0]).cast("B")) if known == "write" else None
        run = lambda part=None: do(handle, *(args if part is None else (part, *args[1:])))  # noqa: E731
        return layer.call(Call(known, (place,), run, number, content))

    return call


def _os_open(layer: Layer, do: Any) -> Any:
    def call(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        place = layer.place(path, dir_fd)
        if place is None:
            return do(path, flags, mode, dir_fd=dir_fd)

        def run() -> int:
            handle = do(path, flags, mode, dir_fd=dir_fd)
            layer.handles[handle] = place
            return handle

        fresh = flags & os.O_CREAT and not os.path.lexists(place)
        return layer.call(Call("create" if fresh else "open", (place,), run, flags=flags))

    return call


def _close(layer: Layer, do: Any) -> Any:
    def call(handle: int) -> None:  # a system closes the handles of the dead
        layer.closed(handle)
        do(handle)

    return call


def _open(layer: Layer, do: Any) -> Any:
    def call(file: Any, *args: Any, **how: Any) -> Any:
        return (do if layer.place(file) is None else _pyio.open)(file, *args, **how)

    return call
