"""Clips whose frames agree, so that smoothing helps, and clips whose frames do not."""

from __future__ import annotations

import numpy as np

import fusion
from fusion.labels import write_labels

CLASSES = ["sky", "road", "car", "tree"]
CLIPS, FRAMES = tuple(f"clip{k}" for k in range(6)), tuple(f"f{t:03d}" for t in range(10, 34, 2))
SIZE, NATIVE = (20, 28), (5, 7)


def write_clips(folder, still):
    """Two stores of noisy models, labels of two classes that are rare, and the ensemble."""
    draw = np.random.default_rng(3)
    shares = [0.4, 0.3, 0.2, 0.1]
    truths = {}
    for clip in CLIPS:
        scene = draw.choice(4, NATIVE, p=shares)
        for frame in FRAMES:
            scene = scene if still else draw.choice(4, NATIVE, p=shares)
            truths[clip, frame] = scene
            target = np.kron(scene, np.ones((4, 4))).astype(np.uint8)
            target[0] = 255
            write_labels(folder / "labels" / clip / f"{frame}.png", target)
    for k in range(2):
        with fusion.LogitWriter(folder / f"net_{k}.zarr", CLASSES) as writer:
            for clip in CLIPS:
                with writer.video(clip, frames=FRAMES, size=SIZE) as out:
                    for frame in FRAMES:
                        truth = np.eye(4)[truths[clip, frame]].transpose(2, 0, 1)
                        out.append(2.0 * truth + draw.normal(0, 1.0 + 0.3 * k, truth.shape))
    ensemble = fusion.HierarchicalEnsemble(sorted(folder.glob("*.zarr")))
    return ensemble, fusion.Labels.folder(folder / "labels")
