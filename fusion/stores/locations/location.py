"""Where the bytes of a store live: one object of one protocol, the rest of stores/ asks no more.

A location is an address, as a path is: `root / "v" / "zarr.json"`, `name`, `parent`, and its text
is what errors say. A kind is a file beside this one and a line in `LOCATIONS`. What they promise:

    document()      a small file, whole
    open()          a large one: its size, and any range of its bytes
    create(data)    a file that appears whole, unless something is there
    publish(draft)  a folder that appears whole, unless something is there; of two the first wins
    replace(draft)  the same in the place of something else; the last wins

A folder exists once its commit.json does, which is the last of its files that appears.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, Self


class File(Protocol):
    """An open file.

    Attributes:
        size: in bytes.
    """

    @property
    def size(self) -> int: ...

    def read(self, offset: int, length: int) -> bytes:
        """A range of its bytes, shorter where the file ends before it.

        Raises:
            OSError: of the disk; the caller says whose bytes they are.
            StoreError: of another machine; it names the place.
        """
        ...


class Location(ABC):
    """An address at which a store, a folder of it or a file lies; equal where the address is."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The last part of the address."""

    @property
    @abstractmethod
    def parent(self) -> Self:
        """Where this lies in."""

    @abstractmethod
    def __truediv__(self, name: str) -> Self:
        """What lies in this by a name, or by several with slashes between them."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """Equal for two addresses of one place, from whichever folder they are seen."""

    @abstractmethod
    def seen_from(self, folder: Path) -> str:
        """The address that a file in this folder of the disk gives."""

    @property
    @abstractmethod
    def folder(self) -> Path:
        """The same as a folder of the disk; InputError where it is none."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels to other processes as its address; connections are made anew there."""
        from fusion.stores.locations import location_of

        return location_of, (str(self),)

    # --- reading

    @abstractmethod
    def document(self) -> bytes:
        """A metadata file, whole: a plain file of at most 16 MiB; links are refused.

        Raises:
            CorruptStoreError: longer, or no plain file.
            StoreError: missing, or it cannot be read.
        """

    @abstractmethod
    def exists(self) -> bool:
        """Whether a file is there."""

    @abstractmethod
    def taken(self) -> bool:
        """Whether a folder is there, whole or damaged."""

    @abstractmethod
    def missing(self) -> str | None:
        """None where a store could be; else a hint at what was meant."""

    @abstractmethod
    def is_link(self) -> bool: ...

    @abstractmethod
    def folders(self, prefix: str = "") -> list[str]:
        """Names of the folders with a commit.json, the only ones that exist for a reader.

        prefix: of those that are looked at.
        """

    def headless(self) -> list[str]:
        """Names of folders with a zarr.json or shards and without a commit.json, where that is
        damage: no writer leaves one, half a copy or a hasty hand does."""
        return []

    @abstractmethod
    def matching(self) -> list[str]:
        """Addresses that are meant where this one has wildcards, in order."""

    @abstractmethod
    def state(self, *, now: bool = False) -> Hashable:
        """Something that is another whenever a folder has come or gone.

        now: not as it was a moment ago, which is what servers may say.
        """

    @abstractmethod
    def total(self) -> int:
        """Bytes of everything that is committed here."""

    @abstractmethod
    def open(self) -> File:
        """A file; OSError or StoreError where it cannot be opened."""

    @abstractmethod
    def gather(self, folders: Sequence[str]) -> None:
        """Folders of which both documents are about to be read; a hint."""

    @abstractmethod
    def expects(self, names: Sequence[str]) -> None:
        """Files below this in the order in which they will mostly be read; a hint, no promise."""

    def needed(self, names: Sequence[str]) -> int:
        """Bytes that reading files below this in order holds; none where the system reads ahead."""
        return 0

    # --- writing

    @abstractmethod
    def create(self, data: bytes) -> bool:
        """A file with this content; False where one is there, which stays."""

    @abstractmethod
    def staged(self) -> AbstractContextManager[Path]:
        """A fresh folder of the disk in which a draft is made, removed when the block ends."""

    def draft_name(self) -> str:
        """The folder below a video's in which its files go; "" where folders appear by rename."""
        return ""

    @abstractmethod
    def publish(self, draft: Path, inside: str = "", *, durable: bool = True) -> bool:
        """Makes a staged folder visible here; False where something is there, which stays.

        Args:
            draft: the folder, complete with its commit.json.
            inside: what `draft_name` gave, as its commit.json says.
            durable: whether to wait for the disk; servers answer when they have it.
        """

    @abstractmethod
    def replace(self, draft: Path, inside: str = "", *, durable: bool = True) -> None:
        """The same in the place of whatever is here, which is then removed."""

    @abstractmethod
    def locked(self) -> AbstractContextManager[None]:
        """Waits until this process alone writes packs; where nothing locks, nobody waits."""

    @abstractmethod
    def sweep(self, *, age: float, dry_run: bool) -> list[tuple[str, int]]:
        """Removes what dead writers left; names and bytes."""
