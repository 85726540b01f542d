"""Stores in folders of a file system: appearing by rename, read by plain handles."""

from __future__ import annotations

import glob
import os
import stat
import weakref
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from fusion import files
from fusion.errors import CorruptStoreError, StoreError
from fusion.stores.documents import COMMIT, MAX_METADATA_BYTES, METADATA, damaged
from fusion.stores.locations.location import Location
from fusion.text import closest


class Handle:
    """An open file of the disk; closed with this object.

    It stays readable, whoever renames or removes the file meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self._handle = os.open(path, files.PLAIN)
        weakref.finalize(self, os.close, self._handle)

    @property
    def size(self) -> int:
        return os.fstat(self._handle).st_size

    def read(self, offset: int, length: int) -> bytes:
        # moves no position that threads or forked processes share
        return os.pread(self._handle, length, offset)


class Disk(Location):
    """A path of a file system.

    Args:
        path: as the caller gave it, which is how errors name it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)  # a path, which is made absolute for other machines

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def parent(self) -> Disk:
        return Disk(self.path.parent)

    def __truediv__(self, name: str) -> Disk:
        return Disk(self.path / name)

    @property
    def identity(self) -> str:
        return str(self.path.absolute())

    def seen_from(self, folder: Path) -> str:
        try:
            return Path(os.path.relpath(self.path.resolve(), folder.resolve())).as_posix()
        except ValueError:  # between Windows' drives there is no way
            return self.path.resolve().as_posix()

    @property
    def folder(self) -> Path:
        return self.path

    def document(self) -> bytes:
        path = self.path
        try:
            with files.opened(path, files.PLAIN) as handle:
                status = os.fstat(handle)
                size = status.st_size
                if not stat.S_ISREG(status.st_mode) or size > MAX_METADATA_BYTES:
                    limit = f"metadata stays below {MAX_METADATA_BYTES}"
                    raise damaged(path, f"{size} bytes or not a plain file", limit)
                # to the end, though the size is known: it may grow, and checksums tell
                return b"".join(iter(lambda: os.read(handle, size or 1), b""))
        except CorruptStoreError:
            raise
        except FileNotFoundError as error:
            raise StoreError(f"{path}: missing; give a complete store") from error
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
            raise StoreError(f"{path}: {problem}; links inside a store are refused") from error

    def exists(self) -> bool:
        return os.path.lexists(self.path)

    taken = exists

    def missing(self) -> str | None:
        if self.path.is_dir():
            return None
        try:
            close = closest(self.name, sorted(os.listdir(self.path.parent)))
        except OSError:
            return f" (nor is there a folder {self.path.parent})"
        return f" (did you mean {close!r}?)" if close else ""

    def is_link(self) -> bool:
        return self.path.is_symlink()

    def folders(self, prefix: str = "") -> list[str]:
        names = self._shown(prefix)
        return [name for name in names if os.path.lexists(self.path / name / COMMIT)]

    def headless(self) -> list[str]:
        names = [name for name in self._shown() if not os.path.lexists(self.path / name / COMMIT)]
        return [
            n for n in names if any(os.path.lexists(self.path / n / p) for p in (METADATA, "c"))
        ]

    def _shown(self, prefix: str = "") -> list[str]:
        """What lies in this, but for hidden names."""
        try:
            names = os.listdir(self.path)
        except OSError as error:
            problem = f"cannot be listed ({error.strerror})"
            raise StoreError(f"{self.path}: {problem}; check the folder's rights") from error
        return sorted(n for n in names if n.startswith(prefix) and not n.startswith("."))

    def matching(self) -> list[str]:
        return sorted(glob.glob(str(self.path)))

    def state(self, *, now: bool = False) -> Hashable:
        try:
            return os.stat(self.path).st_mtime_ns
        except OSError as error:
            problem = f"cannot be looked at ({error.strerror})"
            raise StoreError(f"{self.path}: {problem}; check the folder's rights") from error

    def total(self) -> int:
        found = (f for f in self.path.rglob("*") if f.is_file() and files.STAGING not in f.parts)
        return sum(file.stat().st_size for file in found)

    def open(self) -> Handle:
        return Handle(self.path)

    def gather(self, folders: Sequence[str]) -> None:
        """Disks read ahead by themselves."""

    def expects(self, names: Sequence[str]) -> None:
        """As above."""

    def create(self, data: bytes) -> bool:
        root = self.path.parent
        problem = "a store cannot be made here"
        with files.refusals(root, problem=problem), files.staged(root) as folder:
            (folder / self.name).write_bytes(data)
            return files.publish(folder / self.name, self.path)

    def staged(self) -> AbstractContextManager[Path]:
        return files.staged(self.path)

    def publish(self, draft: Path, inside: str = "", *, durable: bool = True) -> bool:
        return files.publish(draft, self.path, durable=durable)

    def replace(self, draft: Path, inside: str = "", *, durable: bool = True) -> None:
        files.replace(draft, self.path, durable=durable)

    def locked(self) -> AbstractContextManager[None]:
        return files.locked(self.path)

    def sweep(self, *, age: float, dry_run: bool) -> list[tuple[str, int]]:
        return files.sweep(self.path, age=age, dry_run=dry_run)
