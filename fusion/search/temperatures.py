"""A temperature per model, fitted on labels: T that minimises the likelihood's negative logarithm.

    NLL_m(T) = mean over pixels of -log(max(p_mt(T), e^-24)),   p_m(T) = softmax(z_m / T), target t

Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2)
of every model by itself. p_m is what the model alone would give as an ensemble: with
resize="logits" the logits are interpolated to label pixels first, and NLL is convex in 1 / T; with
resize="probabilities" softmaxes are interpolated, which no theorem covers, and logits of pixels
that straddle an edge can make unbounded fits diverge. So the search is bounded and starts on a grid
of log T over all of the range; a second grid between the neighbours of the best, and a parabola
through its best three points, settle the third digit. Two passes over the frames.

One temperature per model leaves the model's own ranking of classes at store resolution as it was;
what it changes is how loud a model speaks in its group. Stores of "scores" have no logits, fusion
gives them no temperature, and no fit is made of them. Shape letters: M stores, K temperatures, C
classes, h w store pixels, n m every s-th row and column of the labels.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fusion.arguments import checked
from fusion.ensemble import Ensemble
from fusion.errors import InputError
from fusion.kernels.numbers import void_label
from fusion.metrics.calibration import negative_log
from fusion.metrics.evaluation import beside_truth, part_of
from fusion.metrics.objectives import Floats
from fusion.parallel import map_videos
from fusion.stores import Store
from fusion.text import table

if TYPE_CHECKING:
    from fusion.labels import Labels

BOUNDS, STRIDE = (0.25, 4.0), 4
AT_ONCE = 1 << 24  # probabilities of all temperatures together, per worker
POINTS = 15  # of a pass, odd: 1 is among those of bounds that are each other's inverse


class Fit(NamedTuple):
    """A fitted temperature: the model's lowest NLL in nats, that at 1, whether T is a bound."""

    temperature: float
    nll: float
    nll_at_one: float
    at_bound: bool


@dataclass(frozen=True)
class VideoLosses:
    """The task of one video: NLL summed over its pixels, float64 [M, K], and their number.

    temperatures: float64 [M, K], of the stores that have logits, in their order.
    """

    ensemble: Ensemble
    truth: Labels
    temperatures: Floats
    stride: int

    def __call__(self, video: str) -> tuple[Floats, int]:
        stores = with_logits(self.ensemble)
        total, pixels = np.zeros(self.temperatures.shape), 0

        def read(frames: list[str]) -> Iterator[tuple[str, tuple[int, np.ndarray]]]:
            for frame, (index, store) in itertools.product(frames, enumerate(stores)):
                get = store.codes if self.ensemble.channels is None else store.read
                yield frame, (index, get(video, [frame])[0])

        part = part_of(self.ensemble, self.truth, None, video)
        for target, (index, codes) in beside_truth(self.ensemble, self.truth, part, read):
            for maps, ids in self.decided(codes, target):
                losses, counted = self.losses(maps, ids, self.temperatures[index].tolist())
                total[index] += losses
                pixels += counted if index == 0 else 0
        return total, pixels

    def decided(
        self, codes: np.ndarray, target: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Maps [C, h, w] and targets [H, W] of the problems of a frame: one, or one a channel.

        The sigmoid of z is the softmax of 0 and z.
        """
        if self.ensemble.channels is None:
            yield codes, target
            return
        void = void_label(len(self.ensemble.classes))
        for channel, (logits, ids) in enumerate(zip(codes, target, strict=True)):
            here = np.where(ids == void, void_label(2), ids - 2 * channel).astype(np.uint8)
            yield np.stack([np.zeros_like(logits), logits]), here

    def losses(
        self, codes: np.ndarray, target: np.ndarray, temperatures: list[float]
    ) -> tuple[Floats, int]:
        """NLL [K] summed over the stride's pixels of maps [C, h, w], and how many these are."""
        some, found = target[:: self.stride, :: self.stride], np.zeros(len(temperatures))
        counted, step = some != void_label(len(codes)), max(1, AT_ONCE // codes.size)
        for at in range(0, len(temperatures), step):
            few = temperatures[at : at + step]
            hits = self.target_probabilities(codes, target.shape, some, few)[:, counted]
            found[at : at + step] = negative_log(hits.astype(np.float64)).sum(axis=1)
        return found, int(counted.sum())

    def target_probabilities(
        self, codes: np.ndarray, size: Sequence[int], some: np.ndarray, temperatures: list[float]
    ) -> Floats:
        """float32 [K, n, m] of the target's class, from codes [C, h, w].

        size: (H, W) of the whole target. some: its pixels [n, m] of the stride; void ones are
        taken for class 0.
        """
        import torch

        from fusion.kernels import softmax_average
        from fusion.kernels.arithmetic import bilinear_steps
        from fusion.kernels.average.naive import to_float32
        from fusion.kernels.upsample import naive

        count, place = len(temperatures), self.ensemble.device
        logits = torch.from_numpy(codes).to(place)
        sizes = zip(codes.shape[1:], size, strict=True)
        lines, columns = (tuple(s[:: self.stride] for s in bilinear_steps(*n)) for n in sizes)
        classes = np.where(some == void_label(len(codes)), 0, some).astype(np.int64)
        which = torch.from_numpy(classes).to(place)
        early = self.ensemble.resize == "logits"
        if early:
            logits = naive.interpolated(naive.interpolable(to_float32(logits)), lines, columns)
        how: dict[str, Any] = {"temperatures": temperatures, "outputs": "group_means"}
        maps = softmax_average([logits] * count, [1.0] * count, **how).group_means
        assert maps is not None
        if early:
            hits = maps.gather(1, which.expand(count, 1, *some.shape))[:, 0]
        else:
            hits = naive.interpolated_at(maps, which, lines, columns)
        return hits.cpu().numpy()


def with_logits(ensemble: Ensemble) -> list[Store]:
    """The stores that a temperature can be fitted for; InputError where none can."""
    stores = [store for store in ensemble.stores if store.kernel_values == "logits"]
    if not stores:
        got = f"all {len(ensemble.stores)} stores hold scores, which no temperature divides"
        raise InputError(f"temperatures: {got}; write logits or probabilities")
    return stores


def fit_each(
    ensemble: Ensemble,
    truth: Labels,
    *,
    stride: int = STRIDE,
    bounds: tuple[float, float] = BOUNDS,
    scheduler: str = "threads",
    progress: str | None = None,
) -> dict[str, Fit]:
    """The fit of every store that has logits, by its path; arguments: `fit_temperatures`."""
    low, high = map(float, bounds)
    if not 0 < low < high < math.inf:
        raise InputError(f"bounds: got {bounds}; give (low, high) with 0 < low < high")
    if stride < 1:
        raise InputError(f"stride: got {stride}; give s >= 1 for every s-th row and column")
    stores, videos = with_logits(ensemble), ensemble.scored_videos(truth)
    worker = ensemble.sharing(scheduler)

    def losses(temperatures: Floats) -> Floats:
        """Mean NLL [M, K]."""
        task = VideoLosses(worker, truth, temperatures, stride)
        found = map_videos(task, videos, scheduler=scheduler, progress=progress).values()
        pixels = sum(count for _, count in found)
        if not pixels:
            raise InputError("temperatures: no labelled pixel; give labels, or a smaller stride")
        summed = sum((total for total, _ in found), np.zeros(temperatures.shape))
        if bad := [s.place for s, row in zip(stores, summed, strict=True) if np.isnan(row).any()]:
            raise InputError(f"temperatures: {bad[0]} has NaN at labelled pixels; write it again")
        return summed / pixels

    coarse = np.geomspace(low, high, POINTS)
    coarse[[0, -1]] = low, high  # not to a rounding
    first = losses(np.tile([1.0, *coarse], (len(stores), 1)))
    best = first[:, 1:].argmin(axis=1)
    ends = coarse[np.maximum(best - 1, 0)], coarse[np.minimum(best + 1, POINTS - 1)]
    fine = np.geomspace(*ends, POINTS, axis=1)
    fine[:, 0], fine[:, -1] = ends
    fits = {}
    for store, grid, nll, at_one in zip(stores, fine, losses(fine), first[:, 0], strict=True):
        place = int(nll.argmin())
        bound = grid[place] in (low, high)
        temperature = float(grid[place]) if bound else round(vertex(grid, nll, place), 4)
        fits[store.place] = Fit(temperature, float(nll.min()), float(at_one), bound)
    return fits


def vertex(temperatures: Floats, values: Floats, place: int) -> float:
    """Where the parabola in log T through the lowest value and its neighbours is lowest."""
    if not 0 < place < len(values) - 1:
        return float(temperatures[place])
    before, lowest, after = values[place - 1 : place + 2]
    curvature = before - 2 * lowest + after
    shift = 0.5 * (before - after) / curvature if curvature > 0 else 0.0  # of a step, within half
    step = math.log(temperatures[place + 1] / temperatures[place])
    return float(temperatures[place] * math.exp(shift * step))


@checked
def fit_temperatures(
    ensemble: Ensemble,
    truth: Labels,
    *,
    stride: int = STRIDE,
    bounds: tuple[float, float] = BOUNDS,
    scheduler: str = "threads",
    progress: str | None = None,
) -> dict[str, float]:
    """Temperature of every store, by its path: what the constructor takes as `temperatures`.

    Each model alone, on the labelled frames; the ensemble's own temperatures and weights do not
    matter, its `resize` does. Warns where a temperature is at a bound.

    Args:
        stride: takes pixels of every s-th row and column.
        bounds: lowest and highest T.
        scheduler, progress: as in `HierarchicalEnsemble.evaluate`.

    Raises:
        InputError: bounds or stride that cannot be, no labelled pixel, or no store with logits.
    """
    ran: dict[str, Any] = {"scheduler": scheduler, "progress": progress}
    fits = fit_each(ensemble, truth, stride=stride, bounds=bounds, **ran)
    warn_at_bounds(fits)
    return {path: fit.temperature for path, fit in fits.items()}


def bound_lines(fits: Mapping[str, Fit]) -> list[str]:
    """What is to be said of temperatures at a bound: there, NLL still falls outwards."""
    told = "is at the bound: the fit would go on; look at the model's logits and labels"
    ends = {path: fit.temperature for path, fit in fits.items() if fit.at_bound}
    return [f"{path}: temperature {temperature:g} {told}" for path, temperature in ends.items()]


def warn_at_bounds(fits: Mapping[str, Fit]) -> None:
    for line in bound_lines(fits):
        warnings.warn(line, stacklevel=3)


def fit_table(ensemble: Ensemble, fits: Mapping[str, Fit]) -> str:
    """Fitted temperatures for people."""
    models = {store.place: store.model for store in ensemble.stores}
    header = ("temperature of", "T", "NLL at 1", "NLL")
    rows = [
        (models[path], f"{f.temperature:.3f}", f"{f.nll_at_one:.4f}", f"{f.nll:.4f}")
        for path, f in fits.items()
    ]
    warned = [f"warning: {line}" for line in bound_lines(fits)]
    return "\n".join([table(rows, header), *warned])
