"""Ctrl-C and SIGTERM at random moments: one line, exit code, terminal as before, nothing half."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from fusion import interrupts
from fusion.stores.maintenance import gc
from tests.faults.children import COMMANDS, ROOT, Ended, Stop, moments
from tests.faults.works import WORKS, leftovers

MOST_LEFT = 8  # drafts and scratch files that the threads of a process were at
TERMINATED = {"SIGINT": (130, "stopped"), "SIGTERM": (143, "terminated")}
ONLY = {"write", "pack", "overwrite", "build"}  # scripts: Python's own KeyboardInterrupt is theirs
ALL = [name for name in WORKS if name not in ONLY]
SHORT = ("import", "grid", "png", "evaluate", "network")
STARTS = [*COMMANDS, "fusion", "fusion.models.statistics"]


def interrupted(stage, work, count: int, seed: int, kind: str = "SIGINT") -> int:
    """Stops a work at so many moments and runs it again; how many of the stops came in time."""
    clean, seconds = stage.clean(work)
    hits = 0
    for number, moment in enumerate(moments(count, 1.1 * seconds, seed)):
        work.prepare(stage.out)
        group = kind == "SIGINT"  # as a terminal sends it
        ended = stage.run(work, Stop(kind, moment, everyone=group), terminal=number % 2 == 1)
        hits += ended.code != 0
        check_stopped(ended, kind)
        # one that comes while something is tidied away leaves it, where nobody reads, to a sweep
        assert len(leftovers(stage.out.parent)) <= MOST_LEFT, ended
        before = work.unit_files(stage.out)
        for name, digest in work.tree(stage.out).items():
            assert name not in before or clean[name] == digest, name
        ended = stage.run(work, more=work.again)
        assert ended.code == 0, (moment, ended)
        after = work.unit_files(stage.out)
        assert {name: after.get(name) for name in before} == before, moment
        assert work.tree(stage.out) == clean, moment
        if (stage.out / "zarr.json").exists():
            gc(stage.out, age=0)
        left = [name for name in leftovers(stage.out.parent) if not name.endswith(".tmp")]
        assert left == [], moment
    return hits


def check_stopped(ended: Ended, kind: str) -> None:
    code, word = TERMINATED[kind]
    assert not ended.hung, ended
    assert ended.left == [], ended
    assert ended.restored, ended
    assert ended.code in (0, code), ended
    assert "Traceback" not in ended.err, ended
    assert "Exception ignored" not in ended.err, ended
    said = ended.err.replace("\r\n", "\n").split("\n")
    if ended.code:
        assert sum(f"{word};" in line for line in said) == 1, ended
        assert said[-2].startswith(f"{word}; what was committed stays"), ended


@pytest.mark.parametrize("kind", TERMINATED)
@pytest.mark.parametrize("name", SHORT)
def test_stopped_once_or_twice(stage, name, kind):
    interrupted(stage, WORKS[name], 1 if kind == "SIGTERM" else 2, len(name), kind)


@pytest.mark.parametrize("kind", TERMINATED)
def test_one_that_comes_in_a_destructor_is_raised_again(kind):
    class Last:
        def __del__(self):
            signal.raise_signal(signal.Signals[kind])

    @interrupts.raised()
    def work():
        last = Last()
        del last
        time.sleep(60)

    # a job in the background of a script ignores Ctrl-C
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    hook, began = sys.unraisablehook, time.monotonic()
    try:
        with pytest.raises(interrupts.Interrupt, match=TERMINATED[kind][1]):
            work()
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 50  # it woke what waited
    assert sys.unraisablehook is hook


@pytest.mark.slow
@pytest.mark.parametrize("kind", TERMINATED)
@pytest.mark.parametrize("name", ALL)
def test_stopped_at_many_moments(stage, name, kind):
    count = 50 if kind == "SIGINT" else 10
    hits = interrupted(stage, WORKS[name], count, 1, kind)
    print(f"\n{name}: {count} times {kind}, {hits} before the end")
    assert hits


def test_a_second_time_while_it_unwinds(stage):
    """Impatient people: whatever the second one finds, the process ends, and soon."""
    work = WORKS["grid"]
    clean, seconds = stage.clean(work)
    work.prepare(stage.out)
    stops = [Stop("SIGINT", seconds / 2, everyone=True, again=0.005)]
    (ended,) = stage.nursery.together([work.job(stage.data, stage.out)], stops)
    check_stopped(ended, "SIGINT")
    assert stage.run(work).code == 0
    assert work.tree(stage.out) == clean


def start_and_stop(module: str, moment: float) -> None:
    """Ctrl-C while Python imports: nothing has been begun."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def at_start() -> None:  # a job of a script would ignore it
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, "-m", module, "--help"]
    with subprocess.Popen(command, env=environment, preexec_fn=at_start, **pipes) as child:
        time.sleep(moment)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    if "fusion" not in err and child.returncode == -signal.SIGINT:
        return  # before anything of this library: Python's own words
    assert "Traceback" not in err, err
    assert child.returncode in (0, 130), err
    assert err == "" if child.returncode == 0 else err.startswith("stopped; "), err
    assert (child.returncode == 0) == out.startswith("usage: ")


def test_stopped_while_python_imports():
    start_and_stop("fusion.predict", 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("module", STARTS)
def test_stopped_anywhere_while_python_imports(module):
    draw = random.Random(module)
    for _ in range(50):
        start_and_stop(module, 3 * draw.random() ** 2)
