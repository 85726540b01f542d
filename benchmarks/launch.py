"""Host time of fusing on a GPU: `python -m benchmarks.launch [--device cuda] [--json]`.

What Python spends until a frame's work is enqueued, for 22 models of 124 classes to labels of
480 x 853. Without a GPU, and without `--device cuda`, launching is stubbed out: what remains is
checking, describing and sorting 22 maps. Microseconds a frame, medians over rounds in turn; the
maps are small, since only their number matters. The clock is that of the thread's own work: other
processes are not in it, nor (without a GPU) what the driver takes for a replay.

    tables anew     frame by frame, every table made and copied again, as it was before
    tables kept     frame by frame, tables found on the device by what they hold
    prepared        a batch of 16 frames through a slot: one copy, one replay, one copy back, events
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from benchmarks import measure
from fusion.ensemble.ring import Layout, Part, Slot
from fusion.kernels import tables
from fusion.kernels.call import check_upsampling
from fusion.kernels.driver import Cuda, Driver
from fusion.kernels.prepared import Prepared

MODELS, CLASSES, NATIVE, SIZE, FRAMES = 22, 124, (12, 21), (480, 853), 16
CASES = {"float16": torch.float16, "codes": torch.uint8}


class Nothing:
    """A driver of a device that is not there: calls cost what Python takes."""

    device = torch.device("cpu")
    copies = compute = None

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def pinned(self, size: int) -> Tensor:
        return torch.zeros(size, dtype=torch.uint8)

    memory = pinned

    def event(self) -> object:
        return object()

    def record(self, event: Any, queue: Any) -> None:
        """Nothing is enqueued."""

    def wait(self, event: Any, queue: Any) -> None:
        """Nothing is enqueued."""

    def synchronize(self, event: Any) -> None:
        self.counts["waits"] += 1

    def copy(self, target: Tensor, source: Tensor, queue: Any) -> None:
        self.counts["copies"] += 1

    def run(self, work: Callable[[], None], queue: Any) -> None:
        work()

    def graph(self, work: Callable[[], None], queue: Any) -> Callable[[], None]:
        return lambda: self.counts.update(replays=1)

    def aside(self) -> Any:
        return nullcontext()

    def current(self) -> None:
        """No queue."""


@contextmanager
def no_launches() -> Iterator[Counter[str]]:
    """Kernels are not launched, but counted."""
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    counts: Counter[str] = Counter()

    def counted(*_: Any, **__: Any) -> None:
        counts["launches"] += 1

    with ExitStack() as patches:
        for kernel in (Autotuner, InterpretedFunction, JITFunction):
            patches.enter_context(mock.patch.object(kernel, "run", counted))
        yield counts


@contextmanager
def anew() -> Iterator[None]:
    """Tables as they were made before any were kept."""

    def table(numbers: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.tensor(numbers, dtype=dtype).to(device)

    def moved(tensor: Tensor, device: torch.device) -> Tensor:
        return tensor.to(device)

    with mock.patch.multiple(tables, table=table, moved=moved):
        yield


class Batch:
    """A slot of maps and the three ways through it."""

    def __init__(self, dtype: torch.dtype, driver: Driver, frames: int) -> None:
        from fusion.kernels.upsample import triton

        each = -(-CLASSES * NATIVE[0] * NATIVE[1] * dtype.itemsize // 256) * 256
        parts = tuple(Part(m * each, (CLASSES, *NATIVE), dtype) for m in range(MODELS))
        layout = Layout(frames, parts, each * MODELS, None)
        self.slot = Slot(driver, layout, {"labels": (SIZE, torch.uint8)})
        self.slot.device.zero_()
        self.driver, self.upsample, self.frames = driver, triton.upsample, frames
        self.maps = [[z[t] for z in self.slot.on_device] for t in range(frames)]
        second = MODELS * 8 // 11
        groups = [range(3), range(3, second), range(second, MODELS)]
        self.how = {"groups": groups, "values": ["logits"] * MODELS, "outputs": ("labels",)}
        how = {name: value for name, value in self.how.items() if name != "outputs"}
        given = self.slot.on_device, [1.0, 1.4, 1.0], SIZE, self.slot.results, driver
        with mock.patch.object(
            sys.modules["fusion.kernels.prepared"], "choose", return_value=triton
        ):
            self.prepared = Prepared(*given, **how)
        for _ in range(2):  # launches, then records
            self.prepared.launch()

    def kept(self) -> None:
        for logits in self.maps:
            self.upsample(check_upsampling(logits, [1.0, 1.4, 1.0], SIZE, **self.how))

    def made_anew(self) -> None:
        with anew():
            self.kept()

    def replayed(self) -> None:
        driver, slot = self.driver, self.slot
        driver.wait(slot.read, driver.copies)
        driver.copy(slot.device, slot.host, driver.copies)
        driver.record(slot.copied, driver.copies)
        driver.wait(slot.copied, driver.compute)
        self.prepared.launch()
        driver.copy(slot.fetched["labels"], slot.results["labels"], driver.compute)
        driver.record(slot.read, driver.compute)
        driver.record(slot.done, driver.compute)


def measured(device: torch.device, rounds: int, frames: int = FRAMES) -> list[dict[str, Any]]:
    """Rows of all cases: microseconds a frame until all is enqueued, and launches of a batch."""
    rows = []
    for case, dtype in CASES.items():
        real = device.type == "cuda"
        driver: Any = Cuda(device) if real else Nothing()
        with nullcontext(Counter[str]()) if real else no_launches() as counts:
            batch = Batch(dtype, driver, frames)
            ways = {"tables anew": batch.made_anew, "tables kept": batch.kept}
            ways["prepared"] = batch.replayed
            spent: dict[str, list[float]] = {name: [] for name in ways}
            for turn in range(rounds + 1):
                for name, run in ways.items():
                    counts.clear()
                    began = time.thread_time()
                    run()
                    taken = 1e6 * (time.thread_time() - began) / frames
                    if real:
                        torch.cuda.synchronize(device)
                    if turn:
                        spent[name].append(taken)
            for name, run in ways.items():
                counts.clear()
                run()
                low, median, high = measure.quantiles(spent[name])
                row = {"case": case, "way": name, "us_a_frame": median, "p20": low, "p80": high}
                row["times"] = statistics.median(spent["tables anew"]) / median
                rows.append(row if real else {**row, "launches_a_batch": counts["launches"]})
    return rows


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.launch", description="Host time of fusing on a GPU."
    )
    parser.add_argument("--device", default="cpu", help="cpu stubs launches out; cuda launches")
    parser.add_argument("--rounds", type=int, default=9, help="timed runs each (default: 9)")
    parser.add_argument("--frames", type=int, default=FRAMES, help="of a batch (default: 16)")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    rows = measured(device, options.rounds, options.frames)
    if options.json:
        print(json.dumps({**measure.environment(device), "rows": rows}, indent=1))
        return 0
    for row in rows:
        spread = f"({row['p20']:.1f} to {row['p80']:.1f})"
        said = f"{row['us_a_frame']:8.1f} us a frame {spread:18} {row['times']:6.1f}x"
        if "launches_a_batch" in row:
            said += f"  {row['launches_a_batch']} launches a batch beside the replay"
        print(f"{row['case']:8} {row['way']:12} {said}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
