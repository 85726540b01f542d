"""Frames beside their neighbours in time, from a stream, holding no more than these."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from fusion.postprocess.operation import Frame, Stream, Video


class Neighbourhood(NamedTuple):
    """A frame, and those within reach of it, itself among them, in order of time."""

    centre: Frame
    frames: tuple[Frame, ...]
    distances: tuple[int, ...]  # in time, negative of those before


def neighbourhoods(
    stream: Stream, video: Video, before: float, after: float
) -> Iterator[Neighbourhood]:
    """Every frame of a stream beside those at most so far before and after it.

    Args:
        stream: frames in order of time, all of the video's or some.
        video: says when they were taken.
        before, after: in frames of the source video (`Video.times`), both ends included.
    """
    times = video.times
    held: deque[Frame] = deque()
    waiting: deque[Frame] = deque()  # those of `held` that were not given yet

    def ready(centre: Frame) -> Neighbourhood:
        now = times[centre.name]
        while times[held[0].name] < now - before:
            held.popleft()
        some = tuple(frame for frame in held if times[frame.name] <= now + after)
        return Neighbourhood(centre, some, tuple(times[frame.name] - now for frame in some))

    for frame in stream:
        while waiting and times[waiting[0].name] + after < times[frame.name]:
            yield ready(waiting.popleft())
        held.append(frame)
        waiting.append(frame)
    while waiting:
        yield ready(waiting.popleft())


def most_within(video: Video, before: float, after: float) -> int:
    """The most frames of a video that lie within such a reach."""
    times = sorted(video.times.values())
    most = first = 0
    for last, time in enumerate(times):
        while times[first] < time - before - after:
            first += 1
        most = max(most, last - first + 1)
    return most
