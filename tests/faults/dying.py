"""A process that dies at its n-th change of a disk or of a server, played inside this one.

    with dying(5) as death:
        ...  # its sixth change raises Killed; from then on nothing of it reaches the disk
    death.happened

What a killed process does not do is its clean-up: every later change of it raises as well, so that
the disk stays as it was at that moment. A file that was being written then may be torn.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

from fusion.stores.locations.bucket import Bucket

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CHANGES = ("rename", "remove", "mkdir", "rmdir", "link", "symlink", "truncate")
EVENTS = frozenset(f"os.{what}" for what in CHANGES)


class Killed(BaseException):
    """No Exception: nothing in the library may take it for an error of its own."""


class Death:
    """The changes that a process has left, and whether they are used up.

    Args:
        left: how many it makes.
        torn: what part of the last file it gets written, where it dies while it writes one.
        late: whether the change that it dies at reaches a server all the same.
    """

    def __init__(self, left: int, torn: float = 1.0, late: bool = False) -> None:
        self.left, self.torn, self.late = left, torn, late
        self.happened, self.opened = False, ""

    def change(self, opened: str = "") -> None:
        """Counts one; opened: the file whose content follows."""
        self.happened = self.happened or self.left == 0
        if self.happened:
            raise Killed
        self.left, self.opened = self.left - 1, opened

    def tear(self) -> None:
        """The file that was opened last is cut: no more of it had been written."""
        if self.happened and self.opened and os.path.isfile(self.opened):
            os.truncate(self.opened, int(os.path.getsize(self.opened) * self.torn))


_dying: Death | None = None  # whose changes are counted: all of this process's
_hooked = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _dying is None:
        return
    if event == "open":
        path, flags = arguments[0], arguments[2]
        if isinstance(flags, int) and flags & WRITING:
            _dying.change(os.fspath(path) if isinstance(path, str | os.PathLike) else "")
    elif event in EVENTS:
        _dying.change()


def _disk() -> None:
    """Python tells of every change before it is made; what listens can never be taken off."""
    global _hooked
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True


@contextlib.contextmanager
def dying(left: int, *, torn: float = 1.0) -> Iterator[Death]:
    """The block is a process that makes so many changes to disks, and dies before the next."""
    global _dying
    _disk()
    death = _dying = Death(left, torn)
    try:
        with contextlib.suppress(Killed):
            yield death
    finally:
        _dying = None
        death.tear()


@contextlib.contextmanager
def dying_remotely(left: int, *, late: bool = False) -> Iterator[Death]:
    """The same for what is asked of object stores; late: the last request is answered too late."""
    death, ask = Death(left, late=late), Bucket.ask

    def counted(self: Bucket, *arguments: Any, writing: bool = False, **options: Any) -> Any:
        if writing:
            if death.late and death.left == 0 and not death.happened:
                ask(self, *arguments, writing=writing, **options)
            death.change()
        return ask(self, *arguments, writing=writing, **options)

    Bucket.ask = counted  # type: ignore[method-assign]
    try:
        with contextlib.suppress(Killed):
            yield death
    finally:
        Bucket.ask = ask  # type: ignore[method-assign]
