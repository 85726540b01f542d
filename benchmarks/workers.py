"""python -m benchmarks.workers: two workers of a Dask cluster beside one, on compute-bound work.

    one process of one thread      |  the same videos, evaluated: matrices bit for bit the same
    two processes of one thread    |

Stores are made up and lie in the page cache: what takes the time is fusing. Clusters are up before
the clock starts and take turns, round after round; each round also has two loops done that need
nothing but a core, by one worker and by two, for what a second core is worth on this machine right
now: where others use it, two workers cannot be twice as fast as one. A sweep of weightings over
the videos' contested pixels is counted by this process, all its threads, and by the two workers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

import fusion
from benchmarks.measure import environment, quantiles
from fusion.contested import spread
from fusion.contested.build import condense_ensemble
from fusion.labels import write_labels
from fusion.parallel import map_videos

CLASSES, NATIVE, SIZE = 60, (60, 107), (240, 428)
WEIGHTINGS = 512


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--models", type=int, default=6)
    parser.add_argument("--quick", action="store_true", help="tiny: everything runs, no number")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.videos, options.frames, options.models = 1, 2, 1, 2
    with tempfile.TemporaryDirectory() as folder:
        ensemble, truth = made_up(Path(folder), options.videos, options.frames, options.models)
        times = measured(ensemble, truth, options.rounds)
    print(environment(torch.device("cpu")), f"{os.cpu_count()} cores", file=sys.stderr)
    frames = options.videos * options.frames
    print(f"{frames} frames of {options.models} models, {CLASSES} classes, label size {SIZE}")
    print("| | 1 | 2 | 1 over 2: median (p20 to p80) of rounds |\n|---|---|---|---|")
    rows = [("workers", "evaluate"), ("cores", "two loops in Python")]
    rows.append(("sweep", f"{WEIGHTINGS} weightings: this process, two workers"))
    for name, said in rows:
        one, two = times[f"{name} 1"], times[f"{name} 2"]
        low, ratio, high = quantiles([a / b for a, b in zip(one, two, strict=True)])
        middle = [1000 * statistics.median(each) for each in (one, two)]
        print(f"| {said}, ms | {middle[0]:.0f} | {middle[1]:.0f} |", end=" ")
        print(f"{ratio:.2f} ({low:.2f} to {high:.2f}) |")
    return 0


def made_up(
    folder: Path, videos: int, frames: int, models: int
) -> tuple[fusion.HierarchicalEnsemble, fusion.Labels]:
    """Models that mostly agree with the labels, on smooth maps."""
    draw = np.random.default_rng(0)
    names = [f"class {c}" for c in range(CLASSES)]
    scenes = {(v, t): scene(draw) for v in range(videos) for t in range(frames)}
    for (video, frame), classes in scenes.items():
        zoom = np.kron(classes, np.ones((4, 4), np.uint8))
        write_labels(folder / "labels" / f"v{video}" / f"{frame}.png", zoom)
    for model in range(models):
        with fusion.LogitWriter(folder / f"net_{model}.zarr", names) as writer:
            for video in range(videos):
                ids = [str(t) for t in range(frames)]
                with writer.video(f"v{video}", frames=ids, size=SIZE) as out:
                    for t in range(frames):
                        noise = draw.normal(0, 2, (CLASSES, *NATIVE)).astype(np.float32)
                        here = np.arange(CLASSES)[:, None, None] == scenes[video, t]
                        out.append(noise + 6 * here)
    truth = fusion.Labels.folder(folder / "labels")
    return fusion.HierarchicalEnsemble(f"{folder}/*.zarr", device="cpu"), truth


def scene(draw: np.random.Generator) -> np.ndarray:
    """Classes uint8 [h, w] in blocks."""
    blocks = draw.integers(0, CLASSES, (-(-NATIVE[0] // 10), -(-NATIVE[1] // 10)))
    return np.kron(blocks, np.ones((10, 10)))[: NATIVE[0], : NATIVE[1]].astype(np.uint8)


def measured(
    ensemble: fusion.HierarchicalEnsemble, truth: fusion.Labels, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each contender in each round, after one round that does not count."""
    from distributed import LocalCluster

    os.environ["OMP_NUM_THREADS"] = "1"  # of workers, which are started from here on
    how = {"threads_per_worker": 1, "processes": True, "dashboard_address": ":0"}
    times: dict[str, list[float]] = {}
    with LocalCluster(n_workers=1, **how) as one, LocalCluster(n_workers=2, **how) as two:
        places = {"workers 1": one.scheduler_address, "workers 2": two.scheduler_address}
        expected = ensemble.evaluate(truth, scheduler="synchronous").confusions

        def evaluate(place: str) -> None:
            found = ensemble.evaluate(truth, scheduler=place).confusions
            assert list(found) == list(expected)
            assert all(np.array_equal(found[video], expected[video]) for video in expected)

        for turn in range(rounds + 1):
            for name, place in places.items():
                add(times, name, partial(evaluate, place), turn)
            for name, place in places.items():
                loops = partial(map_videos, spin, ["a", "b"], scheduler=place)
                add(times, name.replace("workers", "cores"), loops, turn)
            for name, run in sweeps(ensemble, truth, places["workers 2"]).items():
                add(times, name, run, turn)
    return times


def sweeps(
    ensemble: fusion.HierarchicalEnsemble, truth: fusion.Labels, place: str
) -> dict[str, Callable[[], object]]:
    """The same counts here and on a cluster, however few there are."""
    stores = ensemble.stores
    pair = ensemble.regrouped({"a": stores[::2], "b": stores[1::2]})
    here = condense_ensemble(pair, truth, cache=Path(stores[0].place).parent / "condensed")
    there, points = replace(here, scheduler=place), np.random.default_rng(0).random((WEIGHTINGS, 2))
    expected = here.miou(points)

    def sent() -> None:
        least, spread.LEAST = spread.LEAST, 0
        try:
            assert np.array_equal(there.miou(points), expected)
        finally:
            spread.LEAST = least

    return {"sweep 1": lambda: here.miou(points), "sweep 2": sent}


def add(times: dict[str, list[float]], name: str, run: Callable[[], object], turn: int) -> None:
    began = time.perf_counter()
    run()
    if turn:
        times.setdefault(name, []).append(time.perf_counter() - began)


def spin(_: str) -> int:
    """A core's work that touches no memory."""
    return sum(n & 7 for n in range(3_000_000))


if __name__ == "__main__":
    sys.exit(main())
