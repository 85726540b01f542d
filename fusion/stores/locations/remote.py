"""Stores on object stores: what s3, gcs, azure, http and memory have in common.

No object store renames. A video's files are put below a random name that nobody else uses, and
appear by the one put of its commit.json, which says the name: where the server can, put only if
none is there, so that of two writers one wins. Packs are called by their content, so equal names
are equal bytes.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import importlib
import secrets
import tempfile
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Self

from fusion import files
from fusion.errors import CorruptStoreError, InputError, StoreError
from fusion.stores.documents import COMMIT, METADATA, parse_json
from fusion.stores.locations.ahead import Reading, Stream
from fusion.stores.locations.bucket import CLIENT, RETRIES, Bucket
from fusion.stores.locations.location import Location
from fusion.stores.locations.refusals import (
    MissingError,
    TakenError,
    UnsupportedError,
    needs_obstore,
)
from fusion.text import closest

RECENT = 2.0  # seconds for which a writer believes what it saw; the put of a commit decides
_BUCKETS: dict[str, Bucket] = {}  # of this process, by address


class Seen:
    """What is known of one store: its listing, documents under way, how its files are read."""

    def __init__(self, bucket: Bucket, where: str) -> None:
        self.bucket = bucket
        self.documents: dict[str, Future[bytes]] = {}
        self.listing: Future[dict[str, int]] | None = None
        self.recent: tuple[str, float, frozenset[str]] | None = None  # key, when, its folders

        def fetch(key: str, start: int, end: int) -> Future[memoryview]:
            return bucket.later(bucket.range, f"{where}/{key}", key, start, end)

        self.reading = Reading(fetch, lambda: bucket.latency)


class Remote(Location):
    """An address on an object store.

    Args:
        base: the URL of the bucket or server.
        key: the address below it, "" for itself.
        seen: what is known of the store that it is part of.
    """

    schemes: ClassVar[tuple[str, ...]]
    about: ClassVar[str]
    client: ClassVar[str]  # obstore's class, which reads its settings from the environment
    keys: ClassVar[str]  # how credentials are given, for errors
    local: ClassVar[bool] = False  # whether no server is asked

    def __init__(self, base: str, key: str, seen: Seen) -> None:
        self._base, self._key, self._seen = base, key, seen

    @classmethod
    def of_url(cls, scheme: str, rest: str) -> Self:
        """What a URL names; InputError where it holds credentials or names no bucket."""
        netloc, _, key = rest.partition("/")
        host = netloc.rpartition("@")[2]
        base = f"{scheme}://{host}"
        if "@" in netloc or "?" in rest or "#" in rest:
            what = "holds more than host and path, which would be shown and saved"
            raise InputError(f"{base}: the URL {what}; {cls.keys}")
        parts = [part for part in key.split("/") if part]
        if not host or ".." in parts or "." in parts:
            do = f"give {scheme}://BUCKET/PATH"
            raise InputError(f"{base}: the URL names no bucket or goes up by '..'; {do}")
        if base not in _BUCKETS:
            try:
                _BUCKETS[base] = Bucket(cls.connect(base, host), cls.keys, local=cls.local)
            except ImportError:
                raise needs_obstore(base) from None
            except Exception as error:  # settings of the environment that obstore cannot read
                what = f"cannot be set up ({type(error).__name__})"
                raise InputError(f"{base}: {what}; {cls.keys}") from None
        return cls(base, "/".join(parts), Seen(_BUCKETS[base], base))

    @classmethod
    def connect(cls, base: str, host: str) -> Any:
        """Obstore's store for a bucket."""
        store = importlib.import_module("obstore.store")
        return getattr(store, cls.client)(host, client_options=CLIENT, retry_config=RETRIES)

    # --- the address

    def __str__(self) -> str:
        return f"{self._base}/{self._key}" if self._key else self._base

    @property
    def name(self) -> str:
        return self._key.rpartition("/")[2] or self._base.rpartition("/")[2]

    @property
    def parent(self) -> Self:
        return type(self)(self._base, self._key.rpartition("/")[0], self._seen)

    def __truediv__(self, name: str) -> Self:
        return type(self)(self._base, f"{self._key}/{name}".strip("/"), self._seen)

    @property
    def identity(self) -> str:
        return str(self)

    def seen_from(self, folder: Path) -> str:
        return str(self)

    @property
    def folder(self) -> Path:
        do = "give a folder of this machine"
        raise InputError(f"{self}: lies on a server, not in a folder; {do}")

    # --- reading

    def document(self) -> bytes:
        bucket, under_way = self._seen.bucket, self._seen.documents.pop(self._key, None)
        if under_way is not None:
            return under_way.result()
        return bucket.document(str(self), self._key)

    def exists(self) -> bool:
        import obstore

        try:
            self._ask(obstore.head, self._key)
        except MissingError:
            return False
        return True

    def taken(self) -> bool:
        return self.name in self.parent._recent()

    def missing(self) -> str | None:
        there = self / METADATA
        self._seen.listing = self._seen.bucket.later(self._list)  # while that is on its way
        try:
            document = there.document()
        except MissingError:
            self._seen.listing = None
            with contextlib.suppress(StoreError):
                close = closest(self.name, self.parent._entries())
                return f" (did you mean {close!r}?)" if close else ""
            return ""
        self._seen.documents[there._key] = done(document)
        return None

    def is_link(self) -> bool:
        return False

    def folders(self, prefix: str = "") -> list[str]:
        names = self._listing()
        ours = (name for name in names if name.startswith(prefix) and name.count("/") == 1)
        found = {name.split("/")[0] for name in ours}
        return sorted(folder for folder in found if f"{folder}/{COMMIT}" in names)

    def gather(self, folders: Sequence[str]) -> None:
        bucket, wanted = self._seen.bucket, set(folders)
        prefix = f"{self._key}/" if self._key else ""
        for key in list(self._seen.reading.sizes):
            folder, _, rest = key.removeprefix(prefix).partition("/")
            if folder in wanted and rest.rpartition("/")[2] in (COMMIT, METADATA):
                where = f"{self._base}/{key}"
                self._seen.documents[key] = bucket.later(bucket.document, where, key)

    def matching(self) -> list[str]:
        if not glob.has_magic(self._key):
            return [str(self)]
        if glob.has_magic(str(self.parent)):
            raise InputError(f"{self}: wildcards stand above the last part; give s3://b/cache/*")
        names = sorted(fnmatch.filter(self.parent._entries(), self.name))
        return [str(self.parent / name) for name in names]

    def state(self, *, now: bool = False) -> Hashable:
        if now:
            self._seen.recent = None
        return self._recent()

    def _recent(self) -> frozenset[str]:
        """The folders, as they were a moment ago: thousands of videos are asked for one by one."""
        known, now = self._seen.recent, time.monotonic()
        if known is None or known[0] != self._key or now - known[1] > RECENT:
            known = self._seen.recent = self._key, now, frozenset(self.folders())
        return known[2]

    def total(self) -> int:
        return sum(self._listing().values())

    def open(self) -> Stream:
        reading = self._seen.reading
        if self._key not in reading.sizes:
            import obstore

            reading.sizes[self._key] = int(self._ask(obstore.head, self._key)["size"])
        if not reading.sizes[self._key]:
            raise CorruptStoreError(f"{self}: is empty; write the video again")
        return reading.open(self._key)

    def expects(self, names: Sequence[str]) -> None:
        self._seen.reading.expects([(self / name)._key for name in names])

    def needed(self, names: Sequence[str]) -> int:
        return self._seen.reading.needed([(self / name)._key for name in names])

    def _listing(self) -> dict[str, int]:
        """Bytes of every file below this, by its name from here."""
        under_way, self._seen.listing = self._seen.listing, None
        return self._list() if under_way is None else under_way.result()

    def _list(self) -> dict[str, int]:
        import obstore

        def whole(store: Any) -> list[Any]:
            return list(obstore.list(store, self._key or None, chunk_size=1000).collect())

        found = {each["path"]: int(each["size"]) for each in self._ask(whole)}
        self._seen.reading.sizes.update(found)
        return {key[len(self._key) :].lstrip("/"): size for key, size in found.items()}

    def _entries(self) -> list[str]:
        """Names of what lies in this, folders and files."""
        import obstore

        found = self._ask(obstore.list_with_delimiter, self._key or None)
        paths = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    def _ask(self, call: Any, *arguments: Any, writing: bool = False, **options: Any) -> Any:
        return self._seen.bucket.ask(str(self), call, *arguments, writing=writing, **options)

    # --- writing

    def create(self, data: bytes) -> bool:
        import obstore

        self._seen.recent = None
        try:
            self._ask(obstore.put, self._key, data, mode="create", writing=True)
        except TakenError:
            # a first try whose answer was lost may have been ours
            return self.document() == data
        except UnsupportedError:
            if self.exists():
                return False
            self._put(data)
        return True

    @contextlib.contextmanager
    def staged(self) -> Iterator[Path]:
        place = Path(tempfile.gettempdir())
        with contextlib.ExitStack() as stack:
            with files.refusals(place):
                made = tempfile.TemporaryDirectory(prefix="segfusion-")
                folder = Path(stack.enter_context(made))
            yield folder

    def draft_name(self) -> str:
        return secrets.token_hex(16)

    def publish(self, draft: Path, inside: str = "", *, durable: bool = True) -> bool:
        if self.taken():
            return False
        with self._uploaded(draft, inside) as keep:
            keep.append(True)  # an answer that is lost may have been yes: the sweep looks again
            won = (self / COMMIT).create((draft / COMMIT).read_bytes())
            keep.append(won)
        return won

    def replace(self, draft: Path, inside: str = "", *, durable: bool = True) -> None:
        old = ""
        with contextlib.suppress(StoreError, ValueError):  # damaged: the sweep finds its draft
            commit = self / COMMIT
            old = str(parse_json(commit.document(), commit).get("draft", ""))
        with self._uploaded(draft, inside) as keep:
            keep.append(True)
            (self / COMMIT)._put((draft / COMMIT).read_bytes())
            self._seen.recent = None
        with contextlib.suppress(StoreError):
            if old and old != inside:
                self._remove(name for name in self._listing() if name.startswith(f"{old}/"))

    def locked(self) -> contextlib.AbstractContextManager[None]:
        self._seen.recent = None
        return contextlib.nullcontext()

    def sweep(self, *, age: float, dry_run: bool) -> list[tuple[str, int]]:
        import obstore

        def whole(store: Any) -> list[Any]:
            return list(obstore.list(store, self._key or None, chunk_size=1000).collect())

        named: dict[str, str] = {}
        drafts: dict[str, list[Mapping[str, Any]]] = {}
        for each in self._ask(whole):
            folder, _, rest = each["path"][len(self._key) :].lstrip("/").partition("/")
            draft = rest.partition("/")[0]
            if len(draft) == 32 and "/" in rest:
                drafts.setdefault(f"{folder}/{draft}", []).append(each)
        removed = []
        for name, found in sorted(drafts.items()):
            folder, _, draft = name.partition("/")
            if folder not in named:
                named[folder] = self._named(folder)
            youngest = max(each["last_modified"] for each in found)
            old = abs((datetime.now(UTC) - youngest).total_seconds()) >= age
            if old and named[folder] != draft:
                if not dry_run:
                    self._remove(each["path"][len(self._key) :].lstrip("/") for each in found)
                removed.append((name, sum(int(each["size"]) for each in found)))
        return removed

    def _named(self, folder: str) -> str:
        """The draft that a video's commit.json names; StoreError where it cannot be told."""
        commit = self / folder / COMMIT
        try:
            return str(parse_json(commit.document(), commit).get("draft", ""))
        except MissingError:
            return ""

    @contextlib.contextmanager
    def _uploaded(self, draft: Path, inside: str) -> Iterator[list[bool]]:
        """Puts all files but the commit; takes them back unless the block says that they count."""
        place, keep = (self / inside if inside else self), [False]
        found = [path for path in sorted(draft.rglob("*")) if path.is_file()]
        names = {str(path.relative_to(draft).as_posix()): path for path in found}
        names.pop(COMMIT)
        bucket = self._seen.bucket
        try:
            puts = [bucket.later((place / name)._put, path) for name, path in names.items()]
            for put in puts:
                put.exception()  # all of them are over before anything is taken back
            for put in puts:
                put.result()
            yield keep
        finally:
            if not keep[-1] and inside:
                with contextlib.suppress(StoreError):
                    place._remove(names)

    def _put(self, data: bytes | Path) -> None:
        import obstore

        self._ask(obstore.put, self._key, data, writing=True)

    def _remove(self, names: Any) -> None:
        import obstore

        keys = [(self / name)._key for name in names]
        if keys:
            self._ask(obstore.delete, keys, writing=True)


def done(document: bytes) -> Future[bytes]:
    """An answer that is there already."""
    future: Future[bytes] = Future()
    future.set_result(document)
    return future
