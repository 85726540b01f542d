"""One pool of threads for all compiled loops and all their callers, so that none crowds another.

The compiled functions release the interpreter lock. A thread of the pool never waits for the pool:
work that starts more work does it itself. A forked child makes its own pool.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")

_pool: ThreadPoolExecutor | None = None
_size = 0
_here = threading.local()  # .worker is True on the pool's own threads


def workers() -> int:
    """Threads of the pool: torch's setting, `torch.set_num_threads`; 1 for who works alone."""
    return 1 if getattr(_here, "worker", False) else torch.get_num_threads()


@contextmanager
def alone() -> Iterator[None]:
    """Within it this thread does its compiled work itself: others have work of their own."""
    before = getattr(_here, "worker", False)
    _here.worker = True
    try:
        yield
    finally:
        _here.worker = before


def in_threads(task: Callable[..., Result], jobs: Sequence[tuple[Any, ...]]) -> list[Result]:
    """task(*job) for every job, in order of jobs; the first error in that order is raised."""
    global _pool, _size
    threads = workers()
    if threads == 1 or len(jobs) < 2:
        return [task(*job) for job in jobs]
    if _pool is None or _size != threads:
        _pool, _size = ThreadPoolExecutor(threads, "fusion", _mark_worker), threads
    return list(_pool.map(lambda job: task(*job), jobs))


def run_ranges(task: Callable[[int, int], Result], length: int, step: int) -> list[Result]:
    """task(start, stop) over 0..length in ranges of a multiple of `step`, about four per thread."""
    span = max(step, -(-length // (4 * workers() * step)) * step)
    return in_threads(task, [(s, min(s + span, length)) for s in range(0, length, span)])


def _mark_worker() -> None:
    _here.worker = True


def _forget() -> None:
    global _pool
    _pool = None
    _here.worker = False  # the child's only thread, even where a worker forked


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget)
