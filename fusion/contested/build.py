"""From group means to contested pixels: computed here, once, whatever is searched afterwards.

stores -> group means at label resolution -> condense, a task per video -> in memory, or a cache
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fusion.arguments import checked
from fusion.contested.cache import CondensedCache, cache_folder
from fusion.contested.pixels import MEMORY, Condensed
from fusion.contested.video import VideoPixels
from fusion.ensemble.plan import Budget
from fusion.errors import InputError
from fusion.folds import VIDEOS, Units
from fusion.kernels import contested
from fusion.kernels.contested import layout
from fusion.kernels.contested.layout import Block, merged
from fusion.kernels.driver import out_of_memory
from fusion.kernels.numbers import void_label
from fusion.metrics.evaluation import Parts, frame_counts, fused_beside_truth, part_of, parts_of
from fusion.parallel import map_videos

if TYPE_CHECKING:
    from fusion.ensemble import Ensemble
    from fusion.labels import Labels


MOST_REACH = 1024  # its square is the most by which multipliers may differ


def condense(
    group_means: Any,
    targets: Any,
    classes: int,
    *,
    ignore: int,
    video: str = "",
    reach: float = 1.0,
) -> Block:
    """One block of pixels without the scores that no weighting needs.

    Args:
        group_means: float32 [G, C, ...] array or tensor of probabilities at label resolution. Of a
            tensor on a GPU the contested pixels alone are copied to the host.
        targets: uint8 or uint16 [...].
        classes: C.
        ignore: target of the pixels that are dropped, whatever their scores.
        video: named in errors.
        reach: class multipliers will lie in [1 / reach, reach].

    Raises:
        InputError: shapes or types that do not fit; a counted pixel whose target is no class, or
            with a score that is NaN or outside 0..1.
    """
    means, labels = on_host_or_gpu(group_means), np.asarray(targets)
    where = f"condense: video {video!r}" if video else "condense"
    fits = means.shape[1:] == (classes, *labels.shape) and len(means) > 0
    kind = str(means.dtype).removeprefix("torch.")
    if not fits or kind != "float32" or labels.dtype not in (np.uint8, np.uint16):
        got = f"means {kind} {list(means.shape)}, targets {labels.dtype} {list(labels.shape)}"
        expected = f"float32 [groups, {classes} classes, ...] and uint8 or uint16 [...]"
        raise InputError(f"{where}: {got}; give {expected}")
    flat = labels.reshape(-1).astype(np.uint16, copy=False)
    try:
        return _condensed(means.reshape(len(means), classes, -1), flat, ignore, reach**2)
    except contested.BadPixel as error:
        bad = "target" in error.reason
        got = f"target {flat[error.pixel]}" if bad else "scores that are NaN or not in 0..1"
        position = [int(i) for i in np.unravel_index(error.pixel, labels.shape)]
        advice = f"class ids below {classes} or {ignore}, and finite logits"
        raise InputError(f"{where}: pixel {position} has {got}; give {advice}") from error


def _condensed(means: Any, targets: np.ndarray, ignore: int, ratio: float) -> Block:
    """The same block on the CPU where a GPU has no memory left for it."""
    try:
        return contested.condense(means, targets, ignore, ratio)
    except RuntimeError as error:
        if isinstance(means, np.ndarray) or not out_of_memory(error):
            raise
    said = f"device {means.device}: out of memory; condensing goes on on the CPU"
    warnings.warn(said, stacklevel=3)
    return contested.condense(means.cpu().numpy(), targets, ignore, ratio)


def on_host_or_gpu(means: Any) -> Any:
    """A tensor on a GPU as it is, all else as an array."""
    return means if getattr(means, "is_cuda", False) else np.asarray(means)


def condense_channels(
    means: Any, targets: np.ndarray, *, video: str = "", reach: float = 1.0
) -> Block:
    """The block of independent channels: each as pixels with two candidates, 1 - P and P.

    Args:
        means: float32 [G, C, ...] array, or tensor on a GPU.
        targets: [C, ...] ids of the 2C classes, or their void label.
        video: named in errors.
        reach: of the multipliers of what is there, those of its absence being 1.
    """
    how: dict[str, Any] = {"ignore": void_label(2), "video": video, "reach": math.sqrt(reach)}
    number, blocks = len(targets), []
    void = void_label(2 * number)
    for channel, target in enumerate(targets):
        present = means[:, channel]
        absent = 1 - present  # as fusion subtracts, in float32
        pair: Any = np if isinstance(present, np.ndarray) else torch
        two = pair.stack([absent, present], 1)
        ids = np.where(target == void, void_label(2), target - 2 * channel).astype(np.uint8)
        block = condense(two, ids, 2, **how)
        blocks.append(layout.renumbered(block, 2 * channel, 2 * number))
    return merged(blocks)


class Builder:
    """Collects the blocks of many videos, which keep the order of their first blocks."""

    def __init__(self, groups: Sequence[str], classes: Sequence[str]) -> None:
        self.groups, self.classes = tuple(groups), tuple(classes)
        self._blocks: dict[str, list[Block]] = {}

    def append(self, video: str, block: Block) -> None:
        """Adds pixels to a video. InputError: the block has other groups or classes."""
        expected = len(self.groups), len(self.classes)
        groups, classes = block.means.shape[1], len(block.constant)
        if (groups, classes) != expected:
            got = f"video {video!r} has {groups} groups, {classes} classes"
            raise InputError(f"condense: {got}; expected {expected[0]} and {expected[1]}")
        self._blocks.setdefault(video, []).append(block)

    def finish(self, memory: int = MEMORY) -> Condensed:
        """The condensed set; the builder is empty afterwards."""
        videos = tuple(self._blocks)
        pixels = tuple(VideoPixels.from_block(merged(self._blocks.pop(video))) for video in videos)
        return Condensed(self.groups, self.classes, videos, pixels, memory)


@dataclass(frozen=True)
class CondenseVideo:
    """The task of one video: its pixels without the scores that no weighting needs.

    stride: s takes rows and columns 0, s, 2s, ... cache: where the pixels go instead of back.
    reach: of the class multipliers that the pixels will serve. parts: what ids stand for.
    """

    ensemble: Ensemble
    truth: Labels
    stride: int
    cache: CondensedCache | None
    reach: float = 1.0
    parts: Parts | None = None

    @property
    def budget(self) -> Budget:
        return Budget(self.ensemble.memory, self.ensemble.workers)

    def ready(self) -> None:
        """StoreError on a machine that does not see the cache: pixels would be lost there."""
        if self.cache is not None:
            self.cache.check()

    def __call__(self, video: str) -> VideoPixels | None:
        if self.cache is None:
            return VideoPixels.from_block(merged(list(self.blocks(video))))
        self.cache.write(video, self.blocks(video))
        return None

    def blocks(self, video: str) -> Iterator[Block]:
        """Bands put together until they weigh as much as this worker may hold."""
        limit, size = self.budget.block, 0
        held: list[Block] = []
        for band in self.frames(video):
            held.append(band)
            size += band.nbytes
            if size > limit:
                yield merged(held)
                held, size = [], 0
        if held:
            yield merged(held)

    def frames(self, video: str) -> Iterator[Block]:
        """One condensed block for every band of every labelled frame."""
        step, classes = self.stride, len(self.ensemble.classes)
        part = part_of(self.ensemble, self.truth, self.parts, video)
        beside = self.budget.condensing
        bands = fused_beside_truth(self.ensemble, self.truth, part, ("group_means",), beside)
        for first, target, fused in bands:
            assert fused.group_means is not None
            start = -first % step  # row 0 of the picture is the first that is taken
            means = on_host_or_gpu(fused.group_means)[:, :, start::step, ::step]
            labels = target[..., start::step, ::step]
            how: dict[str, Any] = {"video": video, "reach": self.reach}
            if self.ensemble.channels is not None:
                yield condense_channels(means, labels, **how)
            else:
                yield condense(means, labels, classes, ignore=void_label(classes), **how)


@checked
def condense_ensemble(
    ensemble: Ensemble,
    truth: Labels,
    *,
    scheduler: str = "threads",
    progress: str | None = None,
    stride: int = 1,
    cache: str | Path | None = None,
    reach: float = 1.0,
    units: Units = VIDEOS,
) -> Condensed:
    """Condenses the labelled frames of an ensemble's videos, whatever the ensemble's weights.

    Evaluation keeps within the ensemble's memory: what does not fit is streamed from the cache.

    Args:
        scheduler, progress: as in `Ensemble.evaluate`.
        stride: s > 1 scores a subsample, every s-th row and column.
        cache: a folder in which the condensed videos are kept, under the digest of all that they
            depend on: found there, they are not built again, and an interrupted build goes on.
        reach: class multipliers may then lie in [1 / reach, reach]; 1 for none.
        units: whose parts are the set's `videos`.
    """
    if not 1 <= reach <= MOST_REACH:
        do = f"give r from 1 to {MOST_REACH} for multipliers in [1/r, r]"
        raise InputError(f"multipliers: reach {reach}; {do}")
    if reach != 1 and ensemble.mean != "arithmetic":
        raise InputError("multipliers: mean='geometric' takes none; use mean='arithmetic'")
    if stride < 1:
        raise InputError(f"stride: got {stride}; give s >= 1 for every s-th row and column")
    parts = parts_of(ensemble, truth, units, ensemble.scored_videos(truth))
    videos, worker = tuple(parts), ensemble.sharing(scheduler)
    groups, classes, memory = tuple(ensemble.groups), ensemble.classes, ensemble.memory
    kept = None
    if cache is not None:
        digest = data_digest(ensemble, truth, stride, reach, units)
        kept = CondensedCache(cache_folder(Path(cache), digest), digest, groups, classes)
    task = CondenseVideo(worker, truth, stride, kept, reach, parts)
    missing = videos if kept is None else kept.missing(videos)
    shown: dict[str, Any] = {"progress": progress, "frames": frame_counts(parts)}
    done = map_videos(task, missing, scheduler=scheduler, **shown) if missing else {}
    if kept is not None:
        made = kept.load(videos, memory)
    else:
        pixels = tuple(each for each in done.values() if each is not None)
        made = Condensed(groups, classes, tuple(done), pixels, memory)
    more: dict[str, Any] = {"channels": ensemble.channels is not None, "scheduler": scheduler}
    made = replace(made, reach=reach, **more)
    return made.on(str(ensemble.device))


@checked
def data_digest(
    ensemble: Ensemble,
    truth: Labels,
    stride: int = 1,
    reach: float = 1.0,
    units: Units = VIDEOS,
) -> str:
    """sha256 of all that a search's scores depend on; weights and paths are none of it."""
    videos = ensemble.scored_videos(truth)
    temperature = dict(zip(ensemble.stores, ensemble.temperatures, strict=True))
    groups = {
        name: [(s.digest(videos), temperature[s]) for s in stores]
        for name, stores in ensemble.groups.items()
    }
    document = [groups, list(groups), ensemble.resize, truth.digest(videos), stride]
    # nothing is added for plain ones: caches of before stay valid
    document += [reach] if reach != 1 else []
    document += [units.text] if units.frames else []
    document += [ensemble.mean] if ensemble.mean != "arithmetic" else []
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
