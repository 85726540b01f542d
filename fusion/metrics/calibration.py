"""Are probabilities what they say? Calibration error, log-likelihood and Brier score of pixels.

Of N counted pixels (void left out), each with fused probabilities F_c, target t, label l = argmax F
and confidence F_l:

    ECE      sum over bins of |pixels that are right - sum of confidences| / N; bin b of 15 holds
             the confidences in (b / 15, (b + 1) / 15] (Guo et al., "On Calibration of Modern
             Neural Networks", ICML 2017, equation 3)
    NLL      mean of -log(max(F_t, e^-24)), in nats; the floor is `LEAST_PROBABILITY`, the one that
             gap codes have: a pixel costs 24 nats at most
    Brier    mean of sum_c (F_c - [c = t])^2, from 0 to 2 (Brier 1950; the sum over classes)

All three follow from sums per video, int64 [15, 5]: they add up exactly, whatever the order of
bands, frames and videos. F is what `predict_proba` gives; of stores of "scores" it need not sum to
one over the classes. Of independent channels each channel of a pixel counts as a pixel of two
classes, with 1 - F and F.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from fusion.errors import InputError
from fusion.kernels.numbers import LEAST_PROBABILITY, void_label
from fusion.metrics.evaluation import fused_beside_truth, part_of
from fusion.metrics.objectives import Counts, Floats
from fusion.parallel import map_videos
from fusion.text import or_none, percent

if TYPE_CHECKING:
    from fusion.ensemble import Ensemble
    from fusion.kernels.arithmetic import Fused
    from fusion.labels import Labels

BINS = 15
SUMS = ("pixels", "right", "confidence", "nll", "brier")
UNIT = 1 << 24  # confidence, nll and brier are summed in 2^-24: room for 2e10 pixels in an int64
OUTPUTS = ("labels", "probabilities", "confidence")


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """Calibration of a set of videos; those of different videos add up with ``+``.

    Every measure is nan where no pixel is counted.

    Args:
        sums: video id to int64 [15, 5], a row per bin of confidence, columns `SUMS`.

    Raises:
        InputError: sums of another type or shape.
    """

    sums: Mapping[str, Counts]

    def __post_init__(self) -> None:
        for video, array in self.sums.items():
            if array.dtype != np.int64 or array.shape != (BINS, len(SUMS)):
                got = f"video {video!r} has {array.dtype} {list(array.shape)}"
                raise InputError(f"calibration: {got}; give int64 [{BINS}, {len(SUMS)}]")

    def __repr__(self) -> str:
        return f"Calibration({self.text()}; {len(self.sums)} videos, {self.pixels} pixels)"

    @cached_property
    def total(self) -> Counts:
        """int64 [15, 5]: the sum over all videos."""
        return sum(self.sums.values(), np.zeros((BINS, len(SUMS)), np.int64))

    @property
    def pixels(self) -> int:
        """N, the pixels that count."""
        return int(self.total[:, 0].sum())

    @property
    def ece(self) -> float:
        """Expected calibration error, a fraction."""
        _, right, confidence = self.total.T[:3]
        return self._mean(np.abs(right * UNIT - confidence).sum())

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood, in nats."""
        return self._mean(self.total[:, 3].sum())

    @property
    def brier(self) -> float:
        """Mean Brier score, from 0 to 2."""
        return self._mean(self.total[:, 4].sum())

    @property
    def reliability(self) -> Floats:
        """float64 [15, 3]: pixels, mean confidence and accuracy of each bin; nan in empty ones."""
        pixels, right, confidence = self.total.T[:3].astype(np.float64)
        with np.errstate(invalid="ignore"):
            return np.stack([pixels, confidence / UNIT / pixels, right / pixels], axis=1)

    def __add__(self, other: Calibration) -> Calibration:
        """Calibration of the videos of both; InputError for a video in both (counted twice)."""
        if twice := sorted(self.sums.keys() & other.sums.keys()):
            got = f"video {twice[0]!r} is in both ({len(twice)} such)"
            raise InputError(f"calibration: {got}; add those of different videos")
        return Calibration({**self.sums, **other.sums})

    def text(self) -> str:
        """The three measures in a line."""
        return f"ECE {percent(self.ece)} %, NLL {self.nll:.4f} nats, Brier {self.brier:.4f}"

    def to_json(self) -> dict[str, Any]:
        """Plain values ready for `json.dump`: fractions and nats, None where one is nan."""
        measures = {name: or_none(getattr(self, name)) for name in ("ece", "nll", "brier")}
        rows = [[int(row[0]), *map(or_none, row[1:])] for row in self.reliability]
        sizes = {"videos": len(self.sums), "pixels": self.pixels}
        return {**measures, **sizes, "reliability": rows}

    def _mean(self, total: int) -> float:
        return int(total) / UNIT / self.pixels if self.pixels else math.nan


@dataclass(frozen=True)
class VideoCalibration:
    """The task of one video: its sums, int64 [15, 5]."""

    ensemble: Ensemble
    truth: Labels

    def __call__(self, video: str) -> Counts:
        total = np.zeros((BINS, len(SUMS)), np.int64)
        part = part_of(self.ensemble, self.truth, None, video)
        apart = self.ensemble.channels is not None
        outputs = OUTPUTS[:2] if apart else OUTPUTS
        bands = fused_beside_truth(self.ensemble, self.truth, part, outputs)
        for _, target, fused in bands:
            total += band_sums(*(of_channels(fused, target) if apart else (fused, target)))
        return total


def of_channels(fused: Fused, target: np.ndarray) -> tuple[Fused, np.ndarray]:
    """Bands [C, ...] of independent channels as those of pixels with two classes."""
    import torch

    from fusion.kernels.arithmetic import Fused

    present = fused.probabilities
    assert present is not None
    both = torch.stack([1 - present, present])
    void = void_label(2 * len(target))
    ids = np.where(target == void, void_label(2), target % 2).astype(np.uint8)
    return Fused(fused.labels, both, confidence=both.amax(dim=0)), ids


def band_sums(fused: Fused, target: np.ndarray) -> Counts:
    """Sums [15, 5] of some pixels.

    Args:
        fused: their `OUTPUTS`, on any device.
        target: uint8 or uint16 [...], class ids or void.

    Raises:
        InputError: a counted pixel has no probabilities (NaN).
    """
    import torch

    assert fused.labels is not None
    assert fused.probabilities is not None
    assert fused.confidence is not None
    classes = len(fused.probabilities)
    counted = target != void_label(classes)
    index = torch.from_numpy(np.where(counted, target, 0).astype(np.int64))
    hit = fused.probabilities.gather(0, index.to(fused.probabilities.device)[None])[0]
    # planes one after the other: float64 sums of one order, and no copy of all classes
    squares = reduce(torch.add, (plane.double().square() for plane in fused.probabilities))
    tensors = (fused.labels, fused.confidence, hit, squares)
    labels, confidence, hits, squared = (t.cpu().numpy()[counted] for t in tensors)
    if np.isnan(confidence).any():
        got = f"{int(np.isnan(confidence).sum())} labelled pixels have no probabilities (NaN)"
        raise InputError(f"calibration: {got}; give finite logits")
    confidence, hits = confidence.astype(np.float64), hits.astype(np.float64)
    costs = (confidence, negative_log(hits), squared - 2 * hits + 1)
    columns = [np.ones(len(hits)), labels == target[counted]]
    columns += [np.rint(UNIT * cost) for cost in costs]  # whole numbers: exact sums below 2^53
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    sums = [np.bincount(bins, weights=column, minlength=BINS) for column in columns]
    return np.stack(sums, axis=1).astype(np.int64)


def negative_log(probabilities: Floats) -> Floats:
    """-log of float64 [...] in nats, of nothing below `LEAST_PROBABILITY`."""
    return -np.log(np.maximum(probabilities, LEAST_PROBABILITY))


def calibrate(
    ensemble: Ensemble,
    truth: Labels,
    *,
    videos: Sequence[str] | None = None,
    scheduler: str = "threads",
    progress: str | None = None,
) -> Calibration:
    """Calibration of an ensemble; arguments: `HierarchicalEnsemble.calibration`."""
    task = VideoCalibration(ensemble.sharing(scheduler), truth)
    wanted = ensemble.scored_videos(truth, videos)
    frames = None
    if progress is not None:
        frames = {video: len(ensemble.labelled_frames(truth, video)) for video in wanted}
    shown: dict[str, Any] = {"progress": progress, "frames": frames}
    return Calibration(map_videos(task, wanted, scheduler=scheduler, **shown))
