"""The one pool: order, nesting, errors, forks."""

from __future__ import annotations

import os
import signal
import threading
import warnings

import pytest
import torch

from fusion.kernels.native import pool


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_of_jobs():
    assert pool.in_threads(lambda a, b: a * b, [(k, 2) for k in range(50)]) == list(
        range(0, 100, 2)
    )
    assert pool.in_threads(lambda: 1, []) == []


@pytest.mark.parametrize("length", [0, 1, 63, 64, 65, 1000])
def test_ranges_cover_everything_once(length):
    ranges = pool.run_ranges(lambda start, stop: (start, stop), length, 64)
    covered = [k for start, stop in ranges for k in range(start, stop)]
    assert covered == list(range(length))
    assert all(start % 64 == 0 for start, _ in ranges)


def test_jobs_run_on_the_pool_and_on_no_other_thread():
    names = pool.in_threads(lambda _: threading.current_thread().name, [(k,) for k in range(8)])
    assert all(name.startswith("fusion") for name in names)
    torch.set_num_threads(1)
    here = pool.in_threads(lambda _: threading.current_thread(), [(1,), (2,)])
    assert set(here) == {threading.current_thread()}


def test_a_worker_never_waits_for_the_pool():
    """More nested jobs than threads: they would wait for each other for ever."""

    def outer(_: int) -> bool:
        inside = pool.in_threads(lambda _: threading.current_thread(), [(k,) for k in range(4)])
        return set(inside) == {threading.current_thread()}

    done: list[bool] = []
    worker = threading.Thread(
        target=lambda: done.extend(pool.in_threads(outer, [(k,) for k in range(8)])), daemon=True
    )
    worker.start()
    worker.join(timeout=20)
    assert done == [True] * 8


def test_an_error_reaches_the_caller_and_the_pool_lives_on():
    def task(k: int) -> int:
        if k == 3:
            raise MemoryError("no room")
        return k

    with pytest.raises(MemoryError, match="no room"):
        pool.in_threads(task, [(k,) for k in range(8)])
    assert pool.in_threads(task, [(0,), (1,)]) == [0, 1]


def test_a_forked_child_has_no_threads_to_wait_for():
    both = threading.Barrier(2)  # or one thread may do both jobs, and the other never start
    pool.in_threads(lambda _: both.wait(timeout=20), [(0,), (1,)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's, about forks beside threads
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if pool.in_threads(lambda k: k, [(0,), (1,)]) == [0, 1] else 1)
    assert os.waitpid(child, 0)[1] == 0
