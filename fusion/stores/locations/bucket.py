"""Requests to one server: translated errors, measured latency, and few of them at a time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from fusion.errors import StoreError
from fusion.stores.documents import MAX_METADATA_BYTES, damaged
from fusion.stores.locations.refusals import refusal

CONNECTIONS = 64  # of a process, all servers together
SMALL = 64 << 10  # bytes whose transfer takes no time beside the latency
UNKNOWN = 0.02  # seconds of latency, before the first answer
# who gives an endpoint of http:// means it; all others are https
CLIENT: Any = {"timeout": "60s", "connect_timeout": "5s", "allow_http": True}
RETRIES: Any = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=3),
        "base": 2,
    },
}

_LOCK = threading.Lock()
_POOL: ThreadPoolExecutor | None = None
_ASKED = False  # a server, by this process
_FORKED = False  # from a process that had asked one: obstore's threads are not here


def _child() -> None:
    global _POOL, _LOCK, _FORKED
    _POOL, _LOCK, _FORKED = None, threading.Lock(), _FORKED or _ASKED


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_child)


def pool() -> ThreadPoolExecutor:
    """The threads that wait for servers."""
    global _POOL
    with _LOCK:
        if _POOL is None:
            _POOL = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="segfusion-remote")
        return _POOL


class Bucket:
    """What all addresses of one server, or of one bucket, share.

    Args:
        store: obstore's.
        keys: how credentials are given, for errors.
        local: whether no server is asked.

    Attributes:
        latency: the least time in seconds that a small answer has taken.
    """

    def __init__(self, store: Any, keys: str, *, local: bool = False) -> None:
        self.store, self.keys, self.local = store, keys, local
        self.latency = 0.0 if local else UNKNOWN
        self._measured = False

    def ask(
        self,
        where: str,
        call: Callable[..., Any],
        *arguments: Any,
        writing: bool = False,
        **options: Any,
    ) -> Any:
        """What a function of obstore gives for this store; its errors in our words.

        Args:
            where: the address, for errors.
            call: takes the store first.
            arguments: of the call, after the store.
            writing: whether something is to be written.
            options: of the call.

        Raises:
            MissingError: nothing is there.
            StoreError: the server refuses, or cannot be reached.
        """
        global _ASKED
        if _FORKED and not self.local:
            what = "this process was forked from one that had read a remote store"
            do = "start processes by spawn or forkserver, or read remote stores in them only"
            raise StoreError(f"{where}: cannot be read, {what}; {do}")
        _ASKED = _ASKED or not self.local
        try:
            return call(self.store, *arguments, **options)
        except Exception as error:
            # not chained: obstore's text may hold signatures
            raise refusal(error, where, self.keys, writing=writing) from None

    def document(self, where: str, key: str) -> bytes:
        """A small file, whole."""
        import obstore

        def whole(store: Any) -> bytes:
            found = obstore.get(store, key)
            size = found.meta["size"]
            if size > MAX_METADATA_BYTES:
                raise damaged(where, f"{size} bytes", f"metadata stays below {MAX_METADATA_BYTES}")
            return bytes(found.bytes())

        return bytes(self._timed(where, whole))

    def range(self, where: str, key: str, start: int, end: int) -> memoryview:
        """Bytes of a file from `start` to before `end`."""
        import obstore

        def part(store: Any) -> memoryview:
            return memoryview(obstore.get_range(store, key, start=start, end=end))

        return memoryview(self._timed(where, part))

    def later(self, call: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """The same by a thread of the pool; at once where no server is asked."""
        if not self.local:
            return pool().submit(call, *arguments)
        done: Future[Any] = Future()
        try:
            done.set_result(call(*arguments))
        except StoreError as error:
            done.set_exception(error)
        return done

    def _timed(self, where: str, call: Callable[[Any], Any]) -> Any:
        began = time.perf_counter()
        found = self.ask(where, call)
        took = time.perf_counter() - began
        if len(found) <= SMALL and not self.local:
            self.latency = min(self.latency, took) if self._measured else took
            self._measured = True
        return found
