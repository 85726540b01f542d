"""Stores of smooth random logits, for tests of ensembles."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import fusion

CLASSES = [f"class {k}" for k in range(5)]
SIZE = (24, 32)
NATIVE = (6, 8)
VIDEOS = {"a": ["f1", "f2", "f10"], "b/../b": ["x", "y"]}


def make_store(
    path: Path, seed: int, native: tuple[int, int] = NATIVE, classes: list[str] = CLASSES, **options
) -> Path:
    """A store of smooth random logits; the same seed gives the same numbers."""
    draw = np.random.default_rng(seed)
    with fusion.LogitWriter(path, classes, **options) as writer:
        for video, frames in VIDEOS.items():
            with writer.video(video, frames=frames, size=SIZE) as out:
                for _ in frames:
                    logits = draw.normal(0, 3, (len(classes), *native))
                    if options.get("values") in ("probabilities", "scores"):
                        # sums to less than one, as MaskFormer's do
                        logits = np.exp(logits) / np.exp(logits).sum(axis=0) * 0.7
                    out.append(logits)
    return path
