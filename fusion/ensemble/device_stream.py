"""Fusion on a GPU, fed from stores by a ring of pinned memory (ring.py).

Maps of a number a pixel are fused and fetched batch by batch: one copy to the device, one launch of
recorded kernels, one copy a map back, one wait. Confusion counts add a launch and leave the labels
where they are. All else (heads, geometric means, probabilities, group means) is fused frame by
frame as on the CPU, of frames that the ring brings.

A batch that GPU memory has no room for is made of fewer frames, and a frame that it has none for is
fused on the CPU: labels may then differ at near ties, as they do between the two.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from fusion.ensemble.plan import Plan
from fusion.ensemble.ring import SLOTS, Layout, Results, Ring, Slot, keep, release, taken, unpacking
from fusion.ensemble.stream import Band, Fusion, Means
from fusion.kernels.arithmetic import Fused
from fusion.kernels.driver import Cuda, Driver, out_of_memory
from fusion.kernels.numbers import void_label
from fusion.kernels.prepared import PIXEL_MAPS, Prepared, result_dtype
from fusion.stores.locations.ahead import within
from fusion.stores.store import Store

Item = TypeVar("Item", bound=tuple[Any, ...])
_SAID: set[str] = set()  # warnings of this process


@dataclass(frozen=True)
class DeviceFusion(Fusion):
    """`Fusion` of stores on a GPU.

    Args:
        make_driver: from the device to what streams go through.

    Raises:
        InputError: when frames are asked for: Triton does not run on this GPU.
    """

    make_driver: Callable[[torch.device], Driver] = Cuda

    def bands(self, video: str, frames: Sequence[str], plan: Plan) -> Iterator[Band]:
        """As `Fusion.bands`."""

        def made(fusion: Fusion, left: Sequence[str], plan: Plan) -> Iterator[Band]:
            if isinstance(fusion, DeviceFusion) and fusion._counts_pixels(plan):
                return fusion._in_batches(video, left, plan)
            return Fusion.bands(fusion, video, left, plan)

        plan = replace(plan, aside=0)  # a GPU has one stream of frames
        return self._guarded(made, frames, plan, lambda band: band[1][1] == plan.size[0])

    def native_means(self, video: str, frames: Sequence[str], plan: Plan) -> Means:
        """As `Fusion.native_means`."""

        def made(fusion: Fusion, left: Sequence[str], plan: Plan) -> Means:
            return Fusion.native_means(fusion, video, left, plan)

        return self._guarded(made, frames, plan)

    def maps(self, video: str, frames: Sequence[str], plan: Plan) -> Means:
        """As `Fusion.maps`."""

        def made(fusion: Fusion, left: Sequence[str], plan: Plan) -> Means:
            return Fusion.maps(fusion, video, left, plan)

        return self._guarded(made, frames, plan)

    def counts(
        self,
        video: str,
        frames: Sequence[str],
        plan: Plan,
        target: Callable[[str], np.ndarray],
        classes: int,
    ) -> np.ndarray | None:
        """The confusion matrix of some frames, counted where they are fused.

        Args:
            video: whose frames.
            frames: ids.
            plan: of labels.
            target: ground truth [H, W] of a frame; called in threads.
            classes: C.

        Returns:
            int64 [C, C], rows ground truth; None where the device does not count: what it fuses
            are no plain labels, a value lies outside 0..C-1, or memory ran out.
        """
        if not (self._fed and self._counts_pixels(plan)) or self.channels or not frames:
            return None
        run = _Run.of(self, plan, video)
        truth = plan.size, result_dtype("labels", classes)
        try:
            with self._ring(run, video, frames, plan, plan.bytes, truth) as ring:
                return self._counted(ring, run, video, frames, target, classes)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            return None

    def _counted(
        self,
        ring: Ring,
        run: _Run,
        video: str,
        frames: Sequence[str],
        target: Callable[[str], np.ndarray],
        classes: int,
    ) -> np.ndarray | None:
        from fusion.kernels.confusion import triton

        driver, shape = ring.driver, (triton.copies(classes), classes, classes)
        memory = driver.memory(8 * math.prod(shape) + 8)
        counts, outside = memory[:-8].view(torch.int64).view(shape), memory[-8:].view(torch.int32)
        driver.run(lambda: _zero(memory), driver.compute)

        def fill(slot: Slot, batch: Sequence[str]) -> Iterator[Callable[[], None]]:
            yield from unpacking(run.stores, video, slot, batch)
            assert slot.truth is not None
            for place, frame in zip(slot.truth.numpy(), batch, strict=False):
                yield partial(_put, place, target, frame)

        def enqueue(slot: Slot, count: int) -> None:
            run.fuse(ring, slot, count)
            assert slot.truth_there is not None
            pair = slot.truth_there[:count], slot.results["labels"][:count]
            ignore = void_label(classes)
            driver.run(
                lambda: triton.add(*pair, counts, outside[:1], ignore=ignore), driver.compute
            )
            driver.record(slot.read, driver.compute)
            driver.record(slot.done, driver.compute)

        with closing(ring.through(_batches(frames, ring), fill, enqueue)) as moving:
            for _ in moving:
                pass
        found, end = driver.pinned(len(memory)), driver.event()
        driver.copy(found, memory, driver.compute)
        driver.record(end, driver.compute)
        driver.synchronize(end)
        if int(found[-8:].view(torch.int32)[0]):
            return None  # whoever counts on the CPU then says which value it was
        return found[:-8].view(torch.int64).view(shape).sum(dim=0).numpy()

    def _in_batches(self, video: str, frames: Sequence[str], plan: Plan) -> Iterator[Band]:
        """Bands of maps that are fused a batch at a time; tensors in host memory."""
        run = _Run.of(self, plan, video)

        def fill(slot: Slot, batch: Sequence[str]) -> Iterator[Callable[[], None]]:
            return unpacking(run.stores, video, slot, batch)

        with self._ring(run, video, frames, plan, plan.bytes) as ring:
            driver = ring.driver

            def enqueue(slot: Slot, count: int) -> None:
                run.fuse(ring, slot, count)
                for name, made in slot.results.items():
                    driver.copy(slot.fetched[name][:count], made[:count], driver.compute)
                driver.record(slot.read, driver.compute)
                driver.record(slot.done, driver.compute)

            with closing(ring.through(_batches(frames, ring), fill, enqueue)) as moving:
                for slot, batch in moving:
                    for place, frame in enumerate(batch):
                        made = {name: maps[place].clone() for name, maps in slot.fetched.items()}
                        for rows in plan.bands:
                            cut = {k: z[..., rows[0] : rows[1], :] for k, z in made.items()}
                            yield frame, rows, Fused(**cut)

    def _read(
        self, video: str, frames: Sequence[str], names: Sequence[str], plan: Plan
    ) -> Iterator[tuple[str, list[Tensor]]]:
        """As `Fusion._read`; a frame's tensors are the caller's until it asks for the next."""
        if not self._fed:
            yield from super()._read(video, frames, names, plan)
            return
        entries = cast(list[Store], self._entries(names))
        run = _Run(tuple(dict.fromkeys(entries)), entries, "frames", {}, {}, (), (0, 0))

        def fill(slot: Slot, batch: Sequence[str]) -> Iterator[Callable[[], None]]:
            return unpacking(run.stores, video, slot, batch)

        with self._ring(run, video, frames, plan) as ring:

            def enqueue(slot: Slot, count: int) -> None:
                ring.upload(slot, count)
                ring.driver.record(slot.done, ring.driver.copies)

            with closing(ring.through(_batches(frames, ring), fill, enqueue)) as moving:
                for slot, batch in moving:
                    maps = dict(zip(run.stores, slot.on_device, strict=True))
                    try:
                        for place, frame in enumerate(batch):
                            yield frame, [maps[store][place] for store in entries]
                    finally:  # the next copy waits for what the caller launched
                        ring.driver.record(slot.read, ring.driver.current())

    @property
    def _fed(self) -> bool:
        """Whether numbers come from stores, to a GPU."""
        if self.device.type != "cuda" and self.make_driver is Cuda:
            return False
        return all(isinstance(store, Store) for some in self.groups.values() for store in some)

    def _counts_pixels(self, plan: Plan) -> bool:
        """Whether a number a pixel is all that is asked for, of plain sums."""
        plain = self.head is None and self.mean == "arithmetic"
        return self._fed and plain and set(plan.outputs) <= set(PIXEL_MAPS)

    @contextmanager
    def _ring(
        self,
        run: _Run,
        video: str,
        frames: Sequence[str],
        plan: Plan,
        planned: int = 0,
        truth: tuple[tuple[int, ...], torch.dtype] | None = None,
    ) -> Iterator[Ring]:
        """A ring for a video's frames, within the room that a plan has for its frames together.

        `planned`: bytes of the whole plan, which counts bands that this path has on the device.
        """
        results, together = run.results, plan.frames
        one = Layout.of(run.stores, video, 1, truth)
        made = sum(math.prod(shape) * dtype.itemsize for shape, dtype in results.values())
        each = one.stride + one.head + made
        room = one.stride * (2 * together if together > 1 else 1)  # plan.py counts a frame twice
        room += max(0, planned - one.stride * together)
        slots = min(SLOTS, max(1, room // each))
        number = max(1, min(together, room // (slots * each), len(frames)))
        layout = replace(one, frames=number)
        key = (self.make_driver, str(self.device), layout, slots, tuple(results.items()), run.key)
        ring = taken(key, lambda: Ring(key, self.make_driver(self.device), layout, results, slots))
        try:
            with within(plan.remote):
                yield ring
        except GeneratorExit:
            keep(ring)
            raise
        keep(ring)

    def _guarded(
        self,
        made: Callable[[Fusion, Sequence[str], Plan], Iterator[Item]],
        frames: Sequence[str],
        plan: Plan,
        ends: Callable[[Item], bool] = lambda item: True,
    ) -> Iterator[Item]:
        """What `made` gives of all frames, from fewer at a time where memory runs out.

        `ends` says of an item whether it is the last of its frame.
        """
        fusion: Fusion = self
        left, given = list(frames), 0  # of the first frame that is left
        while left:
            skipped = given
            try:
                for item in made(fusion, tuple(left), plan):
                    if skipped:
                        skipped -= 1
                        continue
                    given += 1
                    if ends(item):
                        left, given = left[1:], 0
                    yield item
                return
            except RuntimeError as error:
                if fusion is not self or not self._fed or not out_of_memory(error):
                    raise
            release()
            torch.cuda.empty_cache()
            if plan.frames > 1:
                plan = replace(plan, frames=plan.frames // 2)
                _say(f"device {self.device}: out of memory; going on with fewer frames at a time")
            else:
                how = {field.name: getattr(self, field.name) for field in fields(Fusion)}
                fusion = Fusion(**{**how, "device": torch.device("cpu")})
                said = "out of memory with a frame at a time; going on on the CPU"
                _say(f"device {self.device}: {said}")


class _Run(NamedTuple):
    """How a batch of frames is fused.

    stores: each once; entries: once a group. key: of all that follows.
    """

    stores: tuple[Store, ...]
    entries: list[Store]
    key: str
    results: Results
    how: dict[str, Any]
    weights: Sequence[float]
    size: tuple[int, int]

    @classmethod
    def of(cls, fusion: Fusion, plan: Plan, video: str) -> _Run:
        names = [name for name in fusion.groups if fusion.weights[name] > 0]
        weights = [fusion.weights[name] for name in names]
        entries = cast(list[Store], fusion._entries(names))
        how = {**fusion._call(names, plan.outputs), "resize": fusion.resize}
        del how["outputs"]
        classes = entries[0].describe(video).frame_shape[0]
        shape: tuple[int, ...] = (classes, *plan.size) if fusion.channels else plan.size
        labels = 2 if fusion.channels else classes
        results = {name: (shape, result_dtype(name, labels)) for name in plan.outputs}
        stores = tuple(dict.fromkeys(entries))
        order = [stores.index(store) for store in entries]
        key = repr((order, weights, how, plan.size))
        return cls(stores, entries, key, results, how, weights, plan.size)

    def fuse(self, ring: Ring, slot: Slot, count: int) -> None:
        """Enqueues a batch's copy and its fusion behind it."""
        ring.upload(slot, count)
        ring.driver.wait(slot.copied, ring.driver.compute)
        if slot.prepared is None:
            there = dict(zip(self.stores, slot.on_device, strict=True))
            maps = [there[store] for store in self.entries]
            given = maps, self.weights, self.size, slot.results, ring.driver
            slot.prepared = Prepared(*given, **self.how)
        slot.prepared.launch()


def _batches(frames: Sequence[str], ring: Ring) -> Iterator[Sequence[str]]:
    step = ring.layout.frames
    return (frames[first : first + step] for first in range(0, len(frames), step))


def _put(place: np.ndarray, target: Callable[[str], np.ndarray], frame: str) -> None:
    place[...] = target(frame)


def _zero(memory: Tensor) -> None:
    memory.zero_()


def _say(sentence: str) -> None:
    """A warning, once in a process."""
    if sentence not in _SAID:
        _SAID.add(sentence)
        warnings.warn(sentence, stacklevel=4)
