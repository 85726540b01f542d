"""Whole commands' work beside its parts: reading alone, computing alone, both together.

    python -m benchmarks.pipeline [--stores FOLDER] [--labels FOLDER] [--rounds 5] [--quick]

FOLDER: *.zarr, and labels/ for `evaluate`; without it simulated stores are written and removed.
Contenders take turns. Shares are of speed:

    of slower     of the slower part alone, the floor where reading waits for a disk or a net
    of sum        of the processor time of both parts over the cores, the floor where
                  decoding and fusing both use all of them; nothing can beat it
    of work       the processor time of the parts over that of both together: what overlapping
                  itself costs, and the one share that other people's load hardly changes
    one by one    how much faster than the two parts one after the other
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fusion
from benchmarks.clips import write_clips
from fusion.ensemble.ahead import batches
from fusion.ensemble.stream import Fusion
from fusion.labels import Labels, isal_png
from fusion.labels.png import encode
from fusion.metrics.evaluation import VideoConfusion
from fusion.outputs import write
from fusion.overlap import SOME, overlapped, threads
from fusion.text import table

LARGE: dict[str, Any] = {"models": 22, "classes": 124, "native": (120, 214), "size": (480, 853)}
SMALL: dict[str, Any] = {"models": 4, "classes": 19, "native": (30, 54), "size": (120, 214)}
Times = dict[str, list[tuple[float, float]]]  # seconds by the clock, and of processors


class Held:
    """A store whose frames are in memory already, and decoded."""

    def __init__(self, store: Any, frames: int) -> None:
        self.kernel_values, self._codes = store.kernel_values, {}
        self._place: dict[str, dict[str, int]] = {}
        for video in store.videos:
            ids = store.describe(video).frames[:frames]
            self._codes[video] = store.codes(video, ids)
            self._place[video] = {frame: t for t, frame in enumerate(ids)}

    def codes(self, video: str, frames: Sequence[str]) -> np.ndarray:
        start = self._place[video][frames[0]]
        return self._codes[video][start : start + len(frames)]


class Work:
    """The parts, for a number of frames of every video."""

    def __init__(self, folder: Path, most: int) -> None:
        stores = sorted(folder.glob("*.zarr"))
        third = -(-len(stores) // 3)
        groups = {f"g{k}": stores[k * third : (k + 1) * third] for k in range(3)}
        self.ensemble = fusion.HierarchicalEnsemble({k: some for k, some in groups.items() if some})
        self.frames = {v: self.ensemble.frames(v)[:most] for v in self.ensemble.videos}
        self.count = sum(map(len, self.frames.values()))
        held = {store: Held(store, most) for store in self.ensemble.stores}
        recipe = self.ensemble.recipe
        same = {name: [held[s] for s in some] for name, some in recipe.groups.items()}
        temperatures = {held[s]: t for s, t in recipe.temperatures.items()}
        rest = {n: getattr(recipe, n) for n in ("multipliers", "resize", "mean", "head", "device")}
        self.held = Fusion(same, recipe.weights, temperatures, **rest)

    def read(self) -> None:
        for video, frames in self.frames.items():
            for _ in batches(self.ensemble.stores, video, frames, self.ensemble.plan(video)):
                pass

    def labels(self, recipe: Fusion) -> Iterator[np.ndarray]:
        for video, frames in self.frames.items():
            for _, _, fused in recipe.bands(video, frames, self.ensemble.plan(video)):
                assert fused.labels is not None
                yield fused.labels.numpy()

    def fuse(self) -> None:
        for _ in self.labels(self.held):
            pass

    def together(self) -> None:
        for _ in self.labels(self.ensemble.recipe):
            pass


def taking_turns(contenders: dict[str, Callable[[], object]], rounds: int) -> Times:
    """One run of each per round, after one that does not count."""
    times: Times = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            clock, used = time.perf_counter(), time.process_time()
            run()
            if turn:
                spent = time.perf_counter() - clock, time.process_time() - used
                times[name].append(spent)
    return times


def contenders_of(work: Work, labels: Path | None, out: Path) -> dict[str, Callable[[], object]]:
    """What is timed; all parts of `evaluate` and `predict` where there is ground truth."""
    maps = [np.array(each) for each in work.labels(work.held)]

    def encoded() -> None:
        for _ in overlapped(encode, maps, max(SOME, threads())):
            pass

    def predict() -> None:
        videos = [v for v in work.frames if len(work.frames[v]) == len(work.ensemble.frames(v))]
        write(work.ensemble, out, "png", videos=videos, overwrite=True)

    found: dict[str, Callable[[], object]] = {"read": work.read, "fuse": work.fuse}
    found |= {"together": work.together, "png": encoded, "predict": predict}
    if labels is not None:
        truth = Labels.open("auto", labels)
        task = VideoConfusion(work.ensemble, truth)
        found["evaluate"] = lambda: [task(video) for video in work.frames]
    return found


def report(times: Times, frames: int) -> str:
    """Rates, and what the whole ones are beside their parts."""
    clock = {n: statistics.median(t for t, _ in each) / frames for n, each in times.items()}
    used = {n: statistics.median(t for _, t in each) / frames for n, each in times.items()}
    cores, rows = threads(), []
    for name in times:
        shares = ("", "", "", "")
        if name in ("together", "predict", "evaluate"):
            parts = ["read", "fuse", *(["png"] if name == "predict" else [])]
            slower, total = max(clock[p] for p in parts), sum(used[p] for p in parts)
            numbers = slower / clock[name], total / cores / clock[name], total / used[name]
            serial = sum(clock[p] for p in parts) / clock[name]
            shares = (*(f"{n:.2f}" for n in numbers), f"{serial:.2f}x")
        low, high = (1e3 * pick(times[name])[0] / frames for pick in (min, max))
        pace = f"{1 / clock[name]:.0f}", f"{1e3 * clock[name]:.2f}", f"{low:.2f} to {high:.2f}"
        rows.append((name, *pace, f"{1e3 * used[name]:.2f}", *shares))
    parts = ("of slower", "of sum", "of work", "one by one")
    header = ("", "frames/s", "ms", "spread", "processor ms", *parts)
    return table(rows, header)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stores", type=Path, default=os.environ.get("SEGFUSION_STORES"))
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--frames", type=int, default=30, help="of each clip, at most")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small stores")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, labels = options.stores, options.labels
        if folder is None:
            folder = Path(scratch) / "clips"
            write_clips(folder, clips=[6, 6], **(SMALL if options.quick else LARGE))
            labels = folder / "labels"
        work = Work(Path(folder), options.frames)
        whole = zip(work.labels(work.held), work.labels(work.ensemble.recipe), strict=True)
        assert all(np.array_equal(one, two) for one, two in whole)
        contenders = contenders_of(work, labels, Path(scratch) / "out")
        times = taking_turns(contenders, options.rounds)
    quick = "ISA-L" if isal_png._isal() else "Pillow"
    print(f"{work.ensemble!r}\n{work.count} frames, {threads()} cores, PNG: {quick}")
    print(f"torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    print(report(times, work.count))


if __name__ == "__main__":
    main()
