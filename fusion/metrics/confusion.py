"""Confusion matrices and the mean intersection over union that follows from them.

C classes, [...] any leading axes (candidates, videos). Conventions: `fusion.metrics.objectives`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.errors import InputError
from fusion.metrics.objectives import iou, objective

_BLOCK = (
    1 << 22
)  # pixels counted at a time: bounds the int64 temporaries to some 100 MB whatever the video's length


def confusion(
    targets: ArrayLike, labels: ArrayLike, classes: int, *, ignore: int = 255
) -> NDArray[np.int64]:
    """Pixel counts [C, C] of target class against predicted class.

    targets, labels: integer arrays of one shape, [H, W] or [T, H, W] or any other. Pixels whose target is `ignore` never count,
    whatever is predicted there. InputError: shapes differ, no integers, or a counted pixel's target or label is outside 0..C-1.
    """
    targets, labels = np.asarray(targets), np.asarray(labels)
    if targets.shape != labels.shape:
        raise InputError(
            f"confusion: targets {list(targets.shape)} and labels {list(labels.shape)}; give arrays of one shape"
        )
    for name, array in (("targets", targets), ("labels", labels)):
        if array.dtype.kind not in "iu":
            raise InputError(f"confusion: {name} are {array.dtype}; give integer class ids")
    if classes < 1:
        raise InputError(f"confusion: classes is {classes}; give the number of classes, at least 1")
    targets, labels = targets.reshape(-1), labels.reshape(-1)
    counts = np.zeros(classes * classes, dtype=np.int64)
    for start in range(0, len(targets), _BLOCK):
        t, p = targets[start : start + _BLOCK], labels[start : start + _BLOCK]
        counted = t != ignore
        t, p = t[counted], p[counted]
        for name, values in (("targets", t), ("labels", p)):
            _check_range(name, values, classes, ignore)
        counts += np.bincount(
            t.astype(np.int64) * classes + p.astype(np.int64), minlength=classes * classes
        )
    return counts.reshape(classes, classes)


def _check_range(name: str, values: NDArray[np.integer], classes: int, ignore: int) -> None:
    if values.size and (int(values.max()) >= classes or int(values.min()) < 0):
        stray = np.unique(values[(values < 0) | (values >= classes)]).tolist()
        shown = ", ".join(map(str, stray[:10])) + (", ..." if len(stray) > 10 else "")
        advice = (
            f"set void targets to {ignore}"
            if name == "targets"
            else "every pixel whose target is not void needs a class"
        )
        raise InputError(f"confusion: {name} hold {shown} outside 0..{classes - 1}; {advice}")


def class_iou(confusion: ArrayLike) -> NDArray[np.float64]:
    """IoU [..., C] of confusion matrices [..., C, C], fractions; nan for a class that is neither in the targets nor predicted."""
    return iou(*counts(confusion), empty=np.nan)


def counts(confusion: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Diagonal, row sums and column sums [..., C] of matrices [..., C, C]: all that IoU needs."""
    matrix = np.asarray(confusion)
    return np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1), matrix.sum(axis=-2)


def miou(confusion: ArrayLike, convention: str = "vspw") -> NDArray[np.float64]:
    """mIoU [...] of confusion matrices [..., C, C], fractions; nan where a matrix is empty."""
    return objective(convention)(*counts(confusion))
