"""Counting and mIoU of label maps beside what other libraries do.

python -m benchmarks.metrics [--frames N] [--rounds N] [--quick] [--json]

`counts`: a confusion matrix of 124 classes over label maps of 480 x 853, a fifth of them void.
`miou`: from the same maps to the mean IoU over classes that are there. Before anything is timed the
counts have to be those of the oracle, cell for cell, and the mIoU within 1e-6 of theirs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks import measure, peers
from fusion.kernels.confusion import naive
from fusion.metrics.confusion import confusion, miou
from fusion.text import table

CPU = torch.device("cpu")
SIZE, CLASSES = (480, 853), 124
SAME = 1e-6  # of an mIoU; torchmetrics works it out in float32
Maps = tuple[np.ndarray, np.ndarray, int]  # targets, labels [T, H, W], C
Contenders = dict[str, Callable[..., Any]]


@dataclass(frozen=True)
class Row(measure.Row):
    """With the rate."""

    pixels_per_s: float | None = None
    times_fusion: float | None = None


def label_maps(frames: int, size: tuple[int, int], classes: int) -> Maps:
    """Stripes of labels, as objects are, of which a tenth is wrong, and a fifth of void."""
    draw = np.random.default_rng(0)
    shape = (frames, *size)
    coarse = draw.integers(0, classes, (frames, -(-size[0] // 16), -(-size[1] // 16)))
    blocks = coarse.repeat(16, 1).repeat(16, 2)[:, : size[0], : size[1]]
    labels = np.where(draw.random(shape) < 0.1, draw.integers(0, classes, shape), blocks)
    targets = np.where(draw.random(shape) < 0.2, 255, blocks)
    return targets.astype(np.uint8), labels.astype(np.uint8), classes


def scored(targets: np.ndarray, labels: np.ndarray, classes: int) -> float:
    return float(miou(confusion(targets, labels, classes)))


def cases() -> dict[str, Contenders]:
    """This library first."""
    return {
        "counts": {"fusion": confusion, **peers.present(peers.COUNTS)},
        "miou": {"fusion": scored, **peers.present(peers.MIOU)},
    }


def right(case: str, made: Any, counts: np.ndarray) -> bool:
    """Whether an answer is the oracle's."""
    if case == "counts":
        return np.array_equal(np.asarray(made), counts)
    inside, either = np.diag(counts), counts.sum(0) + counts.sum(1) - np.diag(counts)
    there = either > 0
    return abs(made - float(np.mean(inside[there] / either[there]))) < SAME


def measured(maps: Maps, rounds: int) -> Iterator[Row]:
    """All contenders on both cases."""
    targets, labels, classes = maps
    counts = naive.confusion(torch.from_numpy(targets), torch.from_numpy(labels), classes).numpy()
    for case, contenders in cases().items():
        sound = {}
        for name, run in contenders.items():
            if right(case, run(*maps), counts):
                sound[name] = partial(run, *maps)
            else:
                yield Row(case, name, "wrong: not what the oracle counts")
        times = measure.interleaved(sound, rounds, CPU)
        own = measure.quantiles(times["fusion"])[1] if "fusion" in times else None
        for name, elapsed in times.items():
            low, median, high = measure.quantiles(elapsed)
            rate, ratio = 1000 * targets.size / median, own / median if own else None
            yield Row(case, name, "ok", median, low, high, rate, ratio)


def cells(row: Row) -> list[str]:
    if row.median_ms is None or row.pixels_per_s is None:
        return [row.case, row.contender, row.status, "", "", "", "", ""]
    times = [f"{ms:.2f}" for ms in (row.median_ms, row.p20_ms, row.p80_ms) if ms is not None]
    slower = f"{1 / row.times_fusion:.1f}x" if row.times_fusion else ""
    return [
        *(row.case, row.contender, row.status, *times),
        *(f"{row.pixels_per_s / 1e6:.1f}", slower),
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.metrics", description="Counting and mIoU beside their peers."
    )
    parser.add_argument("--frames", type=int, default=5, help="label maps (default 5)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="tiny maps: everything runs")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    maps = label_maps(2, (30, 50), 7) if given.quick else label_maps(given.frames, SIZE, CLASSES)
    rows = list(measured(maps, 2 if given.quick else given.rounds))
    if given.json:
        print(json.dumps({**measure.environment(CPU), "rows": [vars(r) for r in rows]}, indent=1))
    else:
        heads = ["case", "contender", "status", "median ms", "p20", "p80", "Mpx/s", "slower"]
        print(table(list(map(cells, rows)), heads))
    return int(any(row.status != "ok" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
