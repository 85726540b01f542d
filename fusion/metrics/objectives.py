"""Objectives: one number out of a confusion matrix, as four operators.

C classes, [...] any leading axes (candidates, videos). From the diagonal d, the row sums r (pixels
of each target class) and the column sums c (pixels predicted as each class), all [..., C]:

    init(r)                        NEVER, ALWAYS or WHEN_PREDICTED: how each class counts in the
                                   mean; uint8 [..., C]
    update(d, r, c)                each class's score; float64 [..., C]
    combine(scores, counted, c)    their sum over the classes that count, and the number of these
    finalize(sum, members, any)    the objective; nan where no pixel is scored; [...]

What a search moves changes d and c, never r: `init` is asked once, compiled sweeps take its answer.

| convention | classes in the mean | who computes it so |
|---|---|---|
| ``vspw`` | r_k > 0 | the VSPW challenge's script, detectron2 |
| ``union`` | r_k + c_k > 0 | mmsegmentation, Hugging Face, Cityscapes, torchmetrics (macro) |
| ``all`` | all C, an absent class counts 0 | segmentation_models_pytorch (macro) |

A matrix without a pixel has no score: nan. A new objective is one entry of `OBJECTIVES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.errors import InputError
from fusion.kernels.sweep import ALWAYS, NEVER, WHEN_PREDICTED

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def iou(intersections: Counts, rows: Counts, columns: Counts, *, empty: float = 0.0) -> Floats:
    """IoU_k = d_k / (r_k + c_k - d_k) [..., C]; `empty` where that union is."""
    union = rows + columns - intersections
    # into C order: NumPy's order of summing, hence the last bit, must not depend on the layout
    return np.divide(intersections, union, out=np.full(union.shape, empty), where=union > 0)


def total(scores: Floats, counted: NDArray[np.uint8], columns: Counts) -> tuple[Floats, Counts]:
    """Sum of the scores of the classes that count, and the number of these."""
    members = (counted == ALWAYS) | ((counted == WHEN_PREDICTED) & (columns > 0))
    return np.multiply(scores, members, order="C").sum(axis=-1), members.sum(axis=-1)


def mean(summed: Floats, members: Counts, scored: NDArray[np.bool_]) -> Floats:
    """Sum over number, nan where no pixel is scored."""
    return np.divide(summed, members, out=np.full(scored.shape, np.nan), where=scored)


@dataclass(frozen=True)
class Objective:
    """What is maximised, and what a score says; the operators are the module's table."""

    init: Callable[[Counts], NDArray[np.uint8]]
    update: Callable[[Counts, Counts, Counts], Floats] = iou
    combine: Callable[[Floats, NDArray[np.uint8], Counts], tuple[Floats, Counts]] = total
    finalize: Callable[[Floats, Counts, NDArray[np.bool_]], Floats] = mean

    def __call__(self, intersections: ArrayLike, rows: ArrayLike, columns: ArrayLike) -> Floats:
        """The objective [...] from diagonals, row sums and column sums [..., C]; fractions."""
        inter, rows, columns = (np.asarray(x) for x in (intersections, rows, columns))
        summed, members = self.combine(self.update(inter, rows, columns), self.init(rows), columns)
        return self.finalize(summed, members, rows.sum(axis=-1) > 0)


def _counts(present: int, absent: int) -> Callable[[Any], NDArray[np.uint8]]:
    """An `init`: how classes with and without targets count."""
    return lambda rows: np.where(np.asarray(rows) > 0, np.uint8(present), np.uint8(absent))


OBJECTIVES: dict[str, Objective] = {
    "vspw": Objective(_counts(ALWAYS, NEVER)),
    "union": Objective(_counts(ALWAYS, WHEN_PREDICTED)),
    "all": Objective(_counts(ALWAYS, ALWAYS)),
}
CONVENTIONS = tuple(OBJECTIVES)


def objective(name: str) -> Objective:
    """The objective of this name. InputError: there is none."""
    if name not in OBJECTIVES:
        raise InputError(f"convention: got {name!r}; choose one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name]


def miou_of_counts(
    intersections: ArrayLike, rows: ArrayLike, columns: ArrayLike, convention: str = "vspw"
) -> Floats:
    """mIoU [...] from diagonals, row sums and column sums [..., C]; the same bits as `miou`."""
    return objective(convention)(intersections, rows, columns)
