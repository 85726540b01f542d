"""Contested pixels slowly: every pair of classes at every pixel, one weight vector at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.kernels.contested.layout import Block, Floats, Ints, Parts, empty, merged

LARGEST_SCORE = 1.001  # probabilities are at most 1 up to rounding; beyond lies another quantity
TINY = 2.0**-100
FAULTS = {1: "a score that is not a probability", 2: "a target beyond the classes"}


class BadPixel(ValueError):
    """A counted pixel that cannot be used: `pixel` is its flat index, `reason` a phrase."""

    def __init__(self, pixel: int, fault: int) -> None:
        self.pixel, self.reason = pixel, FAULTS[fault]
        super().__init__(f"pixel {pixel}: {self.reason}")


def margin(groups: int) -> float:
    """The factor, beside TINY, by which a higher class must lead to win what rounding ties."""
    return 1 + (groups + 2) * 2.0**-20


def condense(means: Floats, targets: NDArray[np.uint16], ignore: int, ratio: float = 1.0) -> Block:
    """As `fusion.kernels.contested.condense`."""
    groups, classes = means.shape[:2]
    where = np.flatnonzero(targets != ignore)
    step = max(1, (1 << 22) // (groups * classes))
    some = [where[first : first + step] for first in range(0, len(where), step)]
    blocks = (_condense_pairs(means[:, :, p], targets[p], p, ratio) for p in some)
    return merged([empty(groups, classes), *blocks])


def _condense_pairs(means: Floats, targets: NDArray[np.uint16], where: Ints, ratio: float) -> Block:
    groups, classes, pixels = means.shape
    legal = ((means >= 0) & (means <= np.float32(LARGEST_SCORE))).all(axis=(0, 1))
    faults = np.where(targets >= classes, 2, np.where(legal, 0, 1))
    if faults.any():
        first = int(np.argmax(faults > 0))
        raise BadPixel(int(where[first]), int(faults[first]))
    raised = means * np.float32(ratio * margin(groups)) + np.float32(ratio * TINY)
    plain = means if ratio == 1 else raised  # a lower class wins ties, if nothing moves it
    alive = np.ones((classes, pixels), bool)
    for d in range(classes):
        alive[:d] &= ~(means[:, d, None] >= raised[:, :d]).all(axis=0)
        alive[d + 1 :] &= ~(means[:, d, None] >= plain[:, d + 1 :]).all(axis=0)
    counts = alive.sum(axis=0)
    only = counts == 1
    constant = np.zeros((classes, classes), np.int64)
    np.add.at(constant, (targets[only], alive[:, only].argmax(axis=0)), 1)
    pixel, label = np.nonzero(alive[:, ~only].T)
    kept = np.ascontiguousarray(means[:, :, ~only][:, label, pixel].T)
    numbers = (counts[~only].astype(np.uint16), targets[~only], label.astype(np.uint16))
    return Block(constant, *numbers, kept)


def count(
    parts: Parts,
    weights: Floats,
    classes: int,
    *,
    videos: int = 1,
    matrix: bool = True,
    multipliers: Floats | None = None,
) -> Ints:
    """As `fusion.kernels.contested.count`."""
    out = np.zeros((videos, len(weights), classes if matrix else 2, classes), np.int64)
    for video, run in parts.runs:
        targets, names, means = run.lines(weights.shape[1])
        for b, counts in enumerate(out[video if videos > 1 else 0]):
            scores = np.zeros(names.shape, np.float32)
            for g, weight in enumerate(weights[b]):
                scores += means[:, :, g] * weight
            if multipliers is not None:
                scores *= multipliers[b][names]
            labels = names[np.arange(run.pixels), scores.argmax(axis=1)]
            if matrix:
                np.add.at(counts, (targets, labels), 1)
            else:
                np.add.at(counts[0], labels[labels == targets], 1)
                np.add.at(counts[1], labels, 1)
    return out
