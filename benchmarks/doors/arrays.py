"""Arrays in memory: three networks' probabilities and labels, weights found and maps fused.

Of camvid22, where it is there (SEGFUSION_DATA), else made up.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.doors import scenes

IMAGES, CLASSES, SIZE = 16, 5, (40, 56)


def make(root: Path) -> None:
    """predictions.npz: arrays a, b, c [N, C, H, W] of probabilities, and labels [N, H, W]."""
    rng = np.random.default_rng(8)
    truth = np.stack([scenes.regions(rng, CLASSES, SIZE) for _ in range(IMAGES)])
    seen = {
        name: np.stack([scenes.softmax(scenes.seen(rng, one, CLASSES, noise)) for one in truth])
        for name, noise in (("a", 1.6), ("b", 2.0), ("c", 2.8))
    }
    root.mkdir(parents=True, exist_ok=True)
    np.savez(root / "predictions.npz", labels=truth, **seen)


def use(root: Path) -> dict[str, Any]:
    import fusion

    held = np.load(root / "predictions.npz")
    predictions, labels = [held[name] for name in "abc"], held["labels"]
    found = fusion.search_weights(predictions, labels)
    fused = fusion.fuse(predictions, found, labels=True)
    print(found)
    return {"found": found, "fused": fused, "predictions": predictions, "labels": labels}


def camvid() -> str | None:
    """The folder of camvid22; None where it is not there."""
    return os.environ.get("SEGFUSION_DATA")
