"""Objectives: one number out of confusion matrices. What is maximised, and what a score says.

V cases (videos, single images, 3D cases), C classes, [...] any leading axes. From the diagonal d,
the row sums r (pixels of each target class) and the column sums c (pixels predicted as each class):

    IoU_k = d_k / (r_k + c_k - d_k)        Dice_k = 2 d_k / (r_k + c_k)

| objective | mean of | over | who computes it so |
|---|---|---|---|
| ``vspw`` | IoU | classes with r_k > 0 | the VSPW challenge's script, detectron2 |
| ``union`` | IoU | r_k + c_k > 0 | mmsegmentation, Hugging Face, Cityscapes, torchmetrics (macro) |
| ``all`` | IoU | all C, an absent class counts 0 | segmentation_models_pytorch (macro) |
| ``fwiou`` | IoU | r_k > 0, each weighted by r_k | Long et al. 2015 (FCN), section 5 |
| ``dice`` | Dice | r_k > 0 | nobody's script: the dataset's, as ``vspw`` is |
| ``case-iou`` | IoU | in each case r_k > 0, then cases | per-image mIoU |
| ``case-dice-monai`` | Dice | in each case r_k > 0, then cases | MONAI's DiceMetric, "mean" |
| ``case-dice-nnunet`` | Dice | for each class cases with r_k + c_k > 0, then classes | nnU-Net v2 |

The first five sum the matrices of all cases first; the others never do. A class, case or matrix
without any member of its mean is left out of the next mean, and nothing at all is nan. Classes may
be chosen and weighted (`objective`): a class of weight w then counts as w classes.

Weights of models move d and c, never r: what depends on r is asked once (`cells`), compiled sweeps
take the answer. A new objective is one entry of `OBJECTIVES`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.arguments import checked
from fusion.errors import InputError
from fusion.kernels.sweep import ALWAYS, NEVER, WHEN_PREDICTED, Cells
from fusion.text import did_you_mean

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Classes = Sequence[int | str] | Mapping[int, float] | Mapping[str, float]


def iou(intersections: Counts, rows: Counts, columns: Counts, *, empty: float = 0.0) -> Floats:
    """IoU_k [..., C] of counts [..., C]; `empty` where the union is."""
    return _ratio(intersections, rows + columns - intersections, empty)


def dice(intersections: Counts, rows: Counts, columns: Counts, *, empty: float = 0.0) -> Floats:
    """Dice_k [..., C] of counts [..., C]; `empty` where neither targets nor predictions are."""
    return _ratio(2 * intersections, rows + columns, empty)


def _ratio(over: Counts, under: Counts, empty: float) -> Floats:
    # into C order: NumPy's order of summing, hence the last bit, must not depend on the layout
    return np.divide(over, under, out=np.full(under.shape, empty), where=under > 0)


def _mean(values: Floats, weights: Floats) -> Floats:
    """Weighted mean over the last axis; nan where the weights are zero. Values are no nan."""
    total = weights.sum(axis=-1)
    summed = np.multiply(values, weights, order="C").sum(axis=-1)
    return np.divide(summed, total, out=np.full(total.shape, np.nan), where=total > 0)


@checked
@dataclass(frozen=True)
class Objective:
    """One row of the module's table, for all classes or chosen ones.

    kind: its name in the table. present, absent: how a class with and without targets counts in its
    mean: NEVER, ALWAYS or WHEN_PREDICTED. dice: instead of IoU. inner: what the mean inside is over
    where there are two, "classes" (of a case) or "cases" (of a class); "" sums all matrices first.
    frequency: classes count by their pixels. chosen: (class id, weight > 0) by id; none is every
    class, of weight 1. labels: names of the chosen.
    """

    kind: str
    present: int = ALWAYS
    absent: int = NEVER
    dice: bool = False
    inner: str = ""
    frequency: bool = False
    chosen: tuple[tuple[int, float], ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def per_case(self) -> bool:
        """Whether cases are scored apart; otherwise their matrices are summed first."""
        return bool(self.inner)

    @property
    def name(self) -> str:
        """As people read it, with the classes where some are chosen: ``dice(car=2, road=1)``."""
        weights = [weight for _, weight in self.chosen]
        plain = set(weights) <= {1.0}
        said = ["" if plain else f"={np.format_float_positional(w, trim='-')}" for w in weights]
        shown = [label + weight for label, weight in zip(self.labels, said, strict=True)]
        return f"{self.kind}({', '.join(shown)})" if shown else self.kind

    def class_weights(self, classes: int) -> Floats:
        """float64 [C], 0 for a class that is not chosen. InputError: a chosen one is none of C."""
        weights = np.full(classes, 0.0 if self.chosen else 1.0)
        for place, weight in self.chosen:
            if place >= classes:
                got = f"class {place} is chosen where there are {classes}"
                raise InputError(f"objective {self.name}: {got}; choose of 0 to {classes - 1}")
            weights[place] = weight
        return weights

    def counted(self, rows: ArrayLike) -> NDArray[np.uint8]:
        """How classes with these pixels [..., C] count: NEVER, ALWAYS, WHEN_PREDICTED."""
        rows = np.asarray(rows)
        found = np.where(rows > 0, np.uint8(self.present), np.uint8(self.absent))
        return np.where(self.class_weights(rows.shape[-1]) > 0, found, np.uint8(NEVER))

    def class_scores(self, intersections: Counts, rows: Counts, columns: Counts) -> Floats:
        """IoU or Dice of every class [..., C]; 0 where there is nothing."""
        return (dice if self.dice else iou)(intersections, rows, columns)

    def members(self, rows: Counts, columns: Counts) -> NDArray[np.bool_]:
        """Whether each class [..., C] is in the mean."""
        counted = self.counted(rows)
        return (counted == ALWAYS) | ((counted == WHEN_PREDICTED) & (columns > 0))

    def __call__(self, intersections: ArrayLike, rows: ArrayLike, columns: ArrayLike) -> Floats:
        """The objective [...] of counts [..., C], of [..., V, C] where cases are apart."""
        inter, rows, columns = (np.asarray(x) for x in (intersections, rows, columns))
        if self.per_case:
            return self._nested(inter, rows, columns, np.ones((1, rows.shape[-2])))[..., 0]
        weights = self._weights(rows) * self.members(rows, columns)
        found = _mean(self.class_scores(inter, rows, columns), weights)
        return np.where(rows.sum(axis=-1) > 0, found, np.nan)

    def _weights(self, rows: Counts) -> Floats:
        """Of the classes within their mean, [C] or [..., C]."""
        weights = self.class_weights(rows.shape[-1])
        return weights * rows if self.frequency else weights

    def _nested(self, inter: Counts, rows: Counts, columns: Counts, times: Floats) -> Floats:
        """[..., S] of counts [..., V, C], where case v was drawn times[s, v] times."""
        scores = self.class_scores(inter, rows, columns)
        members = self.members(rows, columns).astype(np.float64)
        weights = self.class_weights(rows.shape[-1])
        if self.inner == "classes":
            of_case = _mean(scores, members * weights)[..., None]
            known = ~np.isnan(of_case)
            drawn = (np.matmul(times, x)[..., 0] for x in (np.where(known, of_case, 0.0), known))
            summed, number = drawn
            return np.divide(summed, number, out=np.full(number.shape, np.nan), where=number > 0)
        drawn = (np.matmul(times, x) for x in (scores * members, members))
        summed, number = drawn
        of_class = np.divide(summed, number, out=np.zeros(number.shape), where=number > 0)
        return _mean(of_class, weights * (number > 0))

    def of(self, confusions: ArrayLike) -> float:
        """The objective of matrices [V, C, C]; a fraction, nan where nothing is scored."""
        confusions = np.asarray(confusions)
        return float(self.resampled(confusions, np.ones((1, len(confusions))))[0])

    def resampled(self, confusions: ArrayLike, times: ArrayLike) -> Floats:
        """The objective [S] of S draws from matrices [V, C, C].

        Args:
            confusions: int64, rows targets.
            times: [S, V], how often each draw took each video; any weights >= 0.
        """
        return self.drawn(*counts(confusions), np.asarray(times, np.float64))

    def drawn(self, inter: Counts, rows: Counts, columns: Counts, times: Floats) -> Floats:
        """As `resampled`, [..., S] of diagonals, row and column sums [..., V, C]."""
        if self.per_case:
            return self._nested(inter, rows, columns, times)
        # float64 sums of pixel counts are exact below 2^53, so a BLAS's order of adding is hidden
        return self(*(np.matmul(times, part.astype(np.float64)) for part in (inter, rows, columns)))

    def cells(self, rows: Counts) -> Cells:
        """What a sweep needs to know of targets [V, C], pixels per video and class."""
        rows = rows if self.per_case else rows.sum(axis=0, keepdims=True)
        weights, grid = self._weights(rows), np.indices(rows.shape)
        if self.inner == "cases":  # a class's weight is that of its own mean over cases
            outer, shares, weights = grid[1], weights, np.ones(rows.shape)
        else:
            outer, shares = grid[0], np.ones(len(rows))
        weights = np.broadcast_to(weights, rows.shape)
        return Cells(rows, self.counted(rows), weights, outer, shares, self.dice)


def counts(confusion: ArrayLike) -> tuple[Counts, Counts, Counts]:
    """Diagonal, row sums and column sums [..., C] of matrices [..., C, C]: all that is needed."""
    matrix = np.asarray(confusion)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        got = f"confusion: got shape {list(matrix.shape)}"
        raise InputError(f"{got}; give matrices [..., C, C], rows targets")
    return np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(axis=-1), matrix.sum(axis=-2)


_ROWS = (
    Objective("vspw"),
    Objective("union", absent=WHEN_PREDICTED),
    Objective("all", absent=ALWAYS),
    Objective("fwiou", frequency=True),
    Objective("dice", dice=True),
    Objective("case-iou", inner="classes"),
    Objective("case-dice-monai", dice=True, inner="classes"),
    Objective("case-dice-nnunet", absent=WHEN_PREDICTED, dice=True, inner="cases"),
)
OBJECTIVES: dict[str, Objective] = {row.kind: row for row in _ROWS}
CONVENTIONS = ("vspw", "union", "all")  # those of a mean IoU over one matrix


def _several(classes: Classes) -> bool:
    """Whether they are a list or mapping of at least one; arrays have a length too."""
    listed = hasattr(classes, "__len__") and getattr(classes, "ndim", 1) > 0
    return listed and not isinstance(classes, (str, bytes)) and len(classes) > 0


@checked
def objective(
    name: str | Objective, classes: Classes | None = None, names: Sequence[str] | None = None
) -> Objective:
    """The objective of this name, over all classes or some.

    Args:
        name: in `OBJECTIVES`; an `Objective` is itself.
        classes: ids or names of those that count, or a mapping from them to weights > 0.
        names: of all C classes, in order; needed where `classes` has names.

    Raises:
        InputError: no such objective or class, a class twice, weights that are not finite and > 0.
    """
    if isinstance(name, str) and name not in OBJECTIVES:
        raise InputError(f"convention: got {name!r}; choose one of {', '.join(OBJECTIVES)}")
    found = OBJECTIVES[name] if isinstance(name, str) else name
    if classes is None:
        return found
    if not _several(classes):
        raise InputError(f"classes: got {classes!r}; give a list of classes, or class to weight")
    weights = classes.values() if isinstance(classes, Mapping) else [1.0] * len(classes)
    chosen: dict[int, tuple[float, str]] = {}
    for key, weight in zip(classes, weights, strict=True):
        place = _place(key, names)
        if place in chosen:
            raise InputError(f"classes: {key!r} is there twice; give each class once")
        if not (math.isfinite(weight) and weight > 0):
            raise InputError(f"classes: the weight of {key!r} is {weight}; give a number above 0")
        chosen[place] = float(weight), names[place] if names else str(place)
    ordered = sorted(chosen.items())
    pairs = tuple((place, weight) for place, (weight, _) in ordered)
    return replace(found, chosen=pairs, labels=tuple(label for _, (_, label) in ordered))


def _place(key: int | str, names: Sequence[str] | None) -> int:
    """The id of a class."""
    if isinstance(key, str):
        if names is None:
            raise InputError(f"classes: got the name {key!r}; give names= of all classes, or ids")
        if key not in names:
            raise InputError(f"classes: there is no {key!r}{did_you_mean(key, names)}")
        return list(names).index(key)
    if not isinstance(key, (int, np.integer)) or key < 0 or (names and key >= len(names)):
        most = "" if names is None else f" to {len(names) - 1}"
        raise InputError(f"classes: there is no class {key!r}; give names, or ids from 0{most}")
    return int(key)


@checked
def miou_of_counts(
    intersections: ArrayLike,
    rows: ArrayLike,
    columns: ArrayLike,
    convention: str | Objective = "vspw",
) -> Floats:
    """mIoU [...] from diagonals, row sums and column sums [..., C]; the same bits as `miou`."""
    shapes = [list(np.shape(each)) for each in (intersections, rows, columns)]
    if not shapes[0] == shapes[1] == shapes[2] or not shapes[0]:
        raise InputError(f"counts: got shapes {shapes}; give three of one shape, [..., C]")
    return objective(convention)(intersections, rows, columns)
