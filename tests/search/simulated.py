"""Small made-up problems and stores, for all tests of the search."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fusion.contested import Builder, Condensed, Maps, condense
from fusion.contested.maps import VideoMaps
from fusion.kernels import sweep
from fusion.kernels.resized import MAP_STEPS, Frames, stepped
from fusion.kernels.upsample.naive import bilinear


def problem(
    groups: int, classes: int, pixels: int, seed: int = 0, levels: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Group means [G, C, P] of which the last group is the best, and targets."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, pixels)
    means = drawn_means(rng, truth, classes, np.linspace(0.5, 2.5, groups))
    if levels:
        means = np.round(means * levels) / levels
    targets = np.where(rng.random(pixels) < 0.05, 255, truth).astype(np.uint8)
    return np.ascontiguousarray(means, np.float32), targets


def drawn_means(
    rng: np.random.Generator, truth: np.ndarray, classes: int, skill: np.ndarray
) -> np.ndarray:
    """Probabilities [G, C, P] of groups whose logit of the true class is higher by their skill."""
    logits = rng.normal(size=(len(skill), classes, len(truth))) * 2
    logits[:, truth, np.arange(len(truth))] += skill[:, None]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def condensed_of(means: np.ndarray, targets: np.ndarray, videos: int = 2) -> Condensed:
    groups, classes, pixels = means.shape
    builder = Builder([f"g{g}" for g in range(groups)], [f"c{c}" for c in range(classes)])
    for index, chunk in enumerate(np.array_split(np.arange(pixels), videos)):
        some = np.ascontiguousarray(means[:, :, chunk])
        builder.append(f"v{index}", condense(some, targets[chunk], classes, ignore=255))
    return builder.finish()


def small(
    groups: int = 3, seed: int = 0, classes: int = 4, pixels: int = 300, levels: int = 0
) -> Condensed:
    return condensed_of(*problem(groups, classes, pixels, seed, levels))


def simplex(groups: int, points: int, seed: int = 0) -> np.ndarray:
    """Inner points, edges and corners."""
    rng = np.random.default_rng(seed)
    inner = rng.dirichlet(np.ones(groups), points)
    edges = inner * (rng.random(inner.shape) < 0.6)
    return np.concatenate([inner, edges[edges.any(axis=1)], np.eye(groups)])


def videos(count: int = 6, groups: int = 3, seed: int = 0, best: float = 2.0) -> Condensed:
    """Videos of different difficulty; the last group is the best by far where `best` is high."""
    rng = np.random.default_rng(seed)
    builder = Builder([f"g{g}" for g in range(groups)], ["a", "b", "c"])
    for video in range(count):
        targets = rng.integers(0, 3, 300).astype(np.uint8)
        means = drawn_means(rng, targets, 3, np.linspace(0.5, best, groups) * rng.uniform(0.5, 1.5))
        builder.append(f"v{video}", condense(means.astype(np.float32), targets, 3, ignore=255))
    return builder.finish()


def groups_of(data: Path, split: str = "val") -> dict[str, list[Path]]:
    stores = sorted((data / split).glob("*.zarr"))
    return {"strong": stores[:2], "weak": stores[2:4], "auxiliary": stores[4:]}


def arguments(data: Path, folder: Path, *more: str) -> list[str]:
    """Of a search on the val split, whose results go to folder/out."""
    lines = [f"{name} = {[str(path) for path in paths]}" for name, paths in groups_of(data).items()]
    toml, labels = folder / "ensemble.toml", data / "labels" / "val"
    toml.write_text("[groups]\n" + "\n".join(lines) + "\n")
    said = ["--ensemble", toml, "--labels", labels, "--out", folder / "out"]
    return [*map(str, said), *more]


def whole_of(condensed: Condensed) -> sweep.Undecided:
    (parts,) = condensed.batches()
    right, predicted = condensed.base
    every = sweep.every_pixel(parts.runs)
    return sweep.Undecided(every, right, predicted - right, np.zeros_like(right))


def crossings(means: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Every s in (0, 1) where two classes of a pixel tie: all breakpoints and more."""
    heights, slopes = (np.tensordot(w, means.astype(np.float64), 1) for w in (start, end - start))
    found = [np.zeros(1), np.ones(1)]
    for c, d in itertools.combinations(range(means.shape[1]), 2):
        with np.errstate(divide="ignore", invalid="ignore"):
            at = (heights[c] - heights[d]) / (slopes[d] - slopes[c])
        found.append(at[(at > 0) & (at < 1)])
    return np.unique(np.concatenate(found))


def both_ways(
    models: int = 5,
    classes: int = 4,
    count: int = 3,
    frames: int = 2,
    seed: int = 0,
    reach: float = 1.0,
) -> tuple[Maps, Condensed]:
    """The same videos as maps at store resolution, and condensed at label resolution."""
    rng, size = np.random.default_rng(seed), (24, 40)
    names = [f"g{g}" for g in range(models)], [f"c{c}" for c in range(classes)]
    builder, held = Builder(*names), []
    for video in range(count):
        truth = rng.integers(0, classes, (frames, 6, 10))
        skill = np.linspace(0.5, 2.5, models)[rng.permutation(models)] * rng.uniform(0.5, 1.5)
        means = drawn_means(rng, truth.ravel(), classes, skill)
        means = means.reshape(models, classes, frames, 6, 10).transpose(2, 0, 1, 3, 4)
        maps = stepped(np.ascontiguousarray(means, np.float32), MAP_STEPS)
        targets = np.kron(truth, np.ones((1, 4, 4))).astype(np.uint8)
        targets[rng.random(targets.shape) < 0.05] = 255
        held.append(VideoMaps.held(Frames(maps, targets, size)))
        whole = bilinear(torch.from_numpy(maps), size).numpy()
        for each, target in zip(whole, targets, strict=True):
            block = condense(each, target, classes, ignore=255, reach=reach)
            builder.append(f"v{video}", block)
    videos = tuple(f"v{video}" for video in range(count))
    condensed = replace(builder.finish(), reach=reach)
    return Maps(*map(tuple, names), videos, tuple(held)), condensed
