"""A ring of pinned memory through which batches of frames go to a device.

    threads unpack frames into pinned memory -> one copy a batch, on a queue of its own -> device

While a batch is handed over, the next is on the device and the one after it is being unpacked. A
batch lies in a slot as it is copied: targets of all its frames where they are counted, then frame
after frame, in it store after store, so that few frames are a shorter copy.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fusion.kernels.driver import Driver
from fusion.kernels.prepared import Prepared
from fusion.stores.store import Store

SLOTS = 3
GRAIN = 256  # bytes that divide where a map begins
MOST_THREADS = 8
TASK_BYTES = 1 << 20  # unpacked by one task at least, as long as there are frames
DTYPES = {1: torch.uint8, 2: torch.float16, 4: torch.float32}  # of codes, by their bytes

Batch = Sequence[str]
Pending = list["Future[None]"]


class Part(NamedTuple):
    """One store's map in a frame's bytes."""

    start: int
    shape: tuple[int, int, int]
    dtype: torch.dtype


@dataclass(frozen=True)
class Layout:
    """Where the numbers of a batch of `frames` lie.

    parts: of each store. stride: bytes of a frame. targets: shape and dtype of a frame's ground
    truth, None where none is counted.
    """

    frames: int
    parts: tuple[Part, ...]
    stride: int
    targets: tuple[tuple[int, ...], torch.dtype] | None

    @classmethod
    def of(
        cls,
        stores: Sequence[Store],
        video: str,
        frames: int,
        targets: tuple[tuple[int, ...], torch.dtype] | None = None,
    ) -> Layout:
        parts, end = [], 0
        for store in stores:
            shape = store.describe(video).frame_shape
            parts.append(Part(end, shape, DTYPES[store.item_bytes]))
            end += grained(math.prod(shape) * store.item_bytes)
        return cls(frames, tuple(parts), end, targets)

    @property
    def head(self) -> int:
        """Bytes of the targets of all frames."""
        if self.targets is None:
            return 0
        shape, dtype = self.targets
        return grained(self.frames * math.prod(shape) * dtype.itemsize)

    def size(self, frames: int) -> int:
        """Bytes of some frames, and of all targets."""
        return self.head + frames * self.stride

    def maps(self, memory: Tensor) -> list[Tensor]:
        """Of each store the maps [T, C, h, w] that lie in a slot's memory."""
        rows = memory[self.head :].view(self.frames, self.stride)
        made = []
        for start, shape, dtype in self.parts:
            end = start + math.prod(shape) * dtype.itemsize
            made.append(rows[:, start:end].view(dtype).unflatten(1, shape))
        return made

    def truth(self, memory: Tensor) -> Tensor | None:
        """Targets [T, ...] that lie in a slot's memory."""
        if self.targets is None:
            return None
        shape, dtype = self.targets
        end = self.frames * math.prod(shape) * dtype.itemsize
        return memory[:end].view(dtype).view(self.frames, *shape)


class Slot:
    """Pinned memory, the device's beside it, and what was made of the frames in it.

    maps, truth: in pinned memory; on_device, truth_there: the same on the device. results: [T, ...]
    on the device, and fetched in pinned memory.
    """

    def __init__(self, driver: Driver, layout: Layout, results: Results) -> None:
        size = layout.size(layout.frames)
        self.host, self.device = driver.pinned(size), driver.memory(size)
        self.maps, self.on_device = layout.maps(self.host), layout.maps(self.device)
        self.truth, self.truth_there = layout.truth(self.host), layout.truth(self.device)
        self.results = {name: _empty(driver.memory, layout, *how) for name, how in results.items()}
        self.fetched = {name: _empty(driver.pinned, layout, *how) for name, how in results.items()}
        self.copied, self.done, self.read = driver.event(), driver.event(), driver.event()
        self.prepared: Prepared | None = None


Results = dict[str, tuple[tuple[int, ...], torch.dtype]]  # name -> shape of a frame's, dtype
Fill = Callable[[Slot, Batch], Iterable[Callable[[], None]]]
Enqueue = Callable[[Slot, int], None]


class Ring:
    """Slots of one layout on one driver. `key`: of whom they serve."""

    def __init__(
        self, key: Hashable, driver: Driver, layout: Layout, results: Results, slots: int = SLOTS
    ) -> None:
        self.key, self.driver, self.layout = key, driver, layout
        self.slots = [Slot(driver, layout, results) for _ in range(slots)]

    def upload(self, slot: Slot, frames: int) -> None:
        """Enqueues the one copy of a batch, behind all that still reads the slot."""
        driver, size = self.driver, self.layout.size(frames)
        driver.wait(slot.read, driver.copies)
        driver.copy(slot.device[:size], slot.host[:size], driver.copies)
        driver.record(slot.copied, driver.copies)

    def through(
        self, batches: Iterable[Batch], fill: Fill, enqueue: Enqueue
    ) -> Generator[tuple[Slot, Batch], None, None]:
        """Slots whose batch is done, in order; the one before is taken again with the next.

        Args:
            batches: frame ids.
            fill: what is to be done in threads until a batch is in a slot's pinned memory.
            enqueue: what is to be enqueued then; records `slot.done`.
        """
        coming, free = iter(batches), deque(self.slots)
        filling: deque[tuple[Slot, Batch, Pending]] = deque()
        running: deque[tuple[Slot, Batch]] = deque()
        with ThreadPoolExecutor(_threads(), thread_name_prefix="unpack") as pool:
            try:
                while True:
                    while free and (batch := next(coming, None)) is not None:
                        tasks = fill(free[0], batch)
                        filling.append((free.popleft(), batch, [pool.submit(t) for t in tasks]))
                    while filling and len(running) < max(1, len(self.slots) - 1):
                        slot, batch, pending = filling.popleft()
                        for future in pending:
                            future.result()
                        enqueue(slot, len(batch))
                        running.append((slot, batch))
                    if not running:
                        return
                    self.driver.synchronize(running[0][0].done)
                    slot, batch = running.popleft()
                    yield slot, batch
                    free.append(slot)
            finally:
                for _, _, pending in filling:
                    for future in pending:
                        future.cancel()
                for slot, _ in running:  # what still reads pinned memory ends before others write
                    self.driver.synchronize(slot.done)


def unpacking(
    stores: Sequence[Store], video: str, slot: Slot, batch: Batch
) -> Iterator[Callable[[], None]]:
    """Tasks that put a batch's frames of all stores into a slot."""
    for store, maps in zip(stores, slot.maps, strict=True):
        step = max(1, TASK_BYTES // max(1, maps[0].nbytes))
        for first in range(0, len(batch), step):
            some = batch[first : first + step]
            out = maps[first : first + len(some)].numpy()
            yield partial(store.codes_into, video, some, out)


_IDLE: list[Ring] = []  # of one key, with their memory, tables and recorded launches
_LOCK = threading.Lock()
MOST_IDLE = 8  # as many workers as there may be beside each other


def taken(key: Hashable, make: Callable[[], Ring]) -> Ring:
    """An idle ring of this key, or a new one; the memory of those of other keys is given back."""
    with _LOCK:
        _IDLE[:] = [ring for ring in _IDLE if ring.key == key]
        if _IDLE:
            return _IDLE.pop()
    return make()


def keep(ring: Ring) -> None:
    """Keeps a ring for the next video of its kind."""
    with _LOCK:
        alike = [each for each in _IDLE if each.key == ring.key]
        _IDLE[:] = [*alike[: MOST_IDLE - 1], ring]


def release() -> None:
    """Gives the memory of idle rings back."""
    with _LOCK:
        _IDLE.clear()


def grained(size: int) -> int:
    return -(-size // GRAIN) * GRAIN


def _empty(
    make: Callable[[int], Tensor], layout: Layout, shape: tuple[int, ...], dtype: torch.dtype
) -> Tensor:
    size = layout.frames * math.prod(shape) * dtype.itemsize
    return make(size).view(dtype).view(layout.frames, *shape)


def _threads() -> int:
    """As many as this process has processors, up to a few."""
    here: Any = getattr(os, "sched_getaffinity", None)
    return min(MOST_THREADS, len(here(0)) if here else os.cpu_count() or 1)
