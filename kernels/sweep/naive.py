"""Sweeps slowly: from one winner to the next, and every interval's mean from its own counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.kernels import sweep
from fusion.kernels.contested.layout import Parts
from fusion.kernels.sweep import Bytes, Ends, Flips, Ints, Pair, Undecided


def _scores(means: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """[..., k] of means [..., k, G], groups added in their order."""
    total = np.zeros(means.shape[:-1])
    for g, weight in enumerate(weights):
        total += weight * means[..., g].astype(np.float64)
    return total


def flips(parts: Parts, ends: Ends, classes: int, low: float, high: float, room: int) -> Flips:
    """As `fusion.kernels.sweep.flips`."""
    found, statistics = [], np.zeros((2, classes), np.int64)
    for _, run in parts.runs:
        targets, names, means = run.lines(len(ends[0]))
        lines = (_scores(means, weights).tolist() for weights in (ends[0], ends[1] - ends[0]))
        for target, name, height, slope in zip(targets, names, *lines, strict=True):
            now = max(range(run.width), key=lambda j: (height[j] + low * slope[j], slope[j], -j))
            statistics[1, name[now]] += 1
            statistics[0, target] += name[now] == target
            s = low
            while True:
                steeper = [j for j in range(run.width) if slope[j] > slope[now]]
                crossings = [(height[now] - height[j]) / (slope[j] - slope[now]) for j in steeper]
                ahead = [(max(s, at), j) for at, j in zip(crossings, steeper, strict=True)]
                s, following = min(ahead, default=(high, now))
                if s >= high:
                    break
                found.append((s, target, name[now], name[following], 0))
                now = following
    return Flips(np.array(found[:room], sweep.FLIP), statistics, len(found) <= room)


def ordered(flips: NDArray) -> NDArray:
    """Flips by place; of equal places in any order."""
    return flips[np.argsort(flips["at"])]


def scan(
    ordered: NDArray, rows: Ints, statistics: Ints, counted: Bytes, ends: Pair, narrowest: float
) -> tuple[float, float, float]:
    """As `fusion.kernels.sweep.scan`, of sorted flips from the statistics at the low end."""
    best, left = (-1.0, ends[0], ends[0]), ends[0]
    inter, predicted = statistics.copy()
    for index, right in enumerate([*ordered["at"].tolist(), ends[1]]):
        if right > left:
            union = rows + predicted - inter
            iou = np.divide(inter, union, out=np.zeros(len(rows)), where=union > 0)
            predicted_ones = (counted == sweep.WHEN_PREDICTED) & (predicted > 0)
            members = ((counted == sweep.ALWAYS) | predicted_ones).sum()
            value = float(iou[counted != sweep.NEVER].sum() / members) if members else 0.0
            wider = right - left > best[2] - best[1]
            better = value > best[0] + 1e-12 or (value > best[0] - 1e-12 and wider)
            if right - left >= narrowest and better:
                best = (value, left, right)
            left = right
        if index < len(ordered):
            _, target, old, new, _ = ordered[index]
            predicted[old] -= 1
            predicted[new] += 1
            inter[target] += int(new == target) - int(old == target)
    return best


def bound(parts: Parts, parent: Undecided, corners: NDArray[np.float64], classes: int) -> Undecided:
    """As `fusion.kernels.sweep.bound`."""
    groups, ids, slack = len(corners), [], sweep.slack(len(corners))
    right, wrong, gain = parent.right.copy(), parent.wrong.copy(), np.zeros(classes, np.int64)
    lines = [run.lines(groups) for _, run in parts.runs]
    for identity in parent.ids.tolist():
        targets, names, means = lines[identity >> 32]
        pixel = identity & 0xFFFFFFFF
        scores = np.stack([_scores(means[pixel], corner) for corner in corners], axis=1)
        low, high = scores * (1 - slack), scores * (1 + slack) + 1e-30
        beats = (low[:, None] > high).all(axis=2) & ~np.eye(len(low), dtype=bool)
        alive = names[pixel][~beats.any(axis=0)]
        target = targets[pixel]
        if len(alive) == 1:
            (right if alive[0] == target else wrong)[alive[0]] += 1
        else:
            ids.append(identity)
            gain[target] += target in alive
    return Undecided(np.array(ids, np.int64), right, wrong, gain)
