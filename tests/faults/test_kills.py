"""kill -9 at random moments: what was committed stays, and the same command again ends as ever."""

from __future__ import annotations

import random

import pytest

from fusion.parallel import worker_count
from fusion.stores import LogitStore
from fusion.stores.maintenance import gc, verify
from tests.faults.children import Stop, moments
from tests.faults.works import WORKS, leftovers

# of two kills: files that a process was writing, one a thread and a record
MOST_SCRATCH = 2 * (worker_count("threads") + 1)
COUNTS = {"report": 20, "build": 20, "train": 40}  # of what takes seconds
SHORT = ("write", "overwrite", "import", "grid", "sqlite", "journal", "zip", "store", "train")


def killed(stage, work, count: int, seed: int, **how) -> int:
    """Kills a work at so many moments and runs it again; how many of the kills came in time."""
    clean, seconds = stage.clean(work)
    draw, hits = random.Random(seed), 0
    for moment in moments(count, 1.1 * seconds, seed):
        work.prepare(stage.out)
        ended = stage.run(work, Stop("SIGKILL", moment, **how))
        assert ended.code in (-9, 0), (moment, ended)
        assert ended.left == [], (moment, ended)
        hits += ended.code == -9
        whole(work, stage.out, clean)
        again = work.again if stage.out.exists() else ()
        if draw.random() < 0.3:  # the resume is killed as well
            stage.run(work, Stop("SIGKILL", seconds * draw.random(), **how), more=again)
        before = work.unit_files(stage.out)
        ended = stage.run(work, more=again)
        assert ended.code == 0, (moment, ended)
        assert "Traceback" not in ended.err
        after = work.unit_files(stage.out)
        assert {name: after.get(name) for name in before} == before, moment  # none was lost
        assert work.tree(stage.out) == clean, moment
        if (stage.out / "zarr.json").exists():
            gc(stage.out, age=0)
            assert all(verdict.problem is None for verdict in verify(stage.out))
        left = leftovers(stage.out.parent)
        # a scratch file beside others may stay where nothing is written any more
        assert [name for name in left if not name.endswith(".tmp")] == [], moment
        assert len(left) <= MOST_SCRATCH, moment
    return hits


def whole(work, out, clean) -> None:
    """What a killed process left is a part of the clean run's results."""
    names = work.unit_files(out)
    tree = {name: digest for name, digest in work.tree(out).items() if name in names}
    for name, digest in tree.items():
        assert clean[name] == digest, name
    if work.name == "overwrite":
        assert len(LogitStore(out).videos) == 6


@pytest.mark.parametrize("name", SHORT)
def test_killed_once_or_twice(stage, name):
    killed(stage, WORKS[name], 2, seed=len(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKS)
def test_killed_at_many_moments(stage, name, record_property):
    count = COUNTS.get(name, 60)
    hits = killed(stage, WORKS[name], count, seed=1)
    record_property("kills", hits)
    print(f"\n{name}: {count} kills tried, {hits} before the end")
    assert hits
