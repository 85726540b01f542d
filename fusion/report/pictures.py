"""Frames to look at: those that fusion helped and hurt most, and their pictures."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import numpy as np

from fusion.ensemble import Ensemble
from fusion.images import Images
from fusion.metrics.evaluation import Part
from fusion.report.colours import heat, painted, smaller
from fusion.report.counts import FOUND, SINGLE
from fusion.report.facts import FrameRow, Picture
from fusion.report.reading import postprocessed
from fusion.report.results import Data

SHOWN = 3  # of each kind
IMAGE, TRUTH, DISAGREEMENT = "image", "truth", "disagreement"

Gains = Mapping[tuple[str, str], float]  # (part, frame)


def chosen(gains: Gains, videos: Mapping[str, str], sign: int) -> list[tuple[str, str]]:
    """The frames that gain most (sign 1) or lose most (-1), first those of different videos.

    Args:
        gains: of every frame.
        videos: of every part its video.
        sign: which way.
    """
    moved = [key for key, gain in gains.items() if sign * gain > 0]
    ranked = sorted(moved, key=lambda key: (-sign * gains[key], key))
    first: dict[str, tuple[str, str]] = {}
    for key in ranked:
        first.setdefault(videos[key[0]], key)
    # a neighbour in time shows the same again
    order = dict.fromkeys(chain(first.values(), ranked))
    return sorted([*order][:SHOWN], key=ranked.index)


def frame_rows(
    data: Data,
    contestants: Mapping[str, Ensemble],
    gains: Gains,
    colours: Picture,
    images: Images | None,
) -> tuple[tuple[FrameRow, ...], tuple[FrameRow, ...]]:
    """Frames that were helped, and those that were hurt, with pictures.

    Args:
        data: the split.
        contestants: by name, of which `SINGLE` and `FOUND` are shown.
        gains: of every frame, in pixel accuracy.
        colours: of classes [C + 1, 3].
        images: the pictures that predictions were made of, where they are known.

    Raises:
        StoreError: a frame has no picture where pictures were given.
    """
    parts = data.split.parts
    videos = {name: part.video for name, part in parts.items()}

    def row(name: str, frame: str) -> FrameRow:
        shown = pictures(data, contestants, parts[name], frame, colours, images)
        return FrameRow(videos[name], frame, gains[name, frame], shown)

    helped, hurt = (tuple(row(*key) for key in chosen(gains, videos, s)) for s in (1, -1))
    return helped, hurt


def pictures(
    data: Data,
    contestants: Mapping[str, Ensemble],
    part: Part,
    frame: str,
    colours: Picture,
    images: Images | None,
) -> dict[str, Picture]:
    """The pictures of a part's frame, by name, in order."""
    split, video, apart = data.split, part.video, data.split.ensemble.channels is not None
    maps = {TRUTH: split.ensemble.target(split.truth, video, frame)}
    maps |= {name: labels_of(contestants[name], part, frame) for name in (SINGLE, FOUND)}
    models = [labels_of(each, part, frame) for each in data.models.values()]
    made: dict[str, Picture] = {}
    if images is not None:
        image = images.read(video, frame)
        made[IMAGE] = smaller(fitted(image, maps[TRUTH].shape[-2:]))
    made |= {name: smaller(painted(ids, colours, channels=apart)) for name, ids in maps.items()}
    made[DISAGREEMENT] = smaller(heat(disagreement(models, maps[FOUND])))
    return made


def labels_of(ensemble: Ensemble, part: Part, frame: str) -> np.ndarray:
    """Ids [..., H, W] of a frame, as they are scored: postprocessing sees the frames before it."""
    frames = part.frames if postprocessed(ensemble) else (frame,)
    return next(ids for name, ids in ensemble.predicted(part.video, frames) if name == frame)


def disagreement(models: list[np.ndarray], fused: np.ndarray) -> np.ndarray:
    """Share of the models [H, W] that say something else than the ensemble does."""
    shares = np.mean([labels != fused for labels in models], axis=0)
    made: np.ndarray = shares if shares.ndim == 2 else shares.max(axis=0)
    return made


def fitted(image: Picture, size: tuple[int, ...]) -> Picture:
    """A picture at the labels' size."""
    from PIL import Image

    if image.shape[:2] == tuple(size):
        return image
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height)))
