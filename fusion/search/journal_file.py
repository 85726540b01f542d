"""Optuna's journal file, whose disk's refusals are this library's errors.

The lock stays Optuna's own, a file beside the journal, so that its other programs may share one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from fusion.errors import StoreError
from fusion.files import refusals

GRACE = 30  # seconds after which a lock is taken from its owner, who has died


class Lock(JournalFileOpenLock):
    """What Optuna says of a lock that the disk refuses hides what the disk said."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), GRACE)
        self.path = path

    def acquire(self) -> bool:
        try:
            return super().acquire()
        except RuntimeError as error:
            raise self._refused(error) from error.__context__

    def release(self) -> None:
        try:
            super().release()
        except RuntimeError as error:
            raise self._refused(error) from error.__context__

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _refused(self, error: RuntimeError) -> StoreError:
        reason = getattr(error.__context__, "strerror", None) or error
        what = f"its lock {self._lock_file} cannot be made or removed ({reason})"
        return StoreError(f"{self.path}: {what}; check the folder's rights and space")


class Journal(JournalFileBackend):
    """A journal that says which file the disk refused."""

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, Lock(path)
        with refusals(path):
            super().__init__(str(path), lock_obj=self.lock)

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        with refusals(self.path, problem="cannot be read"):
            yield from super().read_logs(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with refusals(self.path):
            super().append_logs(logs)


@contextlib.contextmanager
def uncovered() -> Iterator[None]:
    """Raises the disk's refusal where Optuna has put an assertion of its own before it."""
    try:
        yield
    except AssertionError as error:
        hidden: BaseException | None = error.__context__
        while hidden is not None and not isinstance(hidden, StoreError):
            hidden = hidden.__context__
        if hidden is None:
            raise
        raise hidden from hidden.__cause__
