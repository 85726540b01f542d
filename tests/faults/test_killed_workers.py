"""Dask workers that die in the middle of their work, as `distributed.chaos.KillWorker` draws it.

What is done by video comes to the bits of a run that nobody disturbed, however often a task is run
again; a video that kills whoever takes it is named.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dask
import pytest
from distributed import Client, LocalCluster
from distributed.chaos import KillWorker
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.utils import get_mp_context

import fusion
from fusion.contested.build import condense_ensemble
from fusion.errors import FusionError
from fusion.outputs import write
from fusion.parallel import map_videos
from tests.chores import Dies
from tests.faults.damage import files_of
from tests.faults.outcomes import in_time
from tests.samples import write_sample

LIVES = 2  # of a work that nobody disturbs, which a worker lives on average
LONGEST = 900  # seconds after which a test hangs
FORKED = {"distributed.worker.multiprocessing-method": "forkserver"}
ROOMS = ("cluster", "ensemble", "evaluate", "contested.build", "outputs.run")
HERE = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "protocol": "tcp://"}


class Deaths(SchedulerPlugin):
    """Counts the workers that left."""

    def __init__(self) -> None:
        self.number = 0

    def remove_worker(self, *_: object, **__: object) -> None:
        self.number += 1


def cluster_of(failures: int):
    """A cluster of processes; a task may lose so many workers.

    They are forked from one that has imported everything: starting Python takes seconds, in which
    a worker would die before its first task.
    """
    get_mp_context()  # says what to import, of which it takes no more
    imports = ["distributed", *(f"fusion.{room}" for room in ROOMS)]
    multiprocessing.get_context("forkserver").set_forkserver_preload(imports)
    with dask.config.set({"distributed.scheduler.allowed-failures": failures}):
        return LocalCluster(processes=True, **HERE)


@dataclass(frozen=True)
class World:
    """What there is to do, and what comes of it where nobody dies."""

    ensemble: fusion.HierarchicalEnsemble
    truth: fusion.Labels

    def predict(self, place: Path, scheduler: str) -> object:
        write(self.ensemble, place, scheduler=scheduler)
        return {path.relative_to(place): path.read_bytes() for path in files_of(place)}

    def store(self, place: Path, scheduler: str) -> object:
        write(self.ensemble, place, "store", scheduler=scheduler)
        found = fusion.LogitStore(place)
        return [(video, found.codes(video).tobytes()) for video in found.videos]

    def evaluate(self, _: Path, scheduler: str) -> object:
        found = self.ensemble.evaluate(self.truth, scheduler=scheduler)
        return {video: counts.tolist() for video, counts in found.confusions.items()}

    def condense(self, place: Path, scheduler: str) -> object:
        how = {"scheduler": scheduler, "cache": place}
        found = condense_ensemble(self.ensemble, self.truth, **how)
        again = condense_ensemble(self.ensemble, self.truth, scheduler="synchronous", cache=place)
        return [each.confusion([1.0, 0.3]).tolist() for each in (found, again)]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    ensemble = fusion.HierarchicalEnsemble.load(write_sample(folder))
    return World(ensemble, fusion.Labels.folder(folder / "labels"))


@pytest.fixture(scope="module")
def dying():
    """A cluster, how many of its workers have died, and a client that can have them killed."""
    with dask.config.set(FORKED), cluster_of(failures=10**6) as running:
        deaths = Deaths()
        running.scheduler.add_plugin(deaths)
        with Client(running, set_as_default=False) as client:
            yield running.scheduler_address, deaths, client


WORKS: tuple[Callable[[World, Path, str], object], ...] = (
    World.predict,
    World.store,
    World.evaluate,
    World.condense,
)


def survived(work, world, dying, folder: Path, deaths: int) -> int:
    """Does a work until so many workers died while it was done; how often it was."""
    address, died, client = dying
    clean, number, within = work(world, folder / "clean", "synchronous"), 0, 0
    with in_time(LONGEST):
        begun = time.monotonic()  # machines are busy: lives are as long as the work takes on this
        assert work(world, folder / "alive", address) == clean
        life = LIVES * (time.monotonic() - begun)
        client.register_plugin(KillWorker(delay=life, mode="segfault"), name="killer")
        try:
            while within < deaths:
                before, number = died.number, number + 1
                assert work(world, folder / f"{number}", address) == clean, number
                within += died.number - before
        finally:
            client.unregister_worker_plugin("killer")
    return number


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_workers_that_are_killed_change_nothing(work, world, dying, tmp_path):
    survived(work, world, dying, tmp_path, deaths=1)


@pytest.mark.slow
@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.__name__)
def test_many_workers_that_are_killed(work, world, dying, tmp_path):
    number = survived(work, world, dying, tmp_path, deaths=100)
    print(f"\n{work.__name__}: {number} times, 100 deaths")


def test_a_video_that_kills_its_workers_is_named():
    with dask.config.set(FORKED), cluster_of(failures=1) as running, in_time(LONGEST):
        deaths = Deaths()
        running.scheduler.add_plugin(deaths)
        with pytest.raises(FusionError, match=r"video 'b': its workers died again and again; do"):
            map_videos(Dies("b"), ["a", "b", "c"], scheduler=running.scheduler_address)
        assert deaths.number == 2
