"""Predictions beside ground truth, frame by frame: the one loop of every task of a video.

`beside_truth` walks a video's labelled frames. A task of `fusion.parallel.map_videos` is a small
picklable object whose call consumes that walk: `VideoConfusion` counts, others look at more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np

from fusion.kernels.numbers import void_label
from fusion.metrics.confusion import confusion
from fusion.metrics.consistency import VideoWindows, stable_windows
from fusion.metrics.objectives import Classes, Counts, Objective, objective
from fusion.overlap import SOME, overlapped

if TYPE_CHECKING:
    from fusion.ensemble import Ensemble
    from fusion.folds import Units
    from fusion.kernels.arithmetic import Fused
    from fusion.labels import Labels


Predicted = TypeVar("Predicted")


class Predictions(Protocol):
    """What can be scored: an ensemble, or label maps on disk.

    `predicted` gives (frame id, ids [H, W]) of these frames, in this order; `scored_videos` and
    `labelled_frames` say what is scored against `truth`, in order of time; `target` is the ground
    truth [H, W] of a frame, checked against classes and size. Of independent `channels` both have
    the channels before the pixels.
    """

    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def channels(self) -> tuple[str, ...] | None: ...
    def predicted(self, video: str, frames: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]: ...
    def scored_videos(self, truth: Labels) -> tuple[str, ...]: ...
    def labelled_frames(self, truth: Labels, video: str) -> list[str]: ...
    def target(self, truth: Labels, video: str, frame: str) -> np.ndarray: ...


def objective_of(
    source: Predictions, wanted: str | Objective, classes: Classes | None = None
) -> Objective:
    """An objective over all classes of an ensemble, or over some.

    Of independent channels what is there counts, and not its absence.
    """
    if source.channels is not None and classes is None and not objective(wanted).chosen:
        classes = source.channels
    return objective(wanted, classes, source.classes)


class Part(NamedTuple):
    """Labelled frames whose counts are kept apart: those of a video, or a stretch of them."""

    video: str
    frames: tuple[str, ...]


Parts = Mapping[str, Part]  # by id


def frame_counts(parts: Parts) -> dict[str, int]:
    """How many frames each part has: what a bar counts."""
    return {name: len(part.frames) for name, part in parts.items()}


def parts_of(source: Predictions, truth: Labels, units: Units, videos: Iterable[str]) -> Parts:
    """All parts of these videos, in order; InputError where a unit's pattern matches no part."""
    found: dict[str, Part] = {}
    for video in videos:
        frames = source.labelled_frames(truth, video)
        found |= {name: Part(video, some) for name, some in units.parts(video, frames).items()}
    return found


def part_of(source: Predictions, truth: Labels, parts: Parts | None, name: str) -> Part:
    """The part of this id; where there are no parts, all labelled frames of the video."""
    if parts is not None:
        return parts[name]
    return Part(name, tuple(source.labelled_frames(truth, name)))


def every(stride: int) -> tuple[Any, ...]:
    """The index of rows and columns 0, s, 2s, ... of the last two axes."""
    return (..., slice(None, None, stride), slice(None, None, stride))


def beside_truth(
    source: Predictions,
    truth: Labels,
    part: Part,
    predict: Callable[[list[str]], Iterable[tuple[str, Predicted]]],
) -> Iterator[tuple[np.ndarray, Predicted]]:
    """(ground truth [H, W], what `predict` made) for each frame of a part, one at a time.

    Args:
        source: reads and checks ground truth.
        truth: where it is.
        part: which frames.
        predict: from frame ids to (frame id, anything), in the order of the ids; a frame may come
            several times in a row (bands of it): its ground truth is then read once, in a thread
            while the frames before it are fused.
    """
    known, target = None, np.empty(0, np.uint8)
    read = overlapped(partial(source.target, truth, part.video), part.frames, SOME)
    with closing(read):
        for frame, made in predict(list(part.frames)):
            if frame != known:
                known, target = frame, next(read)
            yield target, made


def fused_beside_truth(
    ensemble: Ensemble, truth: Labels, part: Part, outputs: Sequence[str], beside: int = 0
) -> Iterator[tuple[int, np.ndarray, Fused]]:
    """Every band of every frame of a part: first row, truth [..., rows, W], fused outputs.

    beside: bytes of what is made of them meanwhile.
    """

    def fuse(frames: list[str]) -> Iterator[tuple[str, tuple[tuple[int, int], Fused]]]:
        for frame, rows, fused in ensemble.stream(part.video, frames, outputs, beside):
            yield frame, (rows, fused)

    for target, ((first, end), fused) in beside_truth(ensemble, truth, part, fuse):
        yield first, target[..., first:end, :], fused


@dataclass(frozen=True)
class VideoConfusion:
    """The task of one video: [C, C] int64, rows ground truth, columns predictions.

    stride: s counts rows and columns 0, s, 2s, ... parts: what ids stand for; None for videos.
    """

    source: Predictions
    truth: Labels
    stride: int = 1
    parts: Parts | None = None

    def __call__(self, video: str) -> Counts:
        from fusion.metrics.on_device import device_counts

        if self.stride == 1:
            part = part_of(self.source, self.truth, self.parts, video)
            found = device_counts(self.source, self.truth, part.video, part.frames)
            if found is not None:
                return found
        total = np.zeros((len(self.source.classes),) * 2, np.int64)
        for _ in self.counted(video, total):
            pass
        return total

    def counted(self, video: str, total: Counts) -> Iterator[np.ndarray]:
        """The labels of each labelled frame, once its counts were added to `total` [C, C]."""
        classes, part = len(total), part_of(self.source, self.truth, self.parts, video)
        predict = partial(self.source.predicted, part.video)
        some = every(self.stride)
        for target, labels in beside_truth(self.source, self.truth, part, predict):
            total += confusion(target[some], labels[some], classes, ignore=void_label(classes))
            yield labels


def report_video(
    counts: VideoConfusion, raw_targets: bool, video: str
) -> tuple[Counts, VideoWindows]:
    """The task of one video: its confusion matrix and its windows, in one pass over predictions."""
    matrices, windows = report_stretches(counts, raw_targets, video)
    return matrices[0], windows


def report_stretches(
    counts: VideoConfusion, raw_targets: bool, video: str, lengths: Sequence[int] | None = None
) -> tuple[list[Counts], VideoWindows]:
    """The same, with a confusion matrix for each stretch of a video's labelled frames.

    Args:
        counts: what is counted; whole videos, whatever its parts.
        raw_targets: as `fusion.metrics.consistency.Variant` has it.
        video: its id.
        lengths: labelled frames of each stretch, all of the video's together; default one stretch.
    """
    source, truth, classes = counts.source, counts.truth, len(counts.source.classes)
    frames, read = source.labelled_frames(truth, video), truth.raw if raw_targets else truth.read
    ends = set(np.cumsum([len(frames)] if lengths is None else lengths).tolist())
    total, found = np.zeros((classes, classes), np.int64), list[Counts]()

    def noted() -> Iterator[np.ndarray]:
        for number, labels in enumerate(replace(counts, parts=None).counted(video, total), start=1):
            if number in ends:
                found.append(total - sum(found, np.zeros_like(total)))
            yield labels

    def target(frame: str) -> np.ndarray:
        if source.channels is None:
            return read(video, frame, classes=classes)
        return _below(source.target(truth, video, frame))

    predicted: Iterator[np.ndarray] = noted()
    if source.channels is not None:  # one below the other: each channel of a pixel is looked at
        predicted = map(_below, predicted)
    with closing(overlapped(target, frames, SOME)) as targets:
        windows = stable_windows(targets, predicted)
    return found, windows


def _below(channels: np.ndarray) -> np.ndarray:
    """[C, H, W] as [C * H, W]."""
    return channels.reshape(-1, channels.shape[-1])
