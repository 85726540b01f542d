"""Does `auto` leave heads alone where they have nothing to learn, and use them where they have?

python -m benchmarks.learned [--scene NAME] [--repetitions N] [--videos N] [--quick] [--json]

Searches by `auto`, without certificates, on samples of videos of made-up populations; what they
recommend, and every rung of their ladder, is scored on fresh videos of the same population. Cells
are label pixels: nothing is interpolated. Five classes, all alike in the population.

    level      One posterior q, a smooth field; labels are drawn from it. Networks say q times
               log-normal noise that is smooth and each network's own, stronger in some videos than
               in others, scaled (Sinkhorn) until each sums to 1 and their mean is q. So q is the
               posterior of everything that they say, the arithmetic mean under uniform weights is
               q, and no fusion of any kind has a lower cross-entropy or fewer mistakes; nor, since
               classes are alike, a higher mean IoU.
    experts    Calibrated networks whose evidence is independent given the label. The posterior is
               the product of what they say, so that a sum of log-probabilities is right, and the
               arithmetic mean is not: a head has something to learn, if little.
    confused   As level, but three networks say class 1 where they should say class 0, the fourth
               says class 3 where it should say class 2: more of it in some videos than in others.
               Class multipliers make good for most of that.
    swapped    The same both ways round: no multiplier helps, only what looks at other classes.

`most`: what heads trained on so many other videos gain on the fresh ones: what there is to learn.
Losses in points of mIoU (vspw).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fusion
from fusion.contested.maps import Maps, VideoMaps
from fusion.ensemble.heads import HEADS
from fusion.kernels.resized import MAP_STEPS, Frames, stepped
from fusion.labels import write_labels
from fusion.metrics import Scores
from fusion.search.learned.cells import Cells, Sample
from fusion.search.learned.fit import Training
from fusion.search.method import Problem

MODELS, CLASSES, FRAMES, SIZE = 4, 5, 3, (16, 24)
NAMES = [f"net {m}" for m in range(MODELS)], [f"class {c}" for c in range(CLASSES)]
FRESH, MOST = 80, 160  # videos that judge; videos of `most`
ENOUGH = 0.2  # points that a recommendation may lose
SINKHORN = 60  # rounds

Floats = NDArray[np.float64]


def smooth(rng: np.random.Generator, *shape: int) -> Floats:
    """Fields [..., h, w] of standard deviation 1, in blobs of some cells."""
    coarse = torch.from_numpy(rng.normal(size=(int(np.prod(shape)), 1, 4, 6)))
    fine = torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic")
    fields = fine.numpy().reshape(*shape, *SIZE)
    return fields / fields.std()


def softmax(logits: Floats, axis: int) -> Floats:
    odds = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return odds / odds.sum(axis=axis, keepdims=True)


def level(rng: np.random.Generator) -> tuple[Floats, NDArray[np.uint8]]:
    """Probabilities [T, M, C, h, w] and labels [T, h, w] of a video."""
    doubt = rng.uniform(0.5, 2.0)  # a video is easy or hard
    bent = rng.normal(0, 1.0, (1, CLASSES, 1, 1))  # and has more of some classes
    q = softmax((2.5 * smooth(rng, FRAMES, CLASSES) + bent) / doubt, axis=1)
    strength = rng.uniform(0.3, 1.5, (1, MODELS, 1, 1, 1))
    said = q[:, None] * np.exp(strength * smooth(rng, FRAMES, MODELS, CLASSES))
    for _ in range(SINKHORN):
        said /= said.sum(axis=2, keepdims=True)
        said *= (q / said.mean(axis=1))[:, None]
    return said, drawn(rng, q)


def drawn(rng: np.random.Generator, q: Floats) -> NDArray[np.uint8]:
    """A label of each cell, from its posterior [T, C, h, w]."""
    below = q.cumsum(axis=1) < rng.random((len(q), 1, *SIZE))
    return np.minimum(below.sum(axis=1), CLASSES - 1).astype(np.uint8)


def experts(rng: np.random.Generator) -> tuple[Floats, NDArray[np.uint8]]:
    """Each sees the label through Gaussian noise of its own, and knows how strong that is."""
    labels = smooth(rng, FRAMES, CLASSES).argmax(axis=1).astype(np.uint8)
    sight = rng.uniform(0.7, 1.3, (1, MODELS, 1, 1, 1))
    seen = np.eye(CLASSES)[labels].transpose(0, 3, 1, 2)[:, None] * sight
    seen = seen + rng.normal(size=(FRAMES, MODELS, CLASSES, *SIZE))
    return softmax(sight * seen, axis=2), labels


def confused(rng: np.random.Generator) -> tuple[Floats, NDArray[np.uint8]]:
    """Part of what they say of one class goes to another."""
    said, labels = level(rng)
    part = rng.uniform(0.5, 1.0)
    for model in range(MODELS):
        false, right = (3, 2) if model == MODELS - 1 else (1, 0)
        moved = part * said[:, model, right]
        said[:, model, false] += moved
        said[:, model, right] -= moved
    return said, labels


def swapped(rng: np.random.Generator) -> tuple[Floats, NDArray[np.uint8]]:
    """Part of what they say of two classes is the other's."""
    said, labels = level(rng)
    part = rng.uniform(0.6, 1.0)
    for model in range(MODELS):
        pair = [2, 3] if model == MODELS - 1 else [0, 1]
        said[:, model, pair] += part * (said[:, model, pair[::-1]] - said[:, model, pair])
    return said, labels


SCENES = {"level": level, "experts": experts, "confused": confused, "swapped": swapped}


def population(name: str, videos: int, seed: int) -> Maps:
    """Videos of a scene, in memory."""
    pixels = []
    for video in range(videos):
        said, labels = SCENES[name](np.random.default_rng([seed, video]))
        maps = stepped(np.ascontiguousarray(said, np.float32).clip(0, 1), MAP_STEPS)
        pixels.append(VideoMaps.held(Frames(maps, labels, SIZE)))
    names = tuple(f"video {video:03d}" for video in range(videos))
    return Maps(tuple(NAMES[0]), tuple(NAMES[1]), names, tuple(pixels))


def written(maps: Maps, folder: Path) -> fusion.HierarchicalEnsemble:
    """The same as stores of logits, a group each, beside their labels."""
    whole = {
        name: next(pixels.frames()) for name, pixels in zip(maps.videos, maps.pixels, strict=True)
    }
    for name, frames in whole.items():
        for t, labels in enumerate(frames.targets):
            write_labels(folder / "labels" / name / f"{t}.png", labels)
    groups = {}
    for m, model in enumerate(maps.groups):
        path = folder / f"{model}.zarr"
        with fusion.LogitWriter(path, list(maps.classes), profile="exact") as writer:
            for name, frames in whole.items():
                with writer.video(name, frames=[str(t) for t in range(FRAMES)], size=SIZE) as out:
                    for said in frames.maps[:, m]:
                        out.append(np.log(np.maximum(said, 2.0**-24)))
        groups[model] = [path]
    return fusion.HierarchicalEnsemble(groups)


def most(name: str, videos: int, fresh: Maps, seed: int) -> dict[str, float]:
    """Gain over uniform weights, in points, of heads with so many videos to learn from."""
    maps, found = population(name, videos, seed), {}
    cells = Cells(maps, 60_000, 0, torch.device("cpu"))
    sample = Sample.joined([cells.samples[video] for video in maps.videos])
    judge = Problem(fresh, cells=lambda: Cells.within(fresh))
    below, training = None, Training(judge.objective, 1.0, torch.device("cpu"))
    for form in (HEADS["log"], HEADS["mix"]):
        fit = training.path(form, below, sample, form.strengths)[-1]
        below, head = fit.arrays, form(fresh.groups, fresh.classes, fit.arrays)
        score = judge.under(head).scores([1.0]).score
        found[form.name] = 100 * (score - judge.uniform.score)
    return found


def searched(name: str, videos: int, seed: int, there: Path, uniform: float) -> dict[str, Any]:
    """One search: what it recommends, and points over uniform weights of it all on fresh videos."""
    began, truth = time.monotonic(), fusion.Labels.folder(there / "labels")
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        ensemble = written(population(name, videos, seed), here)
        result = ensemble.search(fusion.Labels.folder(here / "labels"), "auto", seed=seed, gap=None)
        seconds = time.monotonic() - began
        gains: dict[str, float] = {}
        every = {rung: each.ensemble for rung, each in result.rungs.items()}
        for rung, each in {**every, "recommended": result.recommended}.items():
            each.save(here / "best.json")
            fresh = fusion.HierarchicalEnsemble.load(here / "best.json", stores=there)
            gains[rung] = 100 * (fresh.evaluate(truth).miou - uniform)
    held = {n: 100 * scores.score for n, scores in result.held_out.contenders.items()}
    said = {"recommended": result.verdict.recommended, "found": result.notes["rung"]}
    gain = result.verdict.gain
    said |= {"claims": gain.value > 0 and gain.distinguishable}
    return {**said, "gains": gains, "held": held, "seconds": seconds}


def scene(name: str, repetitions: int, videos: int, fresh: int, many: int) -> dict[str, Any]:
    """All searches of a scene."""
    maps = population(name, fresh, 10_000)
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder)
        uniform: Scores = written(maps, there).evaluate(fusion.Labels.folder(there / "labels"))
        rows = []
        for seed in range(repetitions):
            rows.append(searched(name, videos, seed, there, uniform.score))
            said = rows[-1]["recommended"], round(rows[-1]["gains"]["recommended"], 2)
            print(f"{name} {seed}: {said}, {rows[-1]['seconds']:.0f} s", file=sys.stderr)
    known = {"uniform": 100 * uniform.score, "most": most(name, many, maps, 20_000)}
    return {**known, "rows": rows}


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """For people, in Markdown."""
    head = ["population", "uniform", "there is to learn: log, mix", "searches", "recommended"]
    head += ["points over uniform, recommended: mean, worst"]
    head += ["weights and multipliers", "log", "mix"]
    lines = [head, ["---"] * len(head)]
    for name, each in found.items():
        rows, there = each["rows"], [f"{gain:+.2f}" for gain in each["most"].values()]
        chosen = Counter(row["recommended"] for row in rows)
        said = ", ".join(f"{what} {number}" for what, number in chosen.most_common())
        gains = [row["gains"]["recommended"] for row in rows]
        line = [name, f"{each['uniform']:.1f}", ", ".join(there), str(len(rows)), said]
        line.append(f"{np.mean(gains):+.2f}, {min(gains):+.2f}")
        rungs = [rung for rung in rows[0]["gains"] if rung != "recommended"]
        means = [np.mean([row["gains"][rung] for row in rows]) for rung in rungs]
        lines.append(line + [f"{mean:+.2f}" for mean in means])
    said = ["| " + " | ".join(line) + " |" for line in lines]
    for name, each in found.items():
        simple = sum("head" not in row["recommended"] for row in each["rows"])
        lost = sum(row["gains"]["recommended"] < -ENOUGH for row in each["rows"])
        claims = sum(row["claims"] for row in each["rows"])
        told = f"{simple} of {len(each['rows'])} without a head, {lost} lost over {ENOUGH} points, "
        told += f"{claims} called the gain of the best rung real"
        seconds = np.median([row["seconds"] for row in each["rows"]])
        said += ["", f"{name}: {told}; a search {seconds:.0f} s"]
    return "\n".join(said)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.learned", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    made.add_argument("--scene", choices=list(SCENES), action="append", help="default: all")
    made.add_argument("--repetitions", type=int, default=20, help="searches of each scene")
    made.add_argument("--videos", type=int, default=12, help="of a sample")
    made.add_argument("--quick", action="store_true", help="one search of each on 8 videos")
    made.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return made


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    repetitions, videos, fresh, many = options.repetitions, options.videos, FRESH, MOST
    if repetitions < 1 or videos < 2:
        print("give at least 1 search, and at least 2 videos", file=sys.stderr)
        return 2
    if options.quick:
        repetitions, videos, fresh, many = 1, 8, 4, 4
    names = options.scene or list(SCENES)
    found = {name: scene(name, repetitions, videos, fresh, many) for name in names}
    print(json.dumps(found, indent=2) if options.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
