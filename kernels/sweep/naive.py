"""Sweeps slowly: from one winner to the next, and every interval's mean from its own counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.kernels.contested.layout import Parts
from fusion.kernels.sweep.layout import (
    ALWAYS,
    FLIP,
    NEVER,
    WHEN_PREDICTED,
    Flips,
    Undecided,
    slack,
)


def _in_order(row: NDArray[np.float32], weights: NDArray[np.float64]) -> float:
    total = 0.0
    for mean, weight in zip(row.tolist(), weights.tolist(), strict=True):
        total += weight * mean
    return total


def flips(
    parts: Parts,
    ends: tuple[NDArray[np.float64], NDArray[np.float64]],
    classes: int,
    low: float,
    high: float,
    room: int,
) -> Flips:
    """As `fusion.kernels.sweep.flips`."""
    found, statistics = [], np.zeros((2, classes), np.int64)
    for _, run in parts.runs:
        for target, names, means in zip(*run.lines(len(ends[0])), strict=True):
            height = np.array([_in_order(row, ends[0]) for row in means])
            slope = np.array([_in_order(row, ends[1] - ends[0]) for row in means])
            now = max(range(run.width), key=lambda j: (height[j] + low * slope[j], slope[j], -j))
            statistics[1, names[now]] += 1
            statistics[0, target] += names[now] == target
            s = low
            while True:
                steeper = [j for j in range(run.width) if slope[j] > slope[now]]
                crossings = [
                    max(s, (height[now] - height[j]) / (slope[j] - slope[now])) for j in steeper
                ]
                ahead = [(at, j) for at, j in zip(crossings, steeper, strict=True) if at < high]
                if not ahead:
                    break
                s, following = min(ahead)
                found.append((s, target, names[now], names[following], 0))
                now = following
    return Flips(np.array(found[:room], FLIP), statistics, len(found) <= room)


def scan(
    ordered: NDArray[Any],
    rows: NDArray[np.int64],
    statistics: NDArray[np.int64],
    counted: NDArray[np.uint8],
    stretch: tuple[float, float],
    narrowest: float,
) -> tuple[float, float, float]:
    """As `fusion.kernels.sweep.scan`, of sorted flips from the statistics at the low end."""
    best, left = (-1.0, stretch[0], stretch[0]), stretch[0]
    inter, predicted = statistics.copy()
    for index in range(len(ordered) + 1):
        right = ordered["at"][index] if index < len(ordered) else stretch[1]
        if right > left:
            union = rows + predicted - inter
            iou = np.divide(inter, union, out=np.zeros(len(rows)), where=union > 0)
            predicted_ones = (counted == WHEN_PREDICTED) & (predicted > 0)
            members = ((counted == ALWAYS) | predicted_ones).sum()
            value = float(iou[counted != NEVER].sum() / members) if members else 0.0
            wider = right - left > best[2] - best[1]
            better = value > best[0] + 1e-12 or (value > best[0] - 1e-12 and wider)
            if right - left >= narrowest and better:
                best = (value, float(left), float(right))
            left = right
        if index < len(ordered):
            _, target, old, new, _ = ordered[index]
            predicted[old] -= 1
            predicted[new] += 1
            inter[target] += int(new == target) - int(old == target)
    return best


def bound(parts: Parts, parent: Undecided, corners: NDArray[np.float64], classes: int) -> Undecided:
    """As `fusion.kernels.sweep.bound`."""
    groups, ids = len(corners), []
    right, wrong, gain = parent.right.copy(), parent.wrong.copy(), np.zeros(classes, np.int64)
    lines = [run.lines(groups) for _, run in parts.runs]
    for identity in parent.ids.tolist():
        targets, names, means = lines[identity >> 32]
        pixel = identity & 0xFFFFFFFF
        scores = np.array([[_in_order(row, corner) for corner in corners] for row in means[pixel]])
        low, high = scores * (1 - slack(groups)), scores * (1 + slack(groups)) + 1e-30
        beaten = [
            any((low[k] > high[j]).all() for k in range(len(scores)) if k != j)
            for j in range(len(scores))
        ]
        alive = names[pixel][~np.array(beaten)]
        if len(alive) == 1:
            (right if alive[0] == targets[pixel] else wrong)[alive[0]] += 1
        else:
            ids.append(identity)
            gain[targets[pixel]] += targets[pixel] in alive
    return Undecided(np.array(ids, np.int64), right, wrong, gain)
