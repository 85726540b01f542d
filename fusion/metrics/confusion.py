"""Confusion matrices and the mean intersection over union that follows from them.

C classes, [...] any leading axes (candidates, videos). Conventions: `fusion.metrics.objectives`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fusion.arguments import checked
from fusion.errors import InputError
from fusion.metrics.objectives import Counts, Floats, Objective, counts, iou, objective


@checked
def confusion(targets: ArrayLike, labels: ArrayLike, classes: int, *, ignore: int = 255) -> Counts:
    """Pixel counts [C, C] of target class against predicted class.

    Args:
        targets, labels: integer arrays of one shape, [H, W] or [T, H, W] or any other.
        classes: C.
        ignore: pixels with this target never count, whatever is predicted there.

    Raises:
        InputError: shapes differ, no integers, or a counted target or label outside 0..C-1.
    """
    from fusion.kernels import confusion as count  # with torch, which readers of scores need not

    targets, labels = np.asarray(targets), np.asarray(labels)
    if targets.shape != labels.shape:
        got = f"targets {list(targets.shape)} and labels {list(labels.shape)}"
        raise InputError(f"confusion: {got}; give arrays of one shape")
    for name, array in (("targets", targets), ("labels", labels)):
        if array.dtype.kind not in "iu":
            raise InputError(f"confusion: {name} are {array.dtype}; give integer class ids")
    return count(targets, labels, classes, ignore=ignore)


@checked
def class_iou(confusion: ArrayLike) -> Floats:
    """IoU [..., C], fractions, of confusion matrices [..., C, C]; nan for absent classes."""
    return iou(*counts(confusion), empty=np.nan)


@checked
def miou(confusion: ArrayLike, convention: str | Objective = "vspw") -> Floats:
    """mIoU [...] of confusion matrices [..., C, C], fractions; nan where a matrix is empty."""
    return objective(convention)(*counts(confusion))
