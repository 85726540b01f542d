"""Sizes of images and masks by their headers, before a run finds out in its middle. H W pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusion.errors import InputError, StoreError
from fusion.models.data.clips import Clips
from fusion.parallel import map_videos

CHUNK = 256  # pairs a task
SHOWN = 64  # images that stand for all


def image_size(clips: Clips, video: str, frame: str) -> tuple[int, int]:
    """(H, W) of an image; StoreError: its header is damaged."""
    with clips.opened(video, frame) as image:
        return image.height, image.width


def sizes_of(clips: Clips) -> NDArray[np.int64]:
    """(H, W) of images from all over the clips, [n, 2], 1 <= n <= 64; unreadable ones left out."""
    count = min(SHOWN, len(clips.videos))
    videos = [clips.videos[k * len(clips.videos) // count] for k in range(count)]
    found = []
    for video in videos:
        try:
            found.append(image_size(clips, video, clips.masks.frames(video)[0]))
        except StoreError:
            continue
    if not found:
        raise StoreError(f"images: none of {count} images of {clips.root} can be read")
    return np.array(found, np.int64)


def check_sizes(clips: Clips, pairs: Sequence[tuple[str, str]]) -> None:
    """That each image has its mask's size, by headers alone: minutes for a million files.

    InputError: the first pair of other sizes. What cannot be read is left to who reads it whole.
    """
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    names = {str(number): chunk for number, chunk in enumerate(chunks)}
    counts = {name: len(chunk) for name, chunk in names.items()}
    how: dict[str, Any] = {"progress": "checking sizes", "frames": counts, "take": _refused}
    map_videos(partial(_unequal, clips, names), [*names], **how)


def _unequal(
    clips: Clips, chunks: dict[str, Sequence[tuple[str, str]]], name: str
) -> InputError | None:
    """What is wrong in a chunk; not raised there, where its number would be called a video."""
    for video, frame in chunks[name]:
        try:
            sizes = image_size(clips, video, frame), clips.masks.size(video, frame)
        except StoreError:
            continue
        if sizes[0] != sizes[1]:
            return clips.unequal(video, frame, *sizes)
    return None


def _refused(_: str, error: InputError | None) -> None:
    if error is not None:
        raise error
