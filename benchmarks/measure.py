"""Clocks, floors and peaks: what a benchmark reads off the machine. Times in milliseconds; a copy
moves bytes read plus written."""

from __future__ import annotations

import gc
import importlib.metadata
import platform
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks import clock

FLUSH_BYTES = 256 << 20  # beyond the second-level cache of every GPU sold


@dataclass(frozen=True)
class Row:
    """One contender on one case. status: "ok", or what is wrong; then there are no times."""

    case: str
    contender: str
    status: str
    median_ms: float | None = None
    p20_ms: float | None = None
    p80_ms: float | None = None


def interleaved(
    contenders: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Times of each contender, one run of each per round, after one round that does not count.

    On a GPU two of each, of its kernels and of the whole call (`benchmarks.clock`), with the cache
    overwritten before every run, so that inputs come from memory.
    """
    if device.type == "cuda":
        flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=device)
        return clock.interleaved(contenders, rounds, clock.CudaClock(device), flush.random_)
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            if turn:
                times[name].append(1000 * (time.perf_counter() - began))
    return times


def quantiles(times: list[float]) -> tuple[float, float, float]:
    """p20, median and p80."""
    return float(np.quantile(times, 0.2)), statistics.median(times), float(np.quantile(times, 0.8))


def copy_bandwidth(device: torch.device, size: int) -> float:
    """Bytes read plus bytes written per second when copying `size` bytes, median of seven."""
    source = torch.randint(255, (size,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    (times, *_) = interleaved({"copy": lambda: target.copy_(source)}, 7, device).values()
    return 2 * size / statistics.median(times) * 1000  # on a GPU of its kernel


def exponential_rate(device: torch.device) -> float | None:
    """Exponentials per second that a GPU's special-function units can do: 16 a clock and
    multiprocessor. None on a CPU."""
    if device.type != "cuda":
        return None
    properties = torch.cuda.get_device_properties(device)
    return (
        16.0
        * properties.multi_processor_count
        * 1000
        * getattr(properties, "clock_rate", 1_755_000)
    )  # kHz; default: H100's boost


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def peak_megabytes(run: Callable[[], object], device: torch.device) -> float | None:
    """Memory above the start during one more run: the allocator's on a GPU, the process's elsewhere
    (None where there is no /proc)."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    if not Path("/proc/self/statm").exists():
        return None
    start, peak, done = _resident(), _resident(), threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, _resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return (max(peak, _resident()) - start) / 1e6


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def environment(device: torch.device) -> dict[str, str | int]:
    """What a number needs beside it to mean anything."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": _version("triton"),
        "numpy": np.__version__,
    }
