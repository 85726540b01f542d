"""What one core and the disk of this machine do a second, stage by stage.

Every rate is of one thread, on inputs of the size of VSPW's stores and labels, a second of its
processor time: waiting for others on a busy machine does not count, nor for the disk, whose own
rates are by the clock. Runs of all stages take turns. Two are differences of two runs of one round:
`upsample` is fusing to label size without fusing, `means` the same of group means.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

import fusion
from benchmarks import measure, simulated
from benchmarks.scale.model import Rate
from fusion.contested import Builder, Condensed, condense
from fusion.errors import InputError
from fusion.kernels import softmax_average, upsample_softmax_average
from fusion.kernels.arithmetic import Fused
from fusion.kernels.contested.layout import Block
from fusion.labels import write_labels
from fusion.metrics.confusion import confusion
from fusion.parallel import one_thread

Size = tuple[int, int]
VIDEO, GROUPS = "clip", 3
FULL = {"models": 22, "classes": 124, "native": (120, 214), "size": (480, 853), "file": 128 << 20}
TINY = {"models": 4, "classes": 6, "native": (12, 20), "size": (40, 60), "file": 1 << 20}
WEIGHTINGS = 441  # of the default grid


@dataclass(frozen=True)
class Measured:
    """rates: by stage. stored: bytes on disk per byte of numbers, by profile. contested: share of
    the label pixels. bundle: bytes of a contested pixel. candidates: of one. thread: processor time
    of a fusion by one thread over that by all, less than 1 where they are in each other's way.
    """

    rates: dict[str, Rate]
    stored: dict[str, float]
    contested: float
    bundle: float
    candidates: float
    thread: float
    threads: int


def kept(path: Path) -> Measured:
    """What an earlier run with --json measured; InputError where the file is none of those."""
    try:
        found = json.loads(path.read_text())["measured"]
        rates = {stage: Rate(**row) for stage, row in found["rates"].items()}
        return Measured(**{**found, "rates": rates})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        do = "give what `python -m benchmarks.scale --json` printed"
        raise InputError(f"--rates: {path} has no measured rates ({error}); {do}") from error


class Inputs:
    """Simulated models that mostly agree, in memory and in stores, and what is made of them."""

    def __init__(self, folder: Path, quick: bool) -> None:
        form = TINY if quick else FULL
        self.folder, self.classes, self.size = folder, form["classes"], form["size"]
        self.models, self.file = form["models"], form["file"]
        logits = simulated.agreeing(self.models, self.classes, form["native"])
        self.maps = {
            "compact": [simulated.gap_codes(z) for z in logits],
            "exact": [z.half() for z in logits],
        }
        self.groups = [list(range(self.models))[g::GROUPS] for g in range(GROUPS)]
        self.stores = {profile: self._store(profile, logits[:4]) for profile in self.maps}
        self.means = self.fused(self.maps["compact"], "group_means", self.size).group_means.numpy()
        self.labels = self.fused(self.maps["compact"], "labels", self.size).labels.numpy()
        draw = np.random.default_rng(0).random(self.size)
        self.targets = np.where(draw < 0.1, 255, self.labels).astype(np.uint8)
        self.condensed = self._condensed()

    def _store(self, profile: str, frames: list[torch.Tensor]) -> fusion.LogitStore:
        """One model's; the frames are those of several models."""
        path, names = self.folder / f"{profile}.zarr", [str(c) for c in range(self.classes)]
        ids = [f"{t:05d}" for t in range(len(frames))]
        writer = fusion.LogitWriter(path, names, profile)
        with writer.video(VIDEO, frames=ids, size=self.size) as video:
            for frame in frames:
                video.append(frame.numpy())
        return fusion.LogitStore(path)

    def _condensed(self) -> Condensed:
        builder = Builder(tuple(map(str, range(GROUPS))), [str(c) for c in range(self.classes)])
        builder.append(VIDEO, self.condense())
        return builder.finish()

    def fused(self, maps: list[torch.Tensor], output: str, size: Size | None = None) -> Fused:
        how = {"groups": self.groups, "outputs": (output,)}
        if size is None:
            return softmax_average(maps, [1.0] * GROUPS, **how)
        return upsample_softmax_average(maps, [1.0] * GROUPS, size, resize="probabilities", **how)

    def condense(self) -> Block:
        return condense(self.means, self.targets, self.classes, ignore=255)

    def weightings(self) -> np.ndarray:
        return np.random.default_rng(0).random((WEIGHTINGS, GROUPS))

    def stored(self) -> dict[str, float]:
        """Bytes on disk per byte of numbers."""
        found = {}
        for profile, store in self.stores.items():
            size = sum(f.stat().st_size for f in store.path.rglob("*") if f.is_file())
            found[profile] = size / store.codes(VIDEO).nbytes
        return found


def runs(inputs: Inputs) -> dict[str, tuple[Callable[[], object], float, str]]:
    """What is timed, by stage: the run, how much it does, of what."""
    codes = inputs.maps["compact"]
    scores = {p: float(sum(z.numel() for z in maps)) for p, maps in inputs.maps.items()}
    pixels, contested = float(inputs.labels.size), inputs.condensed.contested
    whole = pixels * inputs.classes
    made: dict[str, tuple[Callable[[], object], float, str]] = {}
    for profile, maps in inputs.maps.items():
        store = inputs.stores[profile]
        numbers = float(store.codes(VIDEO).size)
        made[f"decode-{profile}"] = (partial(store.codes, VIDEO), numbers, "scores")
        made[f"fuse-{profile}"] = (partial(inputs.fused, maps, "labels"), scores[profile], "scores")
    means = partial(inputs.fused, codes, "group_means")
    upsampled = partial(inputs.fused, codes, size=inputs.size)
    count = partial(confusion, inputs.targets, inputs.labels, inputs.classes)
    png = inputs.folder / "labels.png"
    write = partial(write_labels, png, inputs.labels, overwrite=True)
    sweep = partial(inputs.condensed.miou, inputs.weightings())
    made |= {
        "fused labels": (partial(upsampled, output="labels"), whole, "label scores"),
        "native means": (means, scores["compact"], "scores"),
        "label means": (partial(upsampled, output="group_means"), whole * GROUPS, "label scores"),
        "count": (count, pixels, "pixels"),
        "write": (write, pixels, "pixels"),
        "condense": (inputs.condense, whole * GROUPS, "label scores"),
        "sweep": (sweep, float(contested * WEIGHTINGS), "pixel weightings"),
    }
    return made


DIFFERENCES = {  # stage: (whole, part of it)
    "upsample": ("fused labels", "fuse-compact"),
    "means": ("label means", "native means"),
}
PARTS = ("fused labels", "native means", "label means")  # no stages of a workload by themselves


def measured(folder: Path, quick: bool, rounds: int) -> Measured:
    """All rates of this machine."""
    inputs = Inputs(folder, quick)
    timed = runs(inputs)
    threads = torch.get_num_threads()
    with one_thread():
        times = processor({name: run for name, (run, *_) in timed.items()}, rounds)
    rates = {
        stage: rate_of(times[stage], amount, unit)
        for stage, (_, amount, unit) in timed.items()
        if stage not in PARTS
    }
    for stage, (whole, part) in DIFFERENCES.items():
        pairs = zip(times[whole], times[part], strict=True)
        left = [max(a - b, a / 1000) for a, b in pairs]
        rates[stage] = rate_of(left, *timed[whole][1:])
    rates["keep"], rates["read"] = disk(folder, inputs.file, rounds)
    speed = timed["fuse-compact"][0]
    many = processor({"all": speed}, rounds)["all"]
    left = min(1.0, statistics.median(times["fuse-compact"]) / statistics.median(many))
    found = inputs.condensed
    scored = max(found.contested, 1)
    bundle = sum(pixels.nbytes for pixels in found.pixels) / scored
    share, each = found.contested / inputs.labels.size, found.candidates / scored
    return Measured(rates, inputs.stored(), share, bundle, each, left, threads)


def processor(tasks: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of processor time, of all threads together, one run of each a round after one round
    that does not count."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds + 1):
        for name, run in tasks.items():
            began = time.process_time()
            run()
            if turn:
                times[name].append(max(time.process_time() - began, 1e-9))
    return times


def rate_of(seconds: list[float], amount: float, unit: str) -> Rate:
    """The low rate is that of the slow fifth of the runs."""
    fast, median, slow = measure.quantiles(seconds)
    return Rate(amount / median, amount / slow, amount / fast, unit)


def disk(folder: Path, size: int, rounds: int) -> tuple[Rate, Rate]:
    """(writing, reading) bytes of a file that is flushed to the disk and dropped from the cache.

    Where the system cannot be told to drop it, reading is that of the cache, and the origin says
    so. A layer below may still hold the file.
    """
    path, block = folder / "disk.bin", np.random.default_rng(0).bytes(size)
    writing, reading, origin = [], [], "measured"
    for _ in range(rounds):
        began = time.perf_counter()
        with path.open("wb") as file:
            file.write(block)
            file.flush()
            os.fsync(file.fileno())
        writing.append(time.perf_counter() - began)
        with path.open("rb", buffering=0) as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                origin = "measured, from the page cache"
            began = time.perf_counter()
            while file.read(4 << 20):
                pass
            reading.append(time.perf_counter() - began)
    path.unlink()
    low, median, high = measure.quantiles(reading)
    read = Rate(size / median, size / high, size / low, "bytes", origin)
    return rate_of(writing, size, "bytes"), read
