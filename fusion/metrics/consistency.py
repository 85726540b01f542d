"""Video consistency VC_n: does the prediction hold still where the ground truth does?

L frames, targets G and predictions P [H, W]. For a window of n frames from frame i on,

    Cg = pixels with G_i = G_{i+j} for all j in 1..n-1,    Cp the same for P
    score = |Cg and Cp| / |Cg|,    0/0 = nan

and VC_n is the mean, without nan, over *all windows of all videos pooled*. P is never compared to
G: a constant wrong prediction scores 1. Void pixels count. The field computes it in four ways:

| variant | targets | windows of a video | pooled into VC_n |
|---|---|---|---|
| ``official`` (VSPW's script) | raw masks: 0 and 255 differ | L - n: never the last | length n |
| ``cffm`` | shifted labels: one void | L - n; none where L <= 16, for every n | length n |
| ``dvis`` (as published) | raw masks | L - n | every length up to n |
| ``corrected`` | raw masks | L - n + 1 | length n |

Miao et al., "VSPW: A Large-scale Dataset for Video Scene Parsing in the Wild", CVPR 2021, sec. 5.1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.arguments import checked
from fusion.errors import InputError

LENGTHS = (8, 16)


@dataclass(frozen=True)
class Variant:
    """One row of the module's table. `raw_targets`: what to read, `Labels.raw` or `Labels.read`."""

    raw_targets: bool = True
    last_window: bool = False
    skip_up_to: int = 0
    shorter_too: bool = False


VARIANTS = {
    "official": Variant(),
    "cffm": Variant(raw_targets=False, skip_up_to=16),
    "dvis": Variant(shorter_too=True),
    "corrected": Variant(last_window=True),
}


@dataclass(frozen=True)
class VideoWindows:
    """The windows of one video of L frames, for every variant that reads the same targets.

    counts: per window length n, int64 [max(0, L-n+1), 2]: |Cg and Cp| and |Cg|, in order.
    """

    frames: int
    counts: Mapping[int, NDArray[np.int64]]


@checked
def stable_windows(
    targets: Iterable[ArrayLike], predictions: Iterable[ArrayLike], lengths: Sequence[int] = LENGTHS
) -> VideoWindows:
    """Count the stable pixels of every window of one video, in one pass that holds two frames.

    Args:
        targets, predictions: integer maps [H, W] in time order, as many of each.
        lengths: of the windows, in frames.

    Raises:
        InputError: sizes, types or numbers of frames differ.
    """
    if not lengths or min(lengths) < 2:
        raise InputError(f"lengths: got {list(lengths)}; a window needs at least 2 frames")
    found: dict[int, list[list[int]]] = {n: [] for n in lengths}
    frames = 0
    for frames, (target, prediction) in enumerate(zip_longest(targets, predictions), start=1):
        if target is None or prediction is None:
            short = "targets" if target is None else "predictions"
            got = f"the {short} end after {frames - 1} frames"
            raise InputError(f"video consistency: {got}; give as many targets as predictions")
        g, p = _map(target, "target", frames), _map(prediction, "prediction", frames)
        if frames == 1:
            # for how many frames, this one included, G, and both G and P, have kept their values
            last_g, last_p, still, both = g, p, *np.zeros((2, *g.shape), np.int32)
        if not g.shape == p.shape == last_g.shape:
            got = f"target {list(g.shape)}, prediction {list(p.shape)}, video {list(last_g.shape)}"
            where = f"sizes differ in frame number {frames}"
            raise InputError(f"video consistency: {where}: {got}; use one size per video")
        same = g == last_g
        still, both = still * same + 1, both * (same & (p == last_p)) + 1
        last_g, last_p = g, p
        for n in lengths:
            if frames >= n:
                found[n].append([int(np.count_nonzero(kept >= n)) for kept in (both, still)])
    counts = {n: np.array(found[n], dtype=np.int64).reshape(-1, 2) for n in lengths}
    return VideoWindows(frames, counts)


@checked
def video_consistency(
    videos: Iterable[VideoWindows], length: int = 8, variant: str = "official"
) -> float:
    """VC_n as a fraction, pooled over the windows of all videos, in any order; nan without one."""
    _rule(variant)
    return pooled(score for video in videos for score in window_scores(video, length, variant))


def window_scores(video: VideoWindows, length: int = 8, variant: str = "official") -> list[float]:
    """Of every window that counts, in order (where a variant takes several lengths, length after
    length); nan where nothing stands still. InputError: no such variant or length.
    """
    rule = _rule(variant)
    if length not in video.counts:
        got = f"got {length}, counted were {sorted(video.counts)}"
        raise InputError(f"length: {got}; pass lengths to stable_windows")
    found: list[float] = []
    for n, pairs in video.counts.items():
        wanted = n == length or (rule.shorter_too and n < length)
        if wanted and video.frames > rule.skip_up_to:
            used = pairs if rule.last_window else pairs[:-1]
            found += [both / stable if stable else math.nan for both, stable in used.tolist()]
    return found


def pooled(scores: Iterable[float]) -> float:
    """The mean of windows, without nan, whatever their order; nan of none."""
    known = [score for score in scores if not math.isnan(score)]
    return math.fsum(known) / len(known) if known else math.nan


def _rule(variant: str) -> Variant:
    if variant not in VARIANTS:
        raise InputError(f"variant: got {variant!r}; choose one of {', '.join(VARIANTS)}")
    return VARIANTS[variant]


def _map(values: ArrayLike, name: str, frame: int) -> NDArray[np.integer]:
    array = np.array(values)  # a copy: a reader may hand out the same buffer again
    if array.dtype.kind not in "iu" or array.ndim != 2:
        got = f"{name} of frame number {frame} is {array.dtype} {list(array.shape)}"
        raise InputError(f"video consistency: {got}; give integer [H, W]")
    return array
