"""What a report shows, as plain values: gathered once, drawn by figures and tables.

Scores are fractions; nan, None or an empty tuple stand for what is not known. C classes, M models,
V videos, B bins, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Picture = NDArray[np.uint8]  # [H, W, 3]


@dataclass(frozen=True)
class Estimate:
    """A score or gain, and its 95 % interval."""

    value: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True)
class Rung:
    """A row of the ladder: a name, and its score on every split that knows it."""

    name: str
    scores: Mapping[str, Estimate]


@dataclass(frozen=True)
class Contender:
    """What was scored on held-out folds. gain: over uniform weights; None of these themselves."""

    name: str
    score: Estimate
    gain: Estimate | None = None
    recommended: bool = False
    found: bool = False


@dataclass(frozen=True)
class Plane:
    """The objective over two weights relative to the first group's.

    Args:
        axes: names of the groups on the two axes; `fixed` has weight 1.
        x, y: weights [X] and [Y] of the grid.
        scores: [Y, X].
        best: (x, y) of the optimum that was found, and its score.
        paper: (x, y) of the paper's weights, where the groups are the paper's.
        plausible: [Y, X] bool: not distinguishable from the optimum on these units.
        certified: an upper bound of the score, where there is one.
    """

    fixed: str
    axes: tuple[str, str]
    x: Floats
    y: Floats
    scores: Floats
    best: tuple[float, float, float]
    paper: tuple[float, float] | None = None
    plausible: NDArray[np.bool_] | None = None
    certified: float | None = None


@dataclass(frozen=True)
class ClassRow:
    """A class: labelled pixels, and its IoU (or Dice) by what predicts it.

    held_out: of what was found without the videos it is scored on, of the split that was searched.
    """

    name: str
    pixels: int
    single: float
    uniform: float
    found: float
    multiplier: float | None = None
    held_out: float = float("nan")


@dataclass(frozen=True)
class ModelRow:
    """A model: its group, its score alone on every split, and what it adds to the ensemble."""

    name: str
    group: str
    weight: float
    scores: Mapping[str, float]
    adds: float | None = None


@dataclass(frozen=True)
class Similarity:
    """Who errs alike.

    Args:
        models: M names, in the order of the clustering: those that err alike are neighbours.
        shares: [M, M]: of the pixels that either model has wrong, the share on which both give the
            same wrong class.
        linkage: [M - 1, 4] of scipy's clustering in that order, for a dendrogram; None for fewer
            than two models.
    """

    models: tuple[str, ...]
    shares: Floats
    linkage: Floats | None = None


@dataclass(frozen=True)
class VideoRow:
    """A video of a split."""

    split: str
    name: str
    frames: int
    single: float
    found: float


@dataclass(frozen=True)
class ConfusionPair:
    """Pixels of one class that are given another, by the best single model and by the ensemble."""

    truth: str
    predicted: str
    single: int
    found: int


@dataclass(frozen=True)
class Curve:
    """A calibration curve: mean confidence [B], accuracy [B] and share of pixels [B] of bins."""

    name: str
    confidence: Floats
    accuracy: Floats
    share: Floats
    ece: float


@dataclass(frozen=True)
class FrontPoint:
    """Postprocessing: a candidate, held-out score and video consistency."""

    name: str
    score: float
    vc8: float
    vc16: float
    on_front: bool = False
    chosen: bool = False


@dataclass(frozen=True)
class FrameRow:
    """A frame to look at.

    Args:
        video, frame: ids.
        gain: pixel accuracy of the ensemble minus that of the best single model.
        pictures: by name, in order: image where given, truth, best single, fused, disagreement.
    """

    video: str
    frame: str
    gain: float
    pictures: Mapping[str, Picture]


@dataclass(frozen=True)
class Facts:
    """All of it. What looks at single classes, pixels and frames is of the last split.

    Args:
        best: the best single model.
        multipliers: by class; of independent channels their thresholds, and `decision` says so.
        decision: "multiplier" or "threshold".
        colours: of `classes`, in their order, void last [C + 1, 3].
    """

    title: str
    verdict: str
    objective: str
    remarks: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("val",)
    best: str = ""
    score: Estimate | None = None
    expected: Estimate | None = None
    ladder: tuple[Rung, ...] = ()
    contenders: tuple[Contender, ...] = ()
    weights: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    plane: Plane | None = None
    multipliers: Mapping[str, float] = field(default_factory=dict)
    decision: str = "multiplier"
    classes: tuple[ClassRow, ...] = ()
    models: tuple[ModelRow, ...] = ()
    similarity: Similarity | None = None
    videos: tuple[VideoRow, ...] = ()
    confusions: tuple[ConfusionPair, ...] = ()
    calibration: tuple[Curve, ...] = ()
    front: tuple[FrontPoint, ...] = ()
    helped: tuple[FrameRow, ...] = ()
    hurt: tuple[FrameRow, ...] = ()
    colours: Picture | None = None
    provenance: tuple[tuple[str, str], ...] = ()
