"""Work that overlaps with its caller's: the one pool of threads for reading, decoding and writing.

What is slow outside Python (files, zstd, zlib) runs here while the caller does something else:
reading ahead is a task over what will be needed next, writing behind a task over what comes out.
Results come in the order of the items, so nothing shows which thread was first. Nobody polls: who
waits sleeps until a result is there. Compiled loops have a pool of their own (kernels.native.pool).
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_THREADS = 32
SOME = 2  # label maps that are read, or written, beside the one that is worked on
_pool: ThreadPoolExecutor | None = None
_lock = threading.Lock()
_here = threading.local()  # .worker is True on the pool's own threads


def threads() -> int:
    """Threads of the pool: the cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(allowed(0)) if allowed else os.cpu_count() or 1
    return min(MOST_THREADS, cores)


def overlapped(
    task: Callable[[Item], Result], items: Iterable[Item], depth: int
) -> Generator[Result]:
    """task(item) of every item, in order; some are worked on before their result is asked for.

    Args:
        task: runs in threads, several items at once.
        items: taken one at a time, in the caller's thread, as results are asked for.
        depth: how many are under way, or done and waiting, beside the one that is asked for; 0
            for none: then the task runs in the caller's thread.

    Yields:
        The results. An error of a task or of `items` comes out where its result would have, as it
        was raised; what was not begun by then is never run. So it is where the caller stops early
        (close the generator, or leave it to be collected), or is interrupted: what runs is waited
        for, so that nothing is written or read once it is over.
    """
    if depth < 1 or getattr(_here, "worker", False):  # whose threads may all wait for it
        for item in items:
            yield task(item)
        return
    begun: deque[Future[Result]] = deque()
    failed: list[Exception] = []
    try:
        for item in _until_error(items, failed):
            begun.append(_threads().submit(task, item))
            if len(begun) > depth:
                begun[0].exception()  # waits; still in the queue should an interrupt come
                yield begun.popleft().result()
        while begun:
            begun[0].exception()
            yield begun.popleft().result()
        if failed:
            raise failed[0]
    finally:
        for future in begun:
            future.cancel()
        wait(begun)


def drained(task: Callable[[Item], object], items: Iterable[Item], depth: int) -> None:
    """The same for tasks that give nothing back: all are done when it returns."""
    for _ in overlapped(task, items, depth):
        pass


def _until_error(items: Iterable[Item], failed: list[Exception]) -> Iterator[Item]:
    """The items before one that fails; its error goes into `failed`."""
    try:
        yield from items
    except Exception as error:
        failed.append(error)


def _threads() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = _started(threads())
        return _pool


def _started(number: int) -> ThreadPoolExecutor:
    """A pool whose threads all run already.

    An interrupt in the middle of starting one would leave a thread that the end of the process
    waits for and nobody ends. Interrupts come to the main thread only, so another one starts them.
    """
    pool, meet = (
        ThreadPoolExecutor(number, "fusion-overlap", _mark_worker),
        threading.Barrier(number),
    )

    def start() -> None:
        try:
            for _ in range(number):
                pool.submit(meet.wait)
        except RuntimeError:  # the interpreter is ending: those that began wait for nobody
            meet.abort()

    starter = threading.Thread(target=start, name="fusion-overlap-start")
    starter.start()
    starter.join()
    return pool


def _mark_worker() -> None:
    _here.worker = True


def _forget() -> None:
    global _pool, _lock
    _pool, _lock = None, threading.Lock()
    _here.worker = False  # the child's only thread, even where a worker forked


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget)
