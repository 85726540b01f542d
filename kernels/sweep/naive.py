"""Sweeps slowly: from one winner to the next, and every interval's mean from its own counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fusion.kernels import sweep
from fusion.kernels.contested.layout import Parts
from fusion.kernels.sweep import Cells, Ends, Flips, Floats, Ints, Pair, Undecided


def _scores(means: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """[..., k] of means [..., k, G], groups added in their order."""
    total = np.zeros(means.shape[:-1])
    for g, weight in enumerate(weights):
        total += weight * means[..., g].astype(np.float64)
    return total


def flips(
    parts: Parts,
    ends: Ends,
    classes: int,
    low: float,
    high: float,
    room: int,
    cases: int,
    multipliers: Floats | None,
) -> Flips:
    """As `fusion.kernels.sweep.flips`."""
    found, statistics = [], np.zeros((cases, 2, classes), np.int64)
    for case, run in parts.runs:
        targets, names, means = run.lines(len(ends[0]))
        factors = 1.0 if multipliers is None else multipliers[names]
        both = (_scores(means, weights) * factors for weights in (ends[0], ends[1] - ends[0]))
        lines = (each.tolist() for each in both)
        for target, name, height, slope in zip(targets, names, *lines, strict=True):
            now = max(range(run.width), key=lambda j: (height[j] + low * slope[j], slope[j], -j))
            statistics[case, 1, name[now]] += 1
            statistics[case, 0, target] += name[now] == target
            s = low
            while True:
                steeper = [j for j in range(run.width) if slope[j] > slope[now]]
                crossings = [(height[now] - height[j]) / (slope[j] - slope[now]) for j in steeper]
                ahead = [(max(s, at), j) for at, j in zip(crossings, steeper, strict=True)]
                s, following = min(ahead, default=(high, now))
                if s >= high:
                    break
                found.append((s, target, name[now], name[following], case))
                now = following
    return Flips(np.array(found[:room], sweep.FLIP), statistics, len(found) <= room)


def class_flips(
    parts: Parts,
    weights: Floats,
    multipliers: Floats,
    moving: int,
    low: float,
    high: float,
    room: int,
    cases: int,
) -> Flips:
    """As `fusion.kernels.sweep.class_flips`."""
    found, statistics = [], np.zeros((cases, 2, len(multipliers)), np.int64)
    for case, run in parts.runs:
        targets, names, means = run.lines(len(weights))
        scores = _scores(means, weights)
        for target, name, score in zip(targets, names, scores, strict=True):
            rest = [j for j in range(run.width) if name[j] != moving]
            mine = float(score[name == moving].sum())
            best = max(rest, key=lambda j: (score[j] * multipliers[name[j]], -j), default=None)
            at = -np.inf if best is None else np.inf
            if best is not None and mine > 0:
                other = score[best] * multipliers[name[best]]
                at = np.log(other / mine) if other > 0 else -np.inf
            label = moving if at <= low else name[best]
            statistics[case, 1, label] += 1
            statistics[case, 0, target] += label == target
            if low < at < high:
                found.append((at, target, label, moving, case))
    return Flips(np.array(found[:room], sweep.FLIP), statistics, len(found) <= room)


def objective(cells: Cells, statistics: Ints) -> float:
    """The objective of intersections and predictions [V, 2, C]; 0 where no cell is a member."""
    inter, predicted = statistics.transpose(1, 0, 2)
    double, shared = (2, 0) if cells.dice else (1, inter)
    whole = cells.rows + predicted - shared
    scores = np.divide(double * inter, whole, out=np.zeros(whole.shape), where=whole > 0)
    when = (cells.counted == sweep.WHEN_PREDICTED) & (predicted > 0)
    members = (cells.counted == sweep.ALWAYS) | when
    total, shares = 0.0, 0.0
    for group, share in enumerate(cells.shares.tolist()):
        inside = members & (cells.outer == group)
        if (weight := cells.weights[inside].sum()) > 0:
            total += share * (cells.weights * scores)[inside].sum() / weight
            shares += share
    return float(total / shares) if shares else 0.0


def ordered(flips: NDArray) -> NDArray:
    """Flips by place; of equal places in any order."""
    return flips[np.argsort(flips["at"])]


def scan(
    ordered: NDArray, cells: Cells, statistics: Ints, ends: Pair, narrowest: float
) -> tuple[float, float, float]:
    """As `fusion.kernels.sweep.scan`, of sorted flips from the statistics at the low end."""
    best, left, statistics = (-1.0, ends[0], ends[0]), ends[0], statistics.copy()
    for index, right in enumerate([*ordered["at"].tolist(), ends[1]]):
        if right > left:
            value = objective(cells, statistics)
            wider = right - left > best[2] - best[1]
            better = value > best[0] + 1e-12 or (value > best[0] - 1e-12 and wider)
            if right - left >= narrowest and better:
                best = (value, left, right)
            left = right
        if index < len(ordered):
            _, target, old, new, case = ordered[index]
            statistics[case, 1, old] -= 1
            statistics[case, 1, new] += 1
            statistics[case, 0, target] += int(new == target) - int(old == target)
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
