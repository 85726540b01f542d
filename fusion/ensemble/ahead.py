"""Frames of many stores, read and decoded in threads while earlier ones are fused.

A job reads some frames of one store; as many are under way as the plan leaves memory for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from typing import Protocol

import numpy as np
from torch import Tensor

from fusion.ensemble.plan import Plan
from fusion.overlap import overlapped
from fusion.stores.locations.ahead import within

Codes = np.ndarray | Tensor

FEWEST_READS = 4  # of a video: a whole video in one read overlaps with nothing


class Source(Protocol):
    """What a model's numbers are read from: a store, or what gives them as a store does."""

    @property
    def kernel_values(self) -> str: ...
    def codes(self, video: str, frames: Sequence[str]) -> Codes: ...


def batches(
    stores: Sequence[Source], video: str, frames: Sequence[str], plan: Plan
) -> Generator[tuple[Sequence[str], list[Codes]]]:
    """All frames, some at a time, and their codes [T, C, h, w] from each of the stores.

    Args:
        stores: each once. Those without `reads_ahead` are asked when their frames' turn comes, in
            the caller's thread.
        video: its id.
        frames: ids, in the order wanted.
        plan: `frames` together at most, and `ahead` such batches beside the one that is given.

    Yields:
        (frame ids, codes by store). The list is emptied when the next is asked for, so that its
        memory is free by then: keep no reference to what was in it.
    """
    parts = in_parts(frames, plan.frames, FEWEST_READS)
    threaded = [store for store in stores if getattr(store, "reads_ahead", False)]

    def job(what: tuple[Source, Sequence[str]]) -> Codes:
        store, some = what
        return store.codes(video, some)

    jobs = ([(store, some) for store in threaded] for some in parts)
    with within(plan.remote):
        if plan.ahead:
            every = (each for batch in jobs for each in batch)
            depth = plan.ahead * len(threaded)
            with contextlib.closing(overlapped(job, every, depth)) as read:
                yield from _given(stores, video, parts, threaded, read)
            return
        for batch, some in zip(jobs, parts, strict=True):  # nothing of the next beside this one
            with contextlib.closing(overlapped(job, batch, len(threaded))) as read:
                yield from _given(stores, video, [some], threaded, read)


def in_parts(frames: Sequence[str], most: int, fewest: int) -> list[Sequence[str]]:
    """Frames in runs of at most `most`, in about `fewest` runs where a video is short."""
    together = max(1, min(most, -(-len(frames) // fewest)))
    return [frames[first : first + together] for first in range(0, len(frames), together)]


def _given(
    stores: Sequence[Source],
    video: str,
    parts: Sequence[Sequence[str]],
    threaded: Sequence[Source],
    read: Iterator[Codes],
) -> Iterator[tuple[Sequence[str], list[Codes]]]:
    """Every batch with what was read of it, the rest asked for here."""
    known = set(map(id, threaded))
    for some in parts:
        codes = [next(read) if id(s) in known else s.codes(video, some) for s in stores]
        yield some, codes
        codes.clear()
