"""Times of a GPU's kernels, by its own events, apart from the times of whole calls, by the host's
clock. Milliseconds.

A kernel's time is that between two events with nothing in between but the kernels: the device is
kept busy first, until the host has enqueued all of them. Where that cannot be had, because the call
waits for the device or the host is too slow, there is no such time: never the other in its name.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

import torch

KERNELS, CALL = ", kernels", ", whole call"  # behind a contender's name
HOST_BOUND = "no time of its own: the call waits for the device"
BUSY_MS = (2.0, 8.0, 32.0, 128.0)  # for which the device is kept busy, until that is enough


class Clock(Protocol):
    """A device's events and the host's clock."""

    def event(self) -> Any:
        """An event that is recorded now, behind all that is enqueued."""

    def reached(self, event: Any) -> bool:
        """Whether the device has got there."""

    def elapsed(self, start: Any, stop: Any) -> float:
        """Milliseconds between two events that were reached."""

    def busy(self, milliseconds: float) -> None:
        """Enqueues work that takes so long."""

    def synchronize(self) -> None:
        """Waits for all that is enqueued."""

    def now(self) -> float:
        """The host's clock."""


class CudaClock:
    """Those of a GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def event(self) -> torch.cuda.Event:
        made = torch.cuda.Event(enable_timing=True)
        made.record(torch.cuda.current_stream(self.device))
        return made

    def reached(self, event: torch.cuda.Event) -> bool:
        return event.query()

    def elapsed(self, start: torch.cuda.Event, stop: torch.cuda.Event) -> float:
        return start.elapsed_time(stop)

    def busy(self, milliseconds: float) -> None:
        torch.cuda._sleep(int(milliseconds * 2e6))  # cycles, of at most about 2 GHz

    def synchronize(self) -> None:
        torch.cuda.synchronize(self.device)

    def now(self) -> float:
        return 1000 * time.perf_counter()


def kernels(run: Callable[[], object], clock: Clock) -> float | None:
    """What the kernels of a call take on the device; None where the host is in the way."""
    for milliseconds in BUSY_MS:
        clock.busy(milliseconds)
        start = clock.event()
        run()
        late = clock.reached(start)  # then the device waited for launches
        stop = clock.event()
        clock.synchronize()
        if not late:
            return clock.elapsed(start, stop)
    return None


def call(run: Callable[[], object], clock: Clock) -> float:
    """What a call takes from its start to its results, of the host's time."""
    clock.synchronize()
    began = clock.now()
    run()
    clock.synchronize()
    return clock.now() - began


def interleaved(
    contenders: dict[str, Callable[[], object]],
    rounds: int,
    clock: Clock,
    flush: Callable[[], object],
) -> dict[str, list[float]]:
    """Both times of each contender, "NAME, kernels" and "NAME, whole call".

    Args:
        contenders: by name.
        rounds: how often each runs, after once that does not count.
        clock: of the device.
        flush: overwrites the caches, before every run.

    Returns:
        Times by name; no times of kernels where the host was ever in the way.
    """
    times: dict[str, list[float]] = {n + kind: [] for n in contenders for kind in (KERNELS, CALL)}
    bound: set[str] = set()
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            flush()
            inside = None if name in bound else kernels(run, clock)
            flush()
            outside = call(run, clock)
            if turn == 0:  # compiled, tuned, put on the device: not of the call
                continue
            times[name + CALL].append(outside)
            if inside is None:
                bound.add(name)
                times[name + KERNELS].clear()
            else:
                times[name + KERNELS].append(inside)
    return times


def contender(name: str) -> str:
    """Whose time a row's name is."""
    return name.removesuffix(KERNELS).removesuffix(CALL)
