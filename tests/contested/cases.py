"""Pixels, weights and sets for the tests of contested pixels, and the brute force for all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fusion.contested import Builder, Condensed, condense
from fusion.kernels.arithmetic import normalised_multipliers
from fusion.kernels.average import naive
from fusion.kernels.confusion import naive as counting
from fusion.kernels.numbers import void_label


def brute_force(
    means: np.ndarray, targets: np.ndarray, weights, ignore: int = 255, multipliers=None
) -> np.ndarray:
    """The matrix [C, C] by the reference's own scores, argmax and counts."""
    if multipliers is not None:
        multipliers = normalised_multipliers(multipliers, means.shape[1])
    scores = naive.combine(torch.tensor(means), weights)
    labels = naive.argmax(naive.multiplied(scores, multipliers))
    return counting.confusion(
        torch.tensor(targets.astype(np.int32)), labels, means.shape[1], ignore=ignore
    ).numpy()


def probabilities(
    groups: int, classes: int, pixels: int, seed: int = 0, levels: int = 0, agree: float = 4.0
) -> np.ndarray:
    """Group means [G, C, P] that agree more or less; with few `levels` ties are everywhere."""
    rng = np.random.default_rng(seed)
    logits = (
        rng.normal(size=(groups, classes, pixels)) * 3
        + rng.normal(size=(1, classes, pixels)) * agree
    )
    means = (
        naive.softmax(torch.tensor(logits.transpose(1, 0, 2), dtype=torch.float32))
        .permute(1, 0, 2)
        .numpy()
    )
    return np.ascontiguousarray(
        np.round(means * levels) / np.float32(levels) if levels else means, np.float32
    )


def some_targets(classes: int, pixels: int, seed: int = 0, void: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, pixels).astype(np.uint8 if classes <= 255 else np.uint16)
    targets[rng.random(pixels) < void] = void_label(classes)
    return targets


def condensed_of(
    means: np.ndarray, targets: np.ndarray, videos: int = 1, reach: float = 1.0
) -> Condensed:
    groups, classes, pixels = means.shape
    builder = Builder([f"g{g}" for g in range(groups)], [f"c{c}" for c in range(classes)])
    for index, chunk in enumerate(np.array_split(np.arange(pixels), videos)):
        block = condense(
            np.ascontiguousarray(means[:, :, chunk]),
            targets[chunk],
            classes,
            ignore=void_label(classes),
            reach=reach,
        )
        builder.append(f"v{index}", block)
    return replace(builder.finish(), reach=reach)


def some_weights(groups: int, vectors: int = 7, seed: int = 0) -> np.ndarray:
    """Random ones, with zeros, every single group, and all but vanishing ones."""
    rng = np.random.default_rng(seed)
    drawn = rng.random((vectors, groups)) * (rng.random((vectors, groups)) < 0.7) + 1e-9
    tiny = np.where(np.arange(groups) == 0, 1.0, 1e-44)
    return np.concatenate([drawn, np.eye(groups), np.ones((1, groups)), tiny[None]])


def some_multipliers(classes: int, reach: float, vectors: int = 7, seed: int = 0) -> np.ndarray:
    """Random ones of [1 / reach, reach], and those of both ends."""
    rng = np.random.default_rng(seed)
    ends = rng.choice([-1.0, 1.0], (vectors, classes))
    drawn = rng.uniform(-1, 1, (vectors, classes))
    return reach ** np.concatenate([drawn, ends])


def nearly_tied(groups: int, classes: int, pixels: int, seed: int) -> np.ndarray:
    """Scores a few units in the last place apart, some zero or near the smallest numbers."""
    rng = np.random.default_rng(seed)
    scale = rng.choice(
        np.array([1.0, 0.3, 1e-7, 1e-30, 1e-40, 0.0], np.float32), (groups, 1, pixels)
    )
    base = (
        rng.choice(np.array([0.5, 0.3333333, 0.9999999], np.float32), (1, 1, pixels)) * scale
    ).astype(np.float32)
    bits = np.broadcast_to(base, (groups, classes, pixels)).copy().view(np.int32)
    steps = rng.choice([0, 1, 1, 2, 3, 8, 64], bits.shape) * rng.choice([1, 16], (1, classes, 1))
    return np.ascontiguousarray((bits + steps.astype(np.int32)).view(np.float32))
