"""How often intervals hold what they promise: made-up populations of known truth, and camvid22.

python -m benchmarks.intervals [--objective NAME] [--repetitions N] [--json]

Samples of V videos are drawn from populations of 600 units; 95 % intervals of each candidate are
asked for the population's score (`score`), the score of as many other videos (`new`), and the gain
of one model over another of exactly the same quality (`claims`: positive gains that are called
distinguishable from zero). With SEGFUSION_DATA: prediction intervals from every half of camvid22's
ten clips, asked for the other half's score, over its 22 networks and their mean.

V videos, U units, C classes, S samples of a bootstrap.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fusion.metrics import intervals
from fusion.metrics.intervals import Interval
from fusion.metrics.objectives import Objective, objective

CLASSES, POPULATION, PIXELS, LEVEL, DRAWS = 11, 600, 1e5, 0.95, 1000
# videos, clips per unit, rare classes: each lives in 6 to 15 % of the units
SCENES = [(v, 1, rare) for v in (5, 9, 18, 40) for rare in (0, 4)] + [(18, 3, 2), (39, 3, 2)]
NORMAL = NormalDist()

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]  # scores [S] under how often units were drawn [S, U]


def population(rng: np.random.Generator, clips: int, rare: int) -> NDArray[np.int64]:
    """Matrices [2, V, C, C] of two models on the same videos; clips of a unit are alike."""
    units = np.repeat(np.arange(POPULATION), clips)
    frequency = np.exp(rng.normal(0, 1, CLASSES))
    lives = rng.random((POPULATION, CLASSES)) < 1
    lives[:, CLASSES - rare :] = rng.random((POPULATION, rare)) < rng.uniform(0.06, 0.15, rare)
    share = rng.gamma(1.0, size=(POPULATION, CLASSES))[units] if clips > 1 else 1.0
    rows = frequency * lives[units] * share * rng.gamma(1.2, size=(len(units), CLASSES))
    rows = np.round(rows / rows.sum(axis=1, keepdims=True) * PIXELS)
    ease = rng.normal(1.2, 0.8, CLASSES) + rng.normal(0, 0.6, POPULATION)[units][:, None]
    made = []
    for _ in range(2):
        skill = ease + rng.normal(0, 0.25, (POPULATION, CLASSES))[units]
        right = np.round(rows / (1 + np.exp(-skill - rng.normal(0, 0.15, rows.shape))))
        spill = rows * 0.8 + 0.2 * frequency / frequency.sum() * PIXELS * lives[units]
        spill = spill[:, None] * (1 - np.eye(CLASSES))
        spill /= np.maximum(spill.sum(axis=2, keepdims=True), 1e-9)
        matrices = np.round((rows - right)[:, :, None] * spill).astype(np.int64)
        matrices[:, range(CLASSES), range(CLASSES)] = right
        made.append(matrices)
    return np.stack(made)


def drawn(units: int, seed: int = 0) -> Floats:
    draws = np.random.default_rng(seed).integers(0, units, (DRAWS, units))
    return np.stack([np.bincount(draw, minlength=units) for draw in draws]).astype(np.float64)


def quantiles(values: Floats, shares: list[float]) -> Interval:
    low, high = np.quantile(values[~np.isnan(values)], shares)
    return float(low), float(high)


def percentile(scores: Statistic, units: int) -> Interval:
    """Efron and Tibshirani, chapter 13: what the library printed until now."""
    return quantiles(scores(drawn(units)), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])


def bca(scores: Statistic, units: int) -> Interval:
    """Bias-corrected and accelerated, chapter 14.3."""
    values, whole = scores(drawn(units)), scores(np.ones((1, units)))[0]
    without = scores(1 - np.eye(units))
    below = ((values < whole).mean() + (values <= whole).mean()) / 2
    bias = NORMAL.inv_cdf(min(max(below, 0.5 / DRAWS), 1 - 0.5 / DRAWS))
    away = without.mean() - without
    bend = (away**3).sum() / (6 * (away**2).sum() ** 1.5) if away.any() else 0.0
    ends = [bias + NORMAL.inv_cdf((1 + sign * LEVEL) / 2) for sign in (-1, 1)]
    return quantiles(values, [NORMAL.cdf(bias + end / (1 - bend * end)) for end in ends])


def studentised(scores: Statistic, units: int) -> Interval:
    """Bootstrap t, chapter 12.5, with the jackknife's error of each draw."""

    def error(times: Floats) -> Floats:
        left = times[:, None] - np.eye(units) * (times > 0)[:, None]
        without = scores(left.reshape(-1, units)).reshape(times.shape)
        mean = (times * without).sum(axis=1, keepdims=True) / units
        return np.sqrt((units - 1) / units * (times * (without - mean) ** 2).sum(axis=1))

    times, whole = drawn(units)[:300], scores(np.ones((1, units)))[0]
    errors, mine = error(times), error(np.ones((1, units)))[0]
    kept = errors > 1e-12
    low, high = quantiles(
        (scores(times[kept]) - whole) / errors[kept], [(1 + LEVEL) / 2, (1 - LEVEL) / 2]
    )
    return whole - low * mine, whole - high * mine


def bootstrap_prediction(scores: Statistic, units: int) -> Interval:
    """Percentiles of the difference of two bootstraps, around the score."""
    spread = quantiles(
        scores(drawn(units, 1)) - scores(drawn(units)), [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    )
    whole = scores(np.ones((1, units)))[0]
    return whole + spread[0], whole + spread[1]


BOOTSTRAPS = {"percentile": percentile, "BCa": bca, "studentised": studentised}


def held(scene: tuple[int, int, int], wanted: Objective, repetitions: int) -> dict[str, float]:
    """Percent of the samples in which each promise was kept, and the widths of score intervals."""
    videos, clips, rare = scene
    rng, seen = np.random.default_rng(scene), defaultdict(list)
    units = np.repeat(np.arange(videos // clips), clips)
    member = (units == np.arange(videos // clips)[:, None]).astype(np.float64)
    for repetition in range(repetitions):
        if repetition % 20 == 0:
            both = population(rng, clips, rare)
            truth = wanted.of(np.concatenate(both))
        pick = rng.choice(POPULATION, 2 * len(member), replace=False)
        places = (pick[:, None] * clips + np.arange(clips)).reshape(2, -1)
        swap = (rng.random(len(member)) < 0.5)[units][:, None, None]
        a, b = (both[model, places[0]] for model in (0, 1))
        mine, other, new = np.where(swap, b, a), np.where(swap, a, b), wanted.of(both[0, places[1]])

        def score(t: Floats, mine: NDArray[np.int64] = mine) -> Floats:
            return wanted.resampled(mine, t @ member)

        def gain(t: Floats, other: NDArray[np.int64] = other) -> Floats:
            return score(t) - wanted.resampled(other, t @ member)

        found = {name: how(score, len(member)) for name, how in BOOTSTRAPS.items()}
        found["jackknife t"] = intervals.interval(mine, wanted, LEVEL, units=units.tolist())
        gains = {name: how(gain, len(member)) for name, how in BOOTSTRAPS.items()}
        paired = intervals.difference_interval(mine, other, wanted, LEVEL, units=units.tolist())
        gains["jackknife t"] = paired
        predicted = {"percentile": found["percentile"]}
        predicted["two bootstraps"] = bootstrap_prediction(score, len(member))
        foreseen = intervals.prediction_interval(mine, wanted, units=units.tolist())
        predicted["jackknife t"] = foreseen
        for name, (low, high) in found.items():
            seen[f"score, {name}"].append(low <= truth <= high)
            seen[f"width, {name}"].append(high - low)
        for name, (low, high) in predicted.items():
            seen[f"new, {name}"].append(low <= new <= high)
        for name, (low, _) in gains.items():
            seen[f"claims, {name}"].append(low > 0)
    return {name: 100 * float(np.mean(values)) for name, values in seen.items()}


def camvid22(folder: Path) -> NDArray[np.int64]:
    """Matrices [23, V, C, C] of each network, and of the mean of all, on each clip."""
    import torch
    from PIL import Image

    from fusion import kernels
    from fusion.metrics import confusion

    meta = json.loads((folder / "meta.json").read_text())
    networks, clips = [np.load(folder / f"{name}.npz") for name in meta["models"]], meta["videos"]
    found = np.zeros((len(networks) + 1, len(clips), CLASSES, CLASSES), np.int64)
    for v, (clip, frames) in enumerate(clips.items()):
        archives = [network[clip] for network in networks]
        for t, frame in enumerate(frames):
            target = np.array(Image.open(folder / "labels" / clip / f"{frame}.png"))
            codes = [torch.from_numpy(archive[t]) for archive in archives]
            for m, some in enumerate([*([each] for each in codes), codes]):
                labels = kernels.upsample_softmax_average(
                    some, [1.0] * len(some), target.shape
                ).labels
                found[m, v] += confusion(target, labels.numpy(), CLASSES)
    return found


def halves(matrices: NDArray[np.int64], wanted: Objective) -> dict[str, float]:
    """Percent of halves of the clips whose interval holds the other half's score."""
    seen = defaultdict(list)
    every = set(range(matrices.shape[1]))
    for some in itertools.combinations(sorted(every), len(every) // 2):
        for network in matrices:
            mine, new = network[list(some)], wanted.of(network[sorted(every - set(some))])
            scores = lambda t, mine=mine: wanted.resampled(mine, t)  # noqa: E731
            predicted = {"percentile": percentile(scores, len(mine))}
            predicted["two bootstraps"] = bootstrap_prediction(scores, len(mine))
            predicted["jackknife t"] = intervals.prediction_interval(mine, wanted)
            for name, (low, high) in predicted.items():
                seen[f"new, {name}"].append(low <= new <= high)
                seen[f"width, {name}"].append(high - low)
    return {name: 100 * float(np.mean(values)) for name, values in seen.items()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.intervals")
    parser.add_argument("--objective", default="vspw")
    parser.add_argument("--repetitions", type=int, default=600, help="samples of each scene")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args(arguments)
    wanted, found = objective(options.objective), {}
    for scene in SCENES:
        videos, clips, rare = scene
        name = f"{videos} videos in {videos // clips} units, {rare} rare classes"
        found[name] = held(scene, wanted, options.repetitions)
    folder = Path(os.environ.get("SEGFUSION_DATA", ""))
    if (folder / "meta.json").is_file():
        found["camvid22, halves of ten clips"] = halves(camvid22(folder), wanted)
    else:
        print("camvid22: left out, SEGFUSION_DATA names no folder with it", file=sys.stderr)
    lines = [
        f"{n}:\n" + "\n".join(f"  {k:<24} {v:.1f}" for k, v in r.items()) for n, r in found.items()
    ]
    print(json.dumps(found, indent=2) if options.json else "\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
