"""Confusion counts that never leave the GPU which fused the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fusion.ensemble import Ensemble
from fusion.ensemble.device_stream import DeviceFusion

if TYPE_CHECKING:
    from fusion.labels import Labels


def device_counts(
    source: object, truth: Labels, video: str, frames: Sequence[str]
) -> np.ndarray | None:
    """The confusion matrix of some frames, counted on the GPU.

    Args:
        source: whose predictions; an ensemble may fuse on a GPU.
        truth: ground truth.
        video: whose frames.
        frames: ids.

    Returns:
        int64 [C, C], rows ground truth; None where nothing is fused or counted on a GPU.
    """
    if not isinstance(source, Ensemble) or source.postprocess:
        return None
    recipe = source.recipe
    if not isinstance(recipe, DeviceFusion):
        return None

    def target(frame: str) -> np.ndarray:
        return source.target(truth, video, frame)

    return recipe.counts(video, frames, source.plan(video), target, len(source.classes))
