"""One nursery for all tests that stop commands, with the clean runs they are compared with, and a
small world for calls that are wrong."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.faults.children import Ended, Nursery, Stop
from tests.faults.doors import World
from tests.faults.works import WORKS, Work, write_data

MAKES = {"report": ("exact", "results"), "network": ("train", "run")}  # what a work starts from


class Stage:
    """Where works run.

    Attributes:
        nursery: forks their processes.
        out: the folder that every one writes.
    """

    def __init__(self, root: Path) -> None:
        self.nursery, self.data, self.out = Nursery(), root / "data", root / "run" / "out"
        self._clean: dict[str, tuple[dict[str, str], float]] = {}
        self.data.mkdir()
        write_data(self.data)

    def run(self, work: Work, stop: Stop | None = None, **how) -> Ended:
        return self.nursery.run(work.job(self.data, self.out, **how), stop)

    def clean(self, work: Work) -> tuple[dict[str, str], float]:
        """The results of a run that nobody stopped, and its seconds."""
        if work.name not in self._clean:
            if work.name in MAKES and not (self.data / MAKES[work.name][1]).exists():
                before, place = MAKES[work.name]
                self.clean(WORKS[before])
                WORKS[before].prepare(self.out)
                assert self.run(WORKS[before]).code == 0
                shutil.move(self.out, self.data / place)
            work.prepare(self.out)
            ended = self.run(work)
            assert (ended.code, ended.left) == (0, []), ended
            self._clean[work.name] = work.tree(self.out), ended.seconds
        return self._clean[work.name]


@pytest.fixture(scope="session")
def stage(tmp_path_factory):
    made = Stage(tmp_path_factory.mktemp("stage"))
    with made.nursery:
        yield made


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Text that is taken for a path leads into a folder of its own."""
    before, folder = Path.cwd(), tmp_path_factory.mktemp("world")
    made = World(folder)
    place = folder / "here"
    place.mkdir()
    os.chdir(place)
    yield made
    os.chdir(before)
