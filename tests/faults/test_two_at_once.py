"""Two of the same at once, in a fresh folder: both end well, or one says why; nothing is mixed."""

from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest

from fusion.stores import LogitStore, LogitWriter
from fusion.stores.maintenance import gc, verify
from tests.faults.works import FRAMES, VIDEOS, WORKS, clip, leftovers, write_store
from tests.samples import CLASSES

BOTH = ("write", "pack", "import", "grid", "exact", "sqlite", "journal")
BOTH += ("train", "network", "build")
RIVALS = ("png", "npy", "store", "zip")  # which are told to replace nothing


def two(stage, name: str, number: int = 2) -> None:
    work = WORKS[name]
    clean, _ = stage.clean(work)
    work.prepare(stage.out)
    job = work.job(stage.data, stage.out)
    ended = stage.nursery.together([job] * number)
    for each in ended:
        assert "Traceback" not in each.err, each
        assert not each.hung, each
        # of those that may replace nothing the later one finds files that it did not write
        assert each.code == 0 or (name in RIVALS and "exists" in each.err), each
    if any(each.code for each in ended):
        assert stage.run(work, more=work.again).code == 0
    assert work.tree(stage.out) == clean
    if (stage.out / "zarr.json").exists():
        gc(stage.out, age=0)
        assert all(verdict.problem is None for verdict in verify(stage.out))
    assert leftovers(stage.out.parent) == []


@pytest.mark.parametrize("name", ["write", "grid", "sqlite", "png"])
def test_two_at_once(stage, name):
    two(stage, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*BOTH, *RIVALS])
def test_two_at_once_again_and_again(stage, name):
    for number in (2,) * 20 + (4,) * 3:
        two(stage, name, number)


def gc_beside_writers(stage, rounds: int) -> None:
    """`gc --age 0` takes no living writer's staging, whatever the clock says."""
    clean, _ = stage.clean(WORKS["write"])
    for number in range(rounds):
        WORKS["write"].prepare(stage.out)
        LogitWriter(stage.out, CLASSES)
        sweep = WORKS["gc"].job(stage.data, stage.out)
        write = WORKS["write" if number % 2 else "pack"].job(stage.data, stage.out)
        for each in stage.nursery.together([write, write, *[sweep] * 4]):
            assert each.code == 0, each
        assert len(LogitStore(stage.out).videos) == VIDEOS
        assert number % 2 == 0 or WORKS["write"].tree(stage.out) == clean


def test_gc_beside_writers(stage):
    gc_beside_writers(stage, 2)


@pytest.mark.slow
def test_gc_beside_writers_again_and_again(stage):
    gc_beside_writers(stage, 100)


def test_a_reader_sees_nothing_or_all(tmp_path):
    path, done = tmp_path / "s.zarr", threading.Event()
    LogitWriter(path, CLASSES)
    seen, wrong = set(), []

    def read() -> None:
        while not done.is_set():
            store = LogitStore(path)
            for video in store.videos:
                number = int(video[1:])
                seen.add((video, len(store.frames(video))))
                codes = store.read(video, ["0"])
                if not np.array_equal(codes, known[number]):
                    wrong.append(video)

    write_store(tmp_path / "whole.zarr")
    whole = LogitStore(tmp_path / "whole.zarr")
    known = [whole.read(f"v{video}", ["0"]) for video in range(VIDEOS)]
    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(3):
        write_store(path, overwrite=True)
    done.set()
    reader.join()
    assert wrong == []
    assert {frames for _, frames in seen} <= {FRAMES}
    assert seen


# --- clocks


DAYS = 86400


@pytest.mark.parametrize("moved", [-400 * DAYS, 400 * DAYS, 0])
@pytest.mark.parametrize("name", ["grid", "png"])
def test_a_clock_that_moved(stage, name, moved):
    """Files of the past, of the future, or all of one moment are what they hold."""
    work = WORKS[name]
    clean, _ = stage.clean(work)
    work.prepare(stage.out)
    assert stage.run(work).code == 0
    now = time.time()
    for path in sorted(stage.out.rglob("*")):
        os.utime(path, (now + moved, now + moved))
    units = work.unit_files(stage.out)
    assert stage.run(work, more=work.again).code == 0
    assert work.tree(stage.out) == clean
    assert work.unit_files(stage.out) == units


@pytest.mark.parametrize("moved", [-400 * DAYS, 400 * DAYS])
def test_gc_goes_by_owners_and_not_by_the_clock(stage, moved):
    work = WORKS["gc"]
    work.prepare(stage.out)
    writer = LogitWriter(stage.out, CLASSES)
    with writer.video("new", frames=["0"]) as out:
        out.append(clip(0, 0)[0])
        for path in (stage.out / ".staging").iterdir():
            os.utime(path, (time.time() + moved,) * 2)
        assert stage.run(work).code == 0
    assert "new" in LogitStore(stage.out).videos
    assert leftovers(stage.out) == []
