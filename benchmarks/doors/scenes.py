"""Made-up pictures: smooth regions, and models that see them through noise of their own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]
Logits = NDArray[np.float32]


def fields(rng: np.random.Generator, count: int, size: Sequence[int], grain: int = 8) -> Logits:
    """Smooth random fields [count, *size]: normal numbers on a coarse grid, interpolated."""
    coarse = rng.normal(size=(count, *(-(-length // grain) + 1 for length in size)))
    for axis, length in enumerate(size, start=1):
        at = np.arange(length) / grain
        left = at.astype(int)
        share = (at - left).reshape(-1, *(1,) * (coarse.ndim - 1 - axis))
        low, high = np.take(coarse, left, axis), np.take(coarse, left + 1, axis)
        coarse = low * (1 - share) + high * share
    return coarse.astype(np.float32)


def regions(rng: np.random.Generator, classes: int, size: Sequence[int]) -> Labels:
    """A label map: where each of as many fields is the highest."""
    return fields(rng, classes, size).argmax(axis=0).astype(np.uint8)


def seen(
    rng: np.random.Generator, labels: Labels, classes: int, noise: float, step: int = 1
) -> Logits:
    """Logits [C, ...] of a model that is right where its noise allows, every `step`-th pixel."""
    some = labels[(..., *(slice(None, None, step),) * 2)] if step > 1 else labels
    truth = (np.arange(classes).reshape(-1, *(1,) * some.ndim) == some[None]).astype(np.float32)
    return 3 * truth + noise * fields(rng, classes, some.shape, grain=4)


def softmax(logits: Logits) -> Logits:
    """Probabilities [C, ...]."""
    powers = np.exp(logits - logits.max(axis=0))
    return powers / powers.sum(axis=0)


def sigmoid(logits: Logits) -> Logits:
    """Probabilities of independent channels."""
    return 1 / (1 + np.exp(-logits))
