"""The formulas as loops, and random matrices to try them on."""

from __future__ import annotations

import math

import numpy as np


def slow_confusion(targets, labels, classes, ignore=255):
    matrix = np.zeros((classes, classes), dtype=np.int64)
    for t, p in zip(np.ravel(targets).tolist(), np.ravel(labels).tolist(), strict=True):
        if t != ignore:
            matrix[t, p] += 1
    return matrix


def slow_miou(matrix, convention):
    total, members = 0.0, 0
    for k in range(len(matrix)):
        row, column = int(matrix[k].sum()), int(matrix[:, k].sum())
        union = row + column - int(matrix[k, k])
        inside = {"vspw": row > 0, "union": row + column > 0, "all": True}[convention]
        if inside:
            members += 1
            total += int(matrix[k, k]) / union if union else 0.0
    return total / members if matrix.sum() else math.nan


def random_matrices(seed, videos, classes, absent=()):
    rng = np.random.default_rng(seed)
    found = {}
    for v in range(videos):
        matrix = rng.integers(0, 1000, (classes, classes))
        matrix[list(absent)] = 0
        matrix[:, list(absent)[:1]] = 0
        found[f"video_{v}"] = matrix
    return found


def names(classes):
    return [f"class {c}" for c in range(classes)]
