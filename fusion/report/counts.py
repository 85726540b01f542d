"""One pass over a split's labelled frames, and all that a report counts in it.

K contestants (the best single model, uniform weights, what was found), M models, C classes.
Every labelled frame is counted for the contestants; single models, which take longest, and
calibration are looked at on a sample of the frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusion.ensemble import Ensemble
from fusion.kernels.numbers import void_label
from fusion.labels import Labels
from fusion.metrics import Calibration, Scores, confusion
from fusion.metrics.calibration import BINS, OUTPUTS, SUMS, band_sums, of_channels
from fusion.metrics.evaluation import Parts, beside_truth, every
from fusion.metrics.objectives import Counts
from fusion.parallel import map_videos
from fusion.report.reading import Reader, postprocessed
from fusion.report.results import Data, Running
from fusion.report.similarity import common_errors

SINGLE, UNIFORM, FOUND = "best single", "uniform weights", "what was found"
MOST_FRAMES = 400  # of a sample
MOST_WORK = 60_000_000_000  # pixels x classes x models of a sample: a minute or two
MOST_PIXELS = 1 << 16  # of a frame, in which common errors are counted

Frames = frozenset[tuple[str, str]]  # (part, frame)


@dataclass(frozen=True)
class Seen:
    """What one part of a split showed.

    confusions: int64 [K, C, C]. gains: of every frame with a labelled pixel the pixel accuracy of
    the last contestant minus that of the first. errors: int64 [2, M, M] of the sampled frames, as
    `common_errors` counts. calibration: int64 [K, bins, sums] of these.
    """

    confusions: Counts
    gains: dict[str, float]
    errors: Counts
    calibration: Counts


@dataclass(frozen=True)
class Look:
    """The task of one part.

    Args:
        contestants: what is compared, by name.
        models: every model by itself, by name.
        truth: the labels.
        parts: what ids stand for.
        stride: s counts rows and columns 0, s, 2s, ...
        sample: frames at which single models and calibration are looked at.
    """

    contestants: Mapping[str, Ensemble]
    models: Mapping[str, Ensemble]
    truth: Labels
    parts: Parts
    stride: int
    sample: Frames

    def __call__(self, name: str) -> Seen:
        part, compared = self.parts[name], list(self.contestants.values())
        models = list(self.models.values())
        first, classes = compared[0], len(compared[0].classes)
        seen = self._nothing(classes)
        reader = Reader(part.video, compared, models if self.sample else ())
        for each in compared:
            if postprocessed(each):
                reader.follow(each, part.frames, self._outputs(each))
        chosen = [frame for frame in part.frames if (name, frame) in self.sample]

        def read(frames: list[str]) -> Iterator[tuple[str, str]]:
            return reader.frames(frames, chosen, together(part.video, compared, models))

        for target, frame in beside_truth(first, self.truth, part, read):
            sampled = (name, frame) in self.sample
            made = [
                self._contestant(reader, each, frame, target, seen.calibration[k], sampled)
                for k, each in enumerate(compared)
            ]
            self._count(frame, target, made, seen)
            if sampled and models:
                labels = (reader.predicted(model, frame) for model in models)
                seen.errors[:] += shared_errors(labels, target, void_label(classes))
        return seen

    def _nothing(self, classes: int) -> Seen:
        number, models = len(self.contestants), len(self.models)
        matrices = np.zeros((number, classes, classes), np.int64)
        sums = np.zeros((number, BINS, len(SUMS)), np.int64)
        return Seen(matrices, {}, np.zeros((2, models, models), np.int64), sums)

    def _contestant(
        self,
        reader: Reader,
        ensemble: Ensemble,
        frame: str,
        target: np.ndarray,
        sums: Counts,
        sampled: bool,
    ) -> np.ndarray:
        """Labels of a frame; of a sampled one calibration too, which is added to `sums`."""
        if not sampled:
            return reader.predicted(ensemble, frame)
        apart, maps = ensemble.channels is not None, []
        for _, (first, end), fused in reader.bands(ensemble, frame, self._outputs(ensemble)):
            assert fused.labels is not None
            maps.append(fused.labels.cpu().numpy())
            band = target[..., first:end, :]
            sums += band_sums(*(of_channels(fused, band) if apart else (fused, band)))
        return reader.whole(ensemble, maps)

    def _outputs(self, ensemble: Ensemble) -> Sequence[str]:
        """What is asked of an ensemble in a sample; labels alone where there is none."""
        if not self.sample:
            return ("labels",)
        return OUTPUTS if ensemble.channels is None else OUTPUTS[:2]

    def _count(self, frame: str, target: np.ndarray, made: list[np.ndarray], seen: Seen) -> None:
        classes, some = seen.confusions.shape[1], every(self.stride)
        void, accuracy = void_label(classes), []
        for total, labels in zip(seen.confusions, made, strict=True):
            matrix = confusion(target[some], labels[some], classes, ignore=void)
            total += matrix
            accuracy.append((int(np.trace(matrix)), int(matrix.sum())))
        (before, pixels), (after, _) = accuracy[0], accuracy[-1]
        if pixels:
            seen.gains[frame] = (after - before) / pixels


def shared_errors(labels: Iterable[np.ndarray], target: np.ndarray, void: int) -> Counts:
    """`common_errors` of label maps [..., H, W], on as many of their pixels as are enough."""
    height, width = target.shape[-2:]
    step = max(1, math.ceil(math.sqrt(height * width / MOST_PIXELS)))
    some = every(step)
    kept = target[some] != void
    flat = np.stack([each[some][kept] for each in labels])
    return common_errors(flat, target[some][kept])


def together(video: str, compared: list[Ensemble], models: list[Ensemble]) -> int:
    """Frames that are read at a time, so that those of all stores fit into half the memory."""
    every_one = [*compared, *models]
    stores = {s.identity: s for each in every_one for s in each.stores}
    sizes = (
        math.prod(store.describe(video).frame_shape) * store.item_bytes for store in stores.values()
    )
    share = every_one[0].memory // every_one[0].workers // 2
    return int(max(1, min(16, share // sum(sizes))))


@dataclass(frozen=True)
class Counted:
    """What a split showed: of every contestant scores, of the sample errors and calibration.

    gains: (part, frame) -> what the ensemble gains there. sampled: frames of the sample.
    """

    scores: Mapping[str, Scores]
    gains: Mapping[tuple[str, str], float]
    errors: Counts
    calibration: Mapping[str, Calibration]
    sampled: int


def count(
    data: Data, contestants: Mapping[str, Ensemble], running: Running, *, whole: bool
) -> Counted:
    """Looks at every labelled frame of a split once.

    Args:
        data: the split.
        contestants: what is compared, by name, the best single model first, what was found last.
        running: how stores are read.
        whole: whether single models and calibration are wanted too.
    """
    split, parts = data.split, data.split.parts
    models = data.models if whole else {}
    sample = sample_of(parts, work(data)) if whole else frozenset()
    shared = {n: halved(e).sharing(running.scheduler) for n, e in contestants.items()}
    alone = {n: halved(e).sharing(running.scheduler) for n, e in models.items()}
    task = Look(shared, alone, split.truth, parts, split.stride, sample)
    title = running.title(f"looking at {split.name}")
    seen = map_videos(task, list(parts), scheduler=running.scheduler, progress=title)
    classes, scores, sums = next(iter(shared.values())).classes, {}, {}
    for k, name in enumerate(shared):
        matrices = {part: each.confusions[k] for part, each in seen.items()}
        scores[name] = Scores(matrices, classes, split.convention)
        sums[name] = Calibration({part: each.calibration[k] for part, each in seen.items()})
    gains = {(part, f): gain for part, each in seen.items() for f, gain in each.gains.items()}
    errors = sum(each.errors for each in seen.values())
    return Counted(scores, gains, np.asarray(errors), sums if whole else {}, len(sample))


def halved(ensemble: Ensemble) -> Ensemble:
    """The same with half the memory; the other half holds what was read."""
    return ensemble.regrouped(ensemble.groups, ensemble.weights, memory=ensemble.memory // 2)


def work(data: Data) -> int:
    """Pixels x classes x models of a frame, the largest of all videos."""
    ensemble = data.split.ensemble
    videos = {part.video for part in data.split.parts.values()}
    pixels = max(math.prod(ensemble.size(video)) for video in videos)
    return pixels * len(ensemble.classes) * len(data.models)


def sample_of(parts: Parts, each: int) -> Frames:
    """Frames evenly over all, as few as their work allows.

    Args:
        parts: all there are.
        each: work of a frame, as `work` counts.
    """
    frames = [(name, frame) for name, part in parts.items() for frame in part.frames]
    most = max(1, min(MOST_FRAMES, MOST_WORK // each))
    return frozenset(frames[:: math.ceil(len(frames) / most)])
