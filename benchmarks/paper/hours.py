"""What a size takes, before it is begun: a few steps of each kind of network, times how many.

Steps are timed on this machine, alone; `jobs` at a time share it, so that hours are divided by
them only where a job leaves as much of the machine to others.
"""

from __future__ import annotations

import contextlib
import csv
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.paper.produce import SPLITS, Plan, stores_of
from benchmarks.paper.roster import Member, configuration, roster, steps_of
from benchmarks.paper.sizes import PREFIX, Size

STEPS = 12  # timed; the first half warms up
TITLE = "| | networks | steps or frames | ms each | hours |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Item:
    """How many steps of how many networks, or frames of how many stores; seconds of each."""

    name: str
    networks: int
    count: int
    seconds: float

    @property
    def hours(self) -> float:
        return self.count * self.seconds / 3600

    def line(self) -> str:
        shown = f"{1000 * self.seconds:.1f} | {self.hours:.2f}"
        return f"| {self.name} | {self.networks} | {self.count} | {shown} |"


def plan_of_hours(size: Size, jobs: int) -> str:
    """The plan as Markdown, after a minute or so of measuring."""
    members = roster(size)
    items = list(_items(size, members, *_measured(size, members)))
    total = sum(item.hours for item in items)
    said = f"{total:.1f} hours one after the other, {total / jobs:.1f} if {jobs} jobs do not slow "
    lines = [item.line() for item in items]
    return "\n".join([TITLE, *lines, "", f"{said}each other down; then minutes of fusion."])


def _measured(size: Size, members: Sequence[Member]) -> tuple[dict[str, float], float]:
    """Seconds of a step of each network, at the large crop; of a frame of a store."""
    with tempfile.TemporaryDirectory() as folder:
        few = replace(size.scenes, videos=dict.fromkeys(size.scenes.videos, 2), frames=(4, 4))
        plan, seconds = Plan(replace(size, scenes=few), Path(folder)), dict[str, float]()
        plan.prepare()
        for member in members:
            if not member.is_start:
                continue
            document = configuration(member, plan.size, plan.out)
            document["train"] |= {"steps": STEPS, "warmup": 0, "checkpoint_every": STEPS}
            plan.train(document)
            log = (Path(document["out"]) / "log.csv").read_text(encoding="utf-8").splitlines()
            half = [float(row["seconds"]) for row in csv.DictReader(log)][STEPS // 2 :]
            seconds[member.network] = (half[-1] - half[0]) / (len(half) - 1)
            began = time.perf_counter()
            with contextlib.redirect_stdout(sys.stderr):  # the table has it for itself
                plan.fill(member.name, plan.weights(member.name), SPLITS[:1])
            frame = (time.perf_counter() - began) / 8  # two videos of four
        return seconds, frame


def _items(
    size: Size, members: Sequence[Member], seconds: Mapping[str, float], frame: float
) -> Iterator[Item]:
    for network, prefix in PREFIX.items():
        of_start = [m for m in members if m.network == network and m.is_start]
        others = [m for m in members if m.network == network and not m.is_start]
        for what, some in (("what they start from", of_start), ("networks", others)):
            steps = sum(_all_steps(member, size) for member in some)
            yield Item(f"{prefix}: {what}", len(some), steps, seconds[network])
    stores = len(stores_of(members))
    videos = sum(size.scenes.videos[split] for split in SPLITS)
    frames = stores * videos * sum(size.scenes.frames) // 2
    yield Item("stores of val and test", stores, frames, frame)


def _all_steps(member: Member, size: Size) -> int:
    """With the averaging phase."""
    averaging = member.extras.get("swa", {})
    return steps_of(member, size) + averaging.get("cycles", 0) * averaging.get("every", 0)
