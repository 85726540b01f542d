"""A small ensemble and its ground truth on disk, for tests of commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fusion
from fusion.labels import write_labels

CLASSES = ["sky", "road", "car", "tree"]
VIDEOS, FRAMES = ("a", "b", "c"), ("0", "1")
SIZE, NATIVE = (20, 28), (5, 7)


def write_sample(folder: Path) -> Path:
    """Four stores in two groups, labels/ of their videos, and ensemble.toml: returns its path."""
    draw = np.random.default_rng(0)
    coarse = {(v, f): draw.integers(0, 4, NATIVE) for v in VIDEOS for f in FRAMES}
    for (video, frame), classes in coarse.items():
        target = np.kron(classes, np.ones((4, 4))).astype(np.uint8)
        target[0] = 255
        write_labels(folder / "labels" / video / f"{frame}.png", target)
    names = [f"net_{k}" for k in range(4)]
    for k, name in enumerate(names):
        with fusion.LogitWriter(folder / f"{name}.zarr", CLASSES) as writer:
            for video in VIDEOS:
                with writer.video(video, frames=FRAMES, size=SIZE) as out:
                    for frame in FRAMES:
                        truth = np.eye(4)[coarse[video, frame]].transpose(2, 0, 1)
                        out.append(1.5 * truth + draw.normal(0, 0.7 + 0.25 * k, truth.shape))
    stores = [str(folder / f"{name}.zarr") for name in names]
    toml = f"[groups]\nstrong = {stores[:2]}\nweak = {stores[2:]}\n"
    (folder / "ensemble.toml").write_text(toml)
    return folder / "ensemble.toml"
