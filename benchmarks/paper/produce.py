"""Trains members and fills their stores, several at a time, each when what it starts from is there.

Stopped runs go on; so does the whole.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks import scenes
from benchmarks.paper.roster import Member, before, configuration, steps_of
from benchmarks.paper.sizes import Size
from fusion.memory import roomy
from fusion.models import predict
from fusion.models.data.clips import Clips
from fusion.models.data.statistics import class_statistics
from fusion.models.training import config
from fusion.models.training.checkpoint import SUFFIX
from fusion.models.training.run import train

SPLITS = ("val", "test")


@dataclass(frozen=True)
class Plan:
    """One repetition: its size, folder and seed."""

    size: Size
    out: Path
    seed: int = 0

    def weights(self, member: str, file: str = "baseline") -> Path:
        return self.out.absolute() / "runs" / member / f"{file}{SUFFIX}"

    def store(self, split: str, name: str) -> Path:
        return self.out / split / f"{name}.zarr"

    @property
    def statistics(self) -> Path:
        """Counts of the training labels."""
        return self.out / "statistics.json"

    def prepare(self) -> None:
        """Writes the scenes and counts their classes."""
        scenes.write(self.out / "scenes", self.size.scenes, self.seed)
        class_statistics(Clips.vspw(self.out / "scenes", "train"), self.statistics)

    def train(self, document: dict[str, Any]) -> None:
        train(config.parse(document), "auto")

    def produce(self, member: Member) -> str:
        """Trains a member and fills its stores; returns its name."""
        self.train(configuration(member, self.size, self.out, self.seed))
        for name, file in member.files.items():
            self.fill(name, self.weights(member.name, file))
        for name, tau in member.post_hoc.items():
            adjusted = ["--post-hoc", str(tau), "--statistics", str(self.statistics)]
            self.fill(name, self.weights(member.name), more=adjusted)
        return member.name

    def fill(
        self,
        name: str,
        weights: Path,
        splits: Sequence[str] = SPLITS,
        more: Sequence[str] = (),
    ) -> None:
        """A store of what a weights file says of each split."""
        for split in splits:
            files = ["--weights", str(weights), "--vspw", str(self.out / "scenes")]
            target = ["--split", split, "--out", str(self.store(split, name))]
            predict.main([*files, *target, *more])


def produce_all(plan: Plan, members: Sequence[Member], jobs: int) -> Iterator[str]:
    """Produces members, `jobs` at a time, when what they start from is there; yields names."""
    waiting, ready, running = list(members), {""}, set()
    # read by the workers as they start; their bars would overwrite each other
    os.environ["TQDM_DISABLE"] = "1"
    with ProcessPoolExecutor(jobs, get_context("spawn"), _start_worker) as pool:
        try:
            while waiting or running:
                able = [member for member in waiting if ready.issuperset(before(member).values())]
                waiting = [member for member in waiting if member not in able]
                running |= {pool.submit(plan.produce, member) for member in able}
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    ready.add(future.result())
                    yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _start_worker() -> None:
    torch.set_num_threads(1)
    roomy()
    sys.stdout = sys.stderr  # the tables have it for themselves


def longest_first(members: Sequence[Member], size: Size) -> list[Member]:
    """Starts, then by falling steps: no core waits for a long run at the end."""
    return sorted(members, key=lambda member: (not member.is_start, -steps_of(member, size)))


def stores_of(members: Sequence[Member]) -> list[str]:
    """Names of all stores, in the order of members."""
    return [name for member in members for name in (*member.files, *member.post_hoc)]
