"""From stores and labels to condensed pixels: group means are computed here, once, whatever is searched afterwards.

stores -> group means at label resolution -> condense, video by video on Dask -> in memory, or a cache folder that is kept
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fusion.contested.cache import CondensedCache
from fusion.contested.pixels import Builder, Condensed, condense
from fusion.errors import InputError
from fusion.kernels.arithmetic import ignore_label
from fusion.kernels.contested.cpu import Block, merged
from fusion.metrics import map_videos

if TYPE_CHECKING:
    from fusion.ensemble import Ensemble
    from fusion.labels import Labels


@dataclass(frozen=True)
class CondenseVideo:
    """The task of one video: its pixels without the scores that no weighting needs.

    stride: 1 takes every pixel; s takes rows and columns 0, s, 2s, ... cache: where the block goes, and then nothing is returned.
    """

    ensemble: Ensemble
    truth: Labels
    stride: int
    cache: CondensedCache | None

    def __call__(self, video: str) -> Block | None:
        if self.cache is None:
            return merged(list(self.blocks(video)))
        self.cache.write(video, self.parts(video))
        return None

    def parts(self, video: str) -> Iterator[Block]:
        """Blocks put together until they weigh a good part of this worker's memory; writing one takes a few copies of it."""
        limit = self.ensemble.memory // self.ensemble.workers // 16
        held: list[Block] = []
        for block in self.blocks(video):
            held.append(block)
            if sum(b.values.nbytes + b.classes.nbytes for b in held) > limit:
                yield merged(held)
                held = []
        if held:
            yield merged(held)

    def blocks(self, video: str) -> Iterator[Block]:
        """One condensed block for every band of every labelled frame."""
        ensemble, classes = self.ensemble, len(self.ensemble.classes)
        frames = ensemble.labelled_frames(self.truth, video)
        target = np.empty(0, np.uint8)
        for frame, (first, end), fused in ensemble.stream(video, frames, ("group_means",)):
            if first == 0:
                target = ensemble.target(self.truth, video, frame)
            assert fused.group_means is not None
            rows = slice(
                -first % self.stride, None, self.stride
            )  # row 0 of the picture is the first that is taken
            means = fused.group_means.cpu().numpy()[:, :, rows, :: self.stride]
            labels = target[first:end][rows, :: self.stride]
            yield condense(means, labels, classes, ignore=ignore_label(classes), video=video)


def condense_ensemble(
    ensemble: Ensemble,
    truth: Labels,
    *,
    scheduler: str = "threads",
    progress: str | None = None,
    stride: int = 1,
    cache: str | Path | None = None,
) -> Condensed:
    """Condenses the labelled frames of an ensemble's videos; the result does not depend on the ensemble's weights.

    scheduler, progress: as in `Ensemble.evaluate`. stride: s > 1 scores a subsample, every s-th row and column. cache: a
    folder in which the condensed videos are kept, under the digest of all that they depend on: found there, they are not built again,
    and an interrupted build goes on. Evaluation keeps within the ensemble's memory: what does not fit is streamed from the cache.
    """
    if stride < 1:
        raise InputError(
            f"stride: got {stride}; give 1 for every pixel, s for every s-th row and column"
        )
    videos, worker = ensemble.scored_videos(truth), ensemble.sharing(scheduler)
    groups, device = tuple(ensemble.groups), str(ensemble.device)
    if cache is None:
        builder = Builder(groups, ensemble.classes)
        task = CondenseVideo(worker, truth, stride, None)
        for video, block in map_videos(
            task, videos, scheduler=scheduler, progress=progress
        ).items():
            assert block is not None
            builder.append(video, block)
        return builder.finish(ensemble.memory).on(device)
    digest = data_digest(ensemble, truth, stride)
    kept = CondensedCache(Path(cache) / digest[:16], digest, groups, ensemble.classes)
    missing = kept.missing(videos)
    if missing:
        map_videos(
            CondenseVideo(worker, truth, stride, kept),
            missing,
            scheduler=scheduler,
            progress=progress,
        )
    return kept.load(videos, ensemble.memory).on(device)


def data_digest(ensemble: Ensemble, truth: Labels, stride: int = 1) -> str:
    """sha256 of all that a search's scores depend on: stores, labels, groups, resize, temperatures, stride; not of weights or paths."""
    videos = ensemble.scored_videos(truth)
    temperature = dict(zip(ensemble.stores, ensemble.temperatures, strict=True))
    groups = {
        name: [(s.digest(videos), temperature[s]) for s in stores]
        for name, stores in ensemble.groups.items()
    }
    document = [groups, list(groups), ensemble.resize, truth.digest(videos), stride]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
