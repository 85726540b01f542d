"""What a command will read, hold, write and take, before it runs: --plan.

Bytes to read are those of the stores' files. Time is measured: the command's own work is done on
the first frames of the first video, for about a second, and the rest is taken to go as fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fusion.ensemble.plan import Plan
from fusion.memory import BudgetError, Share
from fusion.overlap import MOST_THREADS, overlapped
from fusion.stores.locations import Location
from fusion.stores.reader import LogitStore
from fusion.terminal import wrapped
from fusion.text import say_bytes, say_seconds

if TYPE_CHECKING:
    from fusion.ensemble import Ensemble

SECONDS = 1.0  # of measuring
Frames = Mapping[str, Sequence[str]]  # ids by video
Steps = tuple[tuple[str, float | None], ...]  # what follows, and seconds where these are known
Work = Callable[[str, Sequence[str]], int]  # on these frames of a video: bytes that it wrote


@dataclass(frozen=True)
class Estimate:
    """What lies ahead.

    Args:
        videos, frames: how many.
        plan: of the video that takes most.
        read: bytes of files.
        held: bytes of the process at its peak, Python and libraries included.
        budget: bytes that it was given.
        written: bytes.
        measured: frames whose work was timed.
        reading: seconds for all frames, only read and decoded.
        seconds: for all of it.
        rest: what is not part of these, in words.
        steps: what follows, in its order; seconds are not part of `seconds`.
    """

    videos: int
    frames: int
    plan: Plan
    read: int
    held: int
    budget: int
    written: int
    measured: int
    reading: float
    seconds: float
    rest: str = ""
    steps: Steps = ()

    def to_json(self) -> dict[str, Any]:
        """The same for programs."""
        numbers = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {"plan": {**numbers, "plan": repr(self.plan)}}

    def text(self) -> str:
        """The same for people."""
        pace = 1000 * self.seconds / max(1, self.frames)
        rate = f"{pace:.3g} ms a frame, measured on {self.measured}; read alone"
        rate += f" {say_seconds(self.reading)}"
        rows = [
            ("read", say_bytes(self.read), f"{self.frames} frames of {self.videos} videos"),
            ("hold", say_bytes(self.held), f"of {say_bytes(self.budget)}"),
            ("write", say_bytes(self.written), ""),
            ("time", say_seconds(self.seconds), f"{rate}{self.rest and '; '}{self.rest}"),
        ]
        rows += [("then", "?" if s is None else say_seconds(s), what) for what, s in self.steps]
        lines = (f"{name:<5}  {about:>8}  {what}".rstrip() for name, about, what in rows)
        return "\n".join(wrapped(line, indent=" " * 17) for line in (repr(self.plan), *lines))


def estimate(
    ensemble: Ensemble,
    frames: Frames,
    plans: Sequence[Plan],
    work: Work,
    share: Share,
    *,
    rest: str = "",
    kept: int = 0,
    steps: Steps = (),
) -> Estimate:
    """Measures a second of a command's work.

    Args:
        ensemble: what is read and fused; its `workers` are under way at once.
        frames: all that will be worked on, by video.
        plans: as `checked_plans` gives them.
        work: the command's, on some frames.
        share: of the process.
        rest: what is not part of it, in words.
        kept: bytes of what is made of all frames, and held.
        steps: what follows.
    """
    (video, *_), count = frames, sum(map(len, frames.values()))
    sizes = {each: _numbers(ensemble, each) for each in frames}
    first, done = list(frames[video]), 0
    work(video, first[:1])  # whatever is only slow once
    began, written = time.perf_counter(), 0
    while done < len(first) and time.perf_counter() - began < SECONDS:
        some = first[done : done + max(1, done)]  # more and more: reads overlap with the rest
        written += work(video, some)
        done += len(some)
    spent, began = time.perf_counter() - began, time.perf_counter()
    for store in ensemble.stores:
        store.codes(video, first[:1])
    reading = time.perf_counter() - began
    # larger frames take longer, and weigh more
    alike = sum(len(some) * sizes[each] for each, some in frames.items()) / sizes[video]
    plan = max(plans, key=lambda each: each.bytes)
    return Estimate(
        videos=len(frames),
        frames=count,
        plan=plan,
        read=_stored_bytes(ensemble, frames),
        held=share.taken + ensemble.workers * plan.bytes + kept,
        budget=share.total,
        written=round(written / done * alike),
        measured=done,
        reading=reading * alike,
        seconds=spent / done * alike,
        rest=rest,
        steps=steps,
    )


def checked_plans(make: Callable[[str], Plan], videos: Sequence[str], share: Share) -> list[Plan]:
    """The plan of every video; InputError says the smallest --memory that would do."""
    try:
        return [make(video) for video in videos]
    except BudgetError as error:
        why = str(error).removeprefix("memory: ").partition("; ")[0].partition(", ")[2]
        raise share.refusal(error.least, f"{why}; ") from error


def _numbers(ensemble: Ensemble, video: str) -> int:
    """Of a frame: what its work is in proportion to."""
    shapes = (store.describe(video).frame_shape for store in ensemble.stores)
    height, width = ensemble.size(video)
    return sum(c * h * w for c, h, w in shapes) + height * width


def _stored_bytes(ensemble: Ensemble, frames: Frames) -> int:
    """Of the files of these videos; of stores in memory nothing."""
    folders: dict[Location, float] = {}
    for store in (each for each in ensemble.stores if isinstance(each, LogitStore)):
        for video, some in frames.items():
            info = store.describe(video)
            folder = store.location / info.folder
            part = len(some) / max(1, len(info.frames)) if info.pack is None else 1.0
            folders[folder] = max(part, folders.get(folder, 0.0))
    sizes = overlapped(lambda folder: folder.total(), folders, MOST_THREADS)
    return round(sum(part * size for part, size in zip(folders.values(), sizes, strict=True)))
