"""overlapped: the results of a plain loop, never more under way than said, and a clean end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion import overlap
from fusion.errors import StoreError
from fusion.overlap import drained, overlapped

ROOT = Path(__file__).parents[1]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(), max_size=12), st.integers(0, 5))
def test_the_results_of_a_loop_in_its_order(items, depth):
    assert list(overlapped(lambda item: item + 1, items, depth)) == [item + 1 for item in items]


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_never_more_is_taken_than_the_depth_allows(depth):
    taken = []
    results = overlapped(lambda item: item, (taken.append(k) or k for k in range(20)), depth)
    for seen, _ in enumerate(results, start=1):
        assert len(taken) <= seen + depth
    assert taken == list(range(20))


def test_the_next_are_worked_on_while_the_caller_is_busy():
    done = threading.Event()

    def task(item):
        if item == 1:
            done.set()
        return item

    results = overlapped(task, [0, 1], depth=1)
    assert next(results) == 0
    assert done.wait(timeout=30)  # nobody has asked for it yet
    assert list(results) == [1]


def test_an_error_comes_in_its_turn_as_it_was_raised():
    def damaged(item):
        if item == 2:
            raise StoreError("chunk 2 is gone")
        return item

    begun = []
    items = (begun.append(k) or k for k in range(100))
    seen = []
    with pytest.raises(StoreError, match="chunk 2 is gone") as caught:
        seen.extend(overlapped(damaged, items, depth=3))
    assert len(begun) <= 6
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[-1] == "damaged"  # where it happened, in another thread
    with pytest.raises(StoreError):
        drained(damaged, range(4), depth=9)


def test_an_error_of_the_items_is_the_callers_too():
    def items():
        yield 1
        raise StoreError("no more")

    finished = []
    with pytest.raises(StoreError, match="no more"):
        drained(finished.append, items(), depth=4)
    assert finished == [1]  # what was begun is over when the error arrives


def test_closed_early_nothing_more_runs():
    release, ran = threading.Event(), []

    def task(item):
        if item:
            release.wait(timeout=30)
        ran.append(item)
        return item

    depth = 3 * overlap.threads()
    results = overlapped(task, range(1000), depth)
    assert next(results) == 0
    threading.Timer(0.05, release.set).start()
    results.close()  # waits for those that run, drops those that wait
    after = list(ran)
    assert len(after) <= overlap.threads() + 1
    assert list(overlapped(str, [5], depth=1)) == ["5"]  # the pool serves others
    assert ran == after


def test_a_task_that_overlaps_itself_does_not_wait_for_its_own_threads():
    def outer(item):
        return sum(overlapped(abs, [item] * 3, depth=2))

    number = 4 * overlap.threads()
    assert list(overlapped(outer, range(number), number)) == [3 * k for k in range(number)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_threads_of_its_own():
    assert list(overlapped(abs, [-1, -2], depth=1)) == [1, 2]
    child = os.fork()
    if child == 0:
        os._exit(0 if list(overlapped(abs, [-3, -4], depth=1)) == [3, 4] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_process_at_once(kind, tmp_path):
    text = """
        import signal, sys, time
        from pathlib import Path
        from fusion import cli
        from fusion.overlap import drained

        def task(item):
            time.sleep(0.02)
            Path(sys.argv[1], str(item)).touch()

        def main(_):
            print("ready", flush=True)
            drained(task, range(10**6), depth=64)

        signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by jobs of a script
        sys.exit(cli.run(main))
    """
    command = [sys.executable, "-c", textwrap.dedent(text), str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(kind)
        _, said = process.communicate(timeout=30)
    assert process.returncode == (130 if kind == signal.SIGINT else 143)
    assert "Traceback" not in said
    assert "run the same command to go on" in said


def test_a_pool_that_is_started_while_its_process_ends(monkeypatch):
    submit, asked = ThreadPoolExecutor.submit, []

    def ending(pool, *given):
        asked.append(given)
        if len(asked) > 1:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")
        return submit(pool, *given)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", ending)
    overlap._started(3).shutdown()  # returns: the one that began waits for nobody
    assert len(asked) == 2
