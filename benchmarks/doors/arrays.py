"""Arrays in memory: three networks' probabilities and labels, weights found and maps fused.

Of camvid22, where it is there (SEGFUSION_DATA), else made up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.camvid import Clips
from benchmarks.doors import scenes
from fusion.kernels.numbers import DECODE_TABLE

IMAGES, CLASSES, SIZE = 16, 5, (40, 56)
STEP = 4


def make(root: Path, images: int = IMAGES) -> None:
    """predictions.npz: arrays a, b, c [N, C, h, w] of probabilities, labels [N, H, W], and what
    unit each image is of.
    """
    root.mkdir(parents=True, exist_ok=True)
    clips = Clips.there()
    np.savez(root / "predictions.npz", **(made_up(images) if clips is None else camvid(clips)))


def made_up(images: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(8)
    truth = np.stack([scenes.regions(rng, CLASSES, SIZE) for _ in range(images)])
    seen = {
        name: np.stack([scenes.softmax(scenes.seen(rng, one, CLASSES, noise)) for one in truth])
        for name, noise in (("a", 1.6), ("b", 2.0), ("c", 2.8))
    }
    return {**seen, "labels": truth, "units": np.array([f"image {n}" for n in range(images)])}


def camvid(clips: Clips) -> dict[str, np.ndarray]:
    """Three of the 22 networks on every fourth frame of the ten clips."""
    networks, some = clips.meta["models"][::8], slice(None, None, STEP)
    frames = [(clip, frame) for clip in clips.clips for frame in clips.frames[clip][some]]
    seen = {
        name: np.stack(
            [scenes.softmax(DECODE_TABLE[codes[network].numpy()]) for _, (codes, _) in frames]
        )
        for name, network in zip("abc", networks, strict=True)
    }
    labels = np.stack([target for _, (_, target) in frames])
    return {**seen, "labels": labels, "units": np.array([clip for clip, _ in frames])}


def use(root: Path) -> dict[str, Any]:
    import fusion

    held = np.load(root / "predictions.npz")
    predictions, labels = [held[name] for name in "abc"], held["labels"]
    found = fusion.search_weights(predictions, labels, units=held["units"])
    fused = fusion.fuse(predictions, found, labels=True)
    print(found)
    return {"found": found, "fused": fused, "predictions": predictions, "labels": labels}
