"""Stores and labels of simulated clips, written to a folder: what whole commands are measured on.

M models, C classes, T frames a clip. Every frame is the first one moved: models agree and
disagree as `simulated.agreeing` has them, and no two frames are equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import fusion
from benchmarks.simulated import agreeing
from fusion.labels import write_labels


def write_clips(
    folder: Path,
    *,
    models: int,
    classes: int,
    native: tuple[int, int],
    size: tuple[int, int],
    clips: Sequence[int],
    profile: str = "compact",
) -> list[Path]:
    """Stores <folder>/mNN.zarr and label maps <folder>/labels/<clip>/<frame>.png.

    Args:
        folder: made where missing.
        models, classes: M, C.
        native: (h, w) of the stores.
        size: (H, W) of the labels.
        clips: frames of each clip.
        profile: of the stores.

    Returns:
        The stores' paths.
    """
    names = [f"class{k}" for k in range(classes)]
    ids = {f"clip{k}": [f"{t:04d}" for t in range(frames)] for k, frames in enumerate(clips)}
    made, paths = agreeing(models, classes, native), []
    for number, logits in enumerate(made):
        path = folder / f"m{number:02d}.zarr"
        with fusion.LogitWriter(path, names, profile) as writer:
            for clip, (video, frames) in enumerate(ids.items()):
                with writer.video(video, frames=frames, size=size) as out:
                    for t in range(len(frames)):
                        out.append(torch.roll(logits, (5 * t + clip, 3 * t), (1, 2)).numpy())
        paths.append(path)
    truth = fusion.HierarchicalEnsemble(paths[:1])
    draw = np.random.default_rng(0)
    for video, frames in ids.items():
        for frame, labels in truth.label_maps(video):
            wrong = draw.random(labels.shape) < 0.1
            mixed = np.where(wrong, draw.integers(0, classes, labels.shape), labels)
            mixed = mixed.astype(labels.dtype)
            write_labels(folder / "labels" / video / f"{frame}.png", mixed)
        assert len(frames) > 0
    return paths
