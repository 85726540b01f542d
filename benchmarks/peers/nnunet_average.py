"""nnU-Net: its average of probabilities in npz files, and its counts, written from its source.

The package brings torchvision and more, so the same operations stand here.
`nnunetv2/ensembling/ensemble.py`, `average_probabilities`: the files one after the other into one
float32 sum, over their number; then the argmax. `nnunetv2/evaluation/evaluate_predictions.py`,
`compute_tp_fp_fn_tn`: masks of one class after the other, without pixels to ignore.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.peers.peer import Peer

KEY = "probabilities"  # of the array in a file, float32 [C, ...] at the image's size


def average_probabilities(files: Sequence[Path]) -> np.ndarray:
    """float32 [C, ...]."""
    average: np.ndarray | None = None
    for file in files:
        with np.load(file) as archive:
            probabilities = archive[KEY]
        if average is None:
            average = probabilities.astype(np.float32, copy=False)
        else:
            average += probabilities
    assert average is not None
    average /= len(files)
    return average


def areas(labels: np.ndarray, targets: np.ndarray, classes: int) -> np.ndarray:
    """Pixels in both, and in either, of each class: int64 [2, C]."""
    counted = targets != 255
    found = np.zeros((2, classes), np.int64)
    for c in range(classes):
        known, predicted = targets == c, labels == c
        both = np.sum((known & predicted) & counted)
        wrong = np.sum((~known & predicted) & counted) + np.sum((known & ~predicted) & counted)
        found[:, c] = both, both + wrong
    return found


def miou(targets: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """It reports Dice case by case; here the same counts of all cases make IoU."""
    pairs = zip(labels, targets, strict=True)
    return score(np.sum([areas(*pair, classes) for pair in pairs], axis=0))


def score(areas: np.ndarray) -> float:
    both, either = areas[:, areas[1] > 0]
    return float(np.mean(both / either))


MIOU = Peer("nnU-Net counts, as written", miou)
