"""Connected components of label maps, all classes in one pass, beside scipy's class by class.

python -m benchmarks.components [--rounds N] [--json]

`frame`: the labels of simulated networks that mostly agree, 124 classes, 480 x 853. `specks`: the
same with noise at every tenth pixel. `volume`: 5 organs in 64 slices of 256 x 256. All contenders
have to find as many components of the same sizes before anything is timed. `operation` is
small-components, labelling included.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.measure import Row, environment, interleaved, quantiles
from benchmarks.simulated import agreeing
from fusion.postprocess import Frame, Video
from fusion.postprocess.components import Table, marks
from fusion.postprocess.small_components import SmallComponents
from fusion.text import table

CPU = torch.device("cpu")
Labels = NDArray[np.uint8]


def frame(seed: int = 0) -> Labels:
    """[1, 480, 853], 124 classes of which a tenth is there."""
    (logits,) = agreeing(1, 124, (480, 853), seed)
    return logits.argmax(0).numpy().astype(np.uint8)[None]


def specks(seed: int = 0) -> Labels:
    labels, draw = frame(seed), np.random.default_rng(seed)
    noise = draw.random(labels.shape) < 0.1
    return np.where(noise, draw.choice(np.unique(labels), labels.shape), labels).astype(np.uint8)


def volume(seed: int = 0) -> Labels:
    """[64, 256, 256]: smooth fields above a level, in background."""
    draw = np.random.default_rng(seed)
    fields = [ndimage.zoom(draw.normal(size=(8, 16, 16)), (8, 16, 16), order=1) for _ in range(5)]
    best = np.argmax(fields, axis=0)
    return np.where(np.max(fields, axis=0) > 0.9, best + 1, 0).astype(np.uint8)


CASES: dict[str, Callable[[], Labels]] = {"frame": frame, "specks": specks, "volume": volume}


def by_table(labels: Labels) -> NDArray[np.int64]:
    """Sizes of all components, in order."""
    made = Table(26 if len(labels) > 1 else 8)
    for plane in labels:
        made.add(marks(plane))
    found = made.finish()
    whole = (found.root == np.arange(len(found.root))) & (found.label >= 0)
    return np.sort(found.size[whole])


def by_scipy(labels: Labels) -> NDArray[np.int64]:
    """The same, one class after the other."""
    block = labels if len(labels) > 1 else labels[0]
    touching = np.ones((3,) * block.ndim)
    sizes = []
    for label in np.unique(block):
        ids, number = ndimage.label(block == label, touching)
        sizes.append(np.bincount(ids.ravel(), minlength=number + 1)[1:])
    return np.sort(np.concatenate(sizes))


def operation(labels: Labels) -> int:
    """small-components of these, to the end."""
    names, size = tuple(f"{z:03d}" for z in range(len(labels))), labels.shape[1:]
    video = Video("v", names, (size[0], size[1]), tuple(map(str, range(124))))
    small = SmallComponents(pixels=100, dimensions=3 if len(labels) > 1 else 2)
    frames = (Frame(name, plane) for name, plane in zip(names, labels, strict=True))
    return sum(1 for _ in small.apply(frames, video))


def measured(rounds: int) -> Iterator[Row]:
    """All contenders on all cases."""
    for case, make in CASES.items():
        labels = make()
        runs: dict[str, Callable[[], object]] = {
            "table": lambda x=labels: by_table(x),
            "scipy": lambda x=labels: by_scipy(x),
            "operation": lambda x=labels: operation(x),
        }
        if not np.array_equal(by_table(labels), by_scipy(labels)):
            yield Row(case, "table", "other components")
            continue
        for name, times in interleaved(runs, rounds, CPU).items():
            low, median, high = quantiles(times)
            yield Row(case, name, "ok", median, low, high)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    rows = list(measured(given.rounds))
    if given.json:
        print(json.dumps({**environment(CPU), "rows": [vars(row) for row in rows]}, indent=1))
        return 0
    cells = [
        [row.case, row.contender, row.status]
        + [f"{ms:.1f}" if ms is not None else "" for ms in (row.median_ms, row.p20_ms, row.p80_ms)]
        for row in rows
    ]
    print(table(cells, ["case", "contender", "status", "median ms", "p20", "p80"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
