"""What all kinds of pixels check of a caller's numbers and names.

G groups (of one model each where models get weights), C classes, B weight vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fusion.errors import InputError
from fusion.kernels.arithmetic import normalised, normalised_multipliers
from fusion.kernels.contested.layout import Floats


def weight_rows(weights: ArrayLike, groups: Sequence[str]) -> Floats:
    """Weights [B, G] divided by their sums, float32; InputError says why they cannot be."""
    advice = f"give [vectors, {len(groups)}] in the order {list(groups)}"
    try:
        raw = np.asarray(weights, np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"weights: not one table of numbers ({error}); {advice}") from error
    if raw.ndim != 2 or raw.shape[1] != len(groups):
        raise InputError(f"weights: got shape {list(raw.shape)}; {advice}")
    try:
        rows = [normalised(row) for row in raw.tolist()]
    except ValueError as error:
        raise InputError(str(error)) from error
    return np.array(rows, np.float32).reshape(raw.shape)


def multiplier_rows(multipliers: ArrayLike, vectors: int, classes: int) -> Floats:
    """Multipliers [C] or [B, C] divided by their largest, float32, a row for each of B vectors."""
    raw = np.atleast_2d(np.asarray(multipliers, np.float64))
    try:
        rows = [normalised_multipliers(row, classes) for row in raw.tolist()]
    except ValueError as error:
        raise InputError(f"{error}, in the order of the classes") from error
    if len(rows) not in (1, vectors):
        raise InputError(
            f"multipliers: got {len(rows)} rows; give one, or one for each of {vectors}"
        )
    made = np.array(rows, np.float32).reshape(-1, classes)
    return np.ascontiguousarray(np.broadcast_to(made, (vectors, classes)))


def places(videos: Sequence[str], known: Sequence[str]) -> list[int]:
    """Where videos stand among the known ones. InputError: unknown, twice, none."""
    place = {video: index for index, video in enumerate(known)}
    unknown = [video for video in videos if video not in place]
    if unknown or len(set(videos)) != len(videos) or not videos:
        got = f"videos {list(videos)[:5]}, unknown {unknown[:5]}"
        raise InputError(f"subset: {got}; give different ones of the {len(place)} videos")
    return [place[video] for video in videos]
