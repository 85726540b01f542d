"""A driver without a device: queues that run late, early or at random, and counts of all calls."""

from __future__ import annotations

import random
import sys
from collections import Counter, deque
from contextlib import contextmanager

import torch

LATE, EARLY, RANDOM = "late", "early", "random"


class Event:
    """Its mark is the last record of it, which waits refer to."""

    mark = None


class FakeDriver:
    """A `fusion.kernels.driver.Driver` in host memory.

    when: queues run when somebody waits for them, as soon as they may, or now and then.
    counts: "up", "down" (copies), "wait" (of the caller), "graph" (launches of recorded work),
    "plain" (work launched by itself), "recorded". limit: bytes of device memory, None for any.
    """

    device = torch.device("cpu")

    def __init__(self, when: str = LATE, seed: int = 0, limit: int | None = None) -> None:
        self.copies, self.compute = deque(), deque()
        self.when, self.random, self.limit = when, random.Random(seed), limit
        self.counts, self.by_batch = Counter(), []
        self.recording = False
        self._device: set[int] = set()
        self._made: list[torch.Tensor] = []

    def pinned(self, size: int) -> torch.Tensor:
        return torch.full((size,), 251, dtype=torch.uint8)

    def memory(self, size: int) -> torch.Tensor:
        if self.limit is not None:
            self.limit -= size
            if self.limit < 0:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate some")
        made = torch.full((size,), 251, dtype=torch.uint8)
        self._made.append(made)  # alive: its address stays the device's
        self._device.add(made.untyped_storage().data_ptr())
        return made

    def event(self) -> Event:
        return Event()

    def record(self, event: Event, queue: deque) -> None:
        event.mark = mark = [False]
        self._put(queue, lambda: mark.__setitem__(0, True))

    def wait(self, event: Event, queue: deque) -> None:
        if event.mark is not None:
            self._put(queue, event.mark)

    def synchronize(self, event: Event) -> None:
        self.counts["wait"] += 1
        self.by_batch.append(dict(self.counts))
        while event.mark is not None and not event.mark[0]:
            moved = self._step(self.copies) or self._step(self.compute)  # copies as soon as may be
            assert moved, "the caller waits for ever"

    def copy(self, target: torch.Tensor, source: torch.Tensor, queue: deque) -> None:
        up = target.untyped_storage().data_ptr() in self._device
        assert up != (source.untyped_storage().data_ptr() in self._device)
        self.counts["up" if up else "down"] += 1
        self._put(queue, lambda: target.copy_(source))

    def run(self, work, queue: deque) -> None:
        self.counts["plain"] += 1
        self._put(queue, work)

    def graph(self, work, queue: deque):
        self.counts["recorded"] += 1
        self.recording = True
        try:
            work()
        finally:
            self.recording = False

        def replay() -> None:
            self.counts["graph"] += 1
            self._put(queue, work)

        return replay

    @contextmanager
    def aside(self):
        recording, self.recording = self.recording, False
        yield
        self.recording = recording

    def current(self) -> deque:
        return self.compute

    def _put(self, queue: deque, entry) -> None:
        queue.append(entry)
        steps = {LATE: 0, EARLY: 1 << 30, RANDOM: self.random.randrange(4)}[self.when]
        while steps:
            order = [self.copies, self.compute]
            if self.when == RANDOM:
                self.random.shuffle(order)
            if not any(self._step(each) for each in order):
                break
            steps -= 1

    def _step(self, queue: deque) -> bool:
        """Runs the first entry of a queue, if it is not one that waits."""
        if not queue or (isinstance(queue[0], list) and not queue[0][0]):
            return False
        entry = queue.popleft()
        if not isinstance(entry, list):
            entry()
        return True


@contextmanager
def no_waits(monkeypatch, driver: FakeDriver, root: str):
    """Fails where the library itself waits for the device while launches are recorded."""
    with monkeypatch.context() as patch:
        for name in ("to", "cpu", "item"):
            patch.setattr(torch.Tensor, name, _watched(getattr(torch.Tensor, name), driver, root))
        yield


def _watched(method, driver: FakeDriver, root: str):
    def called(self, *args, **kwargs):
        where = sys._getframe(1).f_code.co_filename
        ours = where.startswith(root) and "/tests/" not in where
        moves = method.__name__ != "to" or any(isinstance(a, torch.device | str) for a in args)
        assert not (driver.recording and ours and moves), f"{where} waits in {method}"
        return method(self, *args, **kwargs)

    return called
