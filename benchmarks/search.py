"""Weight search on contested pixels against evaluating every weighting from cached group means.

python -m benchmarks.search [--case simulated|camvid22] [--frames N] [--points K] [--json]

Both sides start from group means [G, C, P] in memory at label resolution. Brute force is what one
would write with torch: weighted sum, argmax, bincount, over pixels that are not void. The other
side condenses (its time included), then counts all grid points at once. The confusion matrices of
all points must be the same, cell for cell, or no speed is printed. camvid22 needs SEGFUSION_DATA: a
folder with <model>.npz, meta.json and labels/.

G groups, C classes, P pixels, K grid points.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.simulated import agreeing
from fusion import kernels
from fusion.contested import Builder, Condensed, condense
from fusion.kernels.arithmetic import normalised
from fusion.search.grid import grid_axes

STRONG = (
    "espnetv2_2.0_1024x512_at_1024x512",
    "espnetv2_1.5_1024x512_at_1024x512",
    "espnetv2_1.5_1024x512_at_512x384",
)
AUXILIARY = 6
REPEATS = 21  # of the single-vector timing

Frame = tuple[Tensor, Tensor]  # group means [G, C, P], targets [P] uint8


@dataclass(frozen=True)
class Outcome:
    """What one case took, in seconds; ratios say how many times faster the condensed side is."""

    case: str
    pixels: int
    classes: int
    points: int
    contested: float
    candidates: float
    brute_force_grid: float
    brute_force_point: float
    condensing: float
    condensed_grid: float
    condensed_point: float
    grid_ratio: float
    point_ratio: float
    vectors_per_second: float
    same_matrices: bool


def simulated(
    frames: int, size: tuple[int, int] = (120, 214), classes: int = 124, models: int = 22
) -> Iterator[Frame]:
    """Frames of 22 models that mostly agree, in groups of 3, 13 and 6; targets are what one of the
    models says, a tenth of them void."""
    groups = [
        list(range(3)),
        list(range(3, models - AUXILIARY)),
        list(range(models - AUXILIARY, models)),
    ]
    for frame in range(frames):
        logits = agreeing(models, classes, size, seed=frame)
        fused = kernels.softmax_average(logits, [1.0] * 3, groups=groups, outputs=("group_means",))
        targets = logits[3].argmax(dim=0).to(torch.uint8)
        targets[torch.rand(size, generator=torch.Generator().manual_seed(frame)) < 0.1] = 255
        assert fused.group_means is not None
        yield fused.group_means.flatten(2), targets.flatten()


def camvid22(frames: int, size: tuple[int, int] = (360, 480)) -> Iterator[Frame]:
    """Frames of 22 real networks, evenly spread over all clips, in the paper's groups; nothing
    without SEGFUSION_DATA."""
    from PIL import Image

    folder = Path(os.environ.get("SEGFUSION_DATA", ""))
    if not (folder / "meta.json").is_file():
        return
    meta = json.loads((folder / "meta.json").read_text())
    basic = [name for name in meta["models"] if name.startswith("espnet")]
    other = [name for name in meta["models"] if not name.startswith("espnet")][-AUXILIARY:]
    members = [*STRONG, *(name for name in basic if name not in STRONG), *other]
    groups = [
        list(range(len(STRONG))),
        list(range(len(STRONG), len(basic))),
        list(range(len(basic), len(members))),
    ]
    archives = {name: np.load(folder / f"{name}.npz") for name in members}
    every = [
        (video, index, frame)
        for video, names in meta["videos"].items()
        for index, frame in enumerate(names)
    ]
    for place in np.linspace(0, len(every) - 1, min(frames, len(every))).astype(int):
        video, index, frame = every[place]
        codes = [torch.from_numpy(archives[name][video][index]) for name in members]
        fused = kernels.upsample_softmax_average(
            codes, [1.0] * 3, size, groups=groups, outputs=("group_means",)
        )
        targets = torch.from_numpy(np.array(Image.open(folder / "labels" / video / f"{frame}.png")))
        assert fused.group_means is not None
        yield fused.group_means.flatten(2), targets.flatten()


CASES: dict[str, tuple[Callable[[int], Iterator[Frame]], int]] = {
    "simulated": (simulated, 4),
    "camvid22": (camvid22, 6),
}


def brute_force(means: Tensor, targets: Tensor, weights: list[float]) -> Tensor:
    """One weighting from group means [G, C, P]: int64 [C, C]."""
    first, *rest = normalised(weights)
    scores = means[0] * first
    for mean, weight in zip(means[1:], rest, strict=True):
        scores = scores + mean * weight
    counted = targets != 255
    classes = means.shape[1]
    cells = targets[counted].to(torch.int64) * classes + scores.argmax(dim=0)[counted]
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def timed(task: Callable[[], object]) -> float:
    began = time.perf_counter()
    task()
    return time.perf_counter() - began


def condensed_of(means: Tensor, targets: Tensor) -> Condensed:
    builder = Builder(("strong", "weak", "auxiliary"), [str(c) for c in range(means.shape[1])])
    builder.append("all", condense(means, targets, means.shape[1], ignore=255))
    return builder.finish()


def measure(case: str, frames: list[Frame], points: list[list[float]]) -> Outcome:
    """Runs both sides on the same arrays."""
    means, targets = torch.cat([f[0] for f in frames], dim=2), torch.cat([f[1] for f in frames])
    brute_force(means, targets, points[0])  # warm
    slow, slow_times = [], []
    for weights in points:
        began = time.perf_counter()
        slow.append(brute_force(means, targets, weights).numpy())
        slow_times.append(time.perf_counter() - began)
    condensed_of(
        means[:, :, :2048].contiguous(), targets[:2048]
    )  # builds and loads the compiled kernels
    condensing = statistics.median(timed(lambda: condensed_of(means, targets)) for _ in range(3))
    condensed = condensed_of(means, targets)
    weights = np.array(points)
    fast = condensed.confusions(weights)
    grid_time = statistics.median(timed(lambda: condensed.confusions(weights)) for _ in range(3))
    point_time = statistics.median(
        timed(lambda: condensed.confusions([[1.0, 1.4, 1.0]])) for _ in range(REPEATS)
    )
    point = statistics.median(slow_times)
    return Outcome(
        case=case,
        pixels=condensed.scored,
        classes=means.shape[1],
        points=len(points),
        contested=condensed.fraction,
        candidates=condensed.candidates / max(condensed.contested, 1),
        brute_force_grid=sum(slow_times),
        brute_force_point=point,
        condensing=condensing,
        condensed_grid=grid_time,
        condensed_point=point_time,
        grid_ratio=sum(slow_times) / (condensing + grid_time),
        point_ratio=point / point_time,
        vectors_per_second=len(points) / grid_time,
        same_matrices=bool(np.array_equal(fast, np.stack(slow))),
    )


def grid_points(limit: int) -> list[list[float]]:
    """The 441 points of the default grid, or `limit` of them."""
    first, alpha, beta = grid_axes(("strong", "weak", "auxiliary"), {})
    points = [[first[0], a, b] for a in alpha for b in beta]
    return [points[i] for i in np.linspace(0, len(points) - 1, min(limit, len(points))).astype(int)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument("--case", choices=tuple(CASES), action="append", help="default: all")
    parser.add_argument(
        "--frames", type=int, help="frames per case (default 4 simulated ones, 6 real ones)"
    )
    parser.add_argument("--points", type=int, default=441, help="grid points (default 441)")
    parser.add_argument("--json", action="store_true", help="one JSON list on stdout")
    options = parser.parse_args(arguments)
    outcomes = []
    for name in options.case or CASES:
        make, usual = CASES[name]
        frames = list(make(options.frames or usual))
        if not frames:
            print(
                f"{name}: left out, SEGFUSION_DATA names no folder with its files", file=sys.stderr
            )
            continue
        outcomes.append(measure(name, frames, grid_points(options.points)))
        if not outcomes[-1].same_matrices:
            print(f"{name}: the confusion matrices differ; no speed is reported", file=sys.stderr)
            return 1
    print(
        json.dumps([asdict(o) for o in outcomes], indent=2)
        if options.json
        else "\n\n".join(map(text, outcomes))
    )
    return 0


def text(o: Outcome) -> str:
    pixels = f"{o.contested:.1%} contested with {o.candidates:.2f} candidates each"
    brute = f"brute force {o.brute_force_grid:.2f} s"
    condensed = f"condensed {o.condensing:.3f} s + {o.condensed_grid:.3f} s"
    point = f"brute force {o.brute_force_point * 1e3:.1f} ms"
    counted = f"condensed {o.condensed_point * 1e3:.3f} ms: {o.point_ratio:.0f}x"
    return (
        f"{o.case}: {o.pixels} pixels, {o.classes} classes, {pixels}\n"
        f"  grid of {o.points}: {brute}, {condensed}: {o.grid_ratio:.0f}x, same matrices\n"
        f"  one weighting: {point}, {counted};"
        f" {o.vectors_per_second:.0f} weightings per second in a batch"
    )


if __name__ == "__main__":
    sys.exit(main())
