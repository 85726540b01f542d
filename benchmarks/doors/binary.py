"""200 images of different sizes, one mask each of 0 and 255, and three networks with a sigmoid.

What is scored is Dice per image; what is searched, the networks' weights and a threshold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.doors import scenes

IMAGES, MODELS = 200, {"unet": 1.2, "fpn": 1.6, "deeplab": 2.4}  # by their noise


def make(root: Path, images: int = IMAGES) -> None:
    """masks/<image>.png, predictions/<model>/<image>.npy of probabilities [1, h, w]."""
    rng = np.random.default_rng(8)
    for folder in ("masks", *(f"predictions/{model}" for model in MODELS)):
        (root / folder).mkdir(parents=True)
    for number in range(images):
        size, name = rng.integers(24, 64, 2), f"img_{number:04d}"
        mask = (scenes.fields(rng, 1, size)[0] > 0.6).astype(np.uint8)
        Image.fromarray(255 * mask).save(root / "masks" / f"{name}.png")
        for model, noise in MODELS.items():
            logits = 3 * mask[None] - 2.2 + noise * scenes.fields(rng, 1, size, grain=3)
            np.save(root / "predictions" / model / f"{name}.npy", scenes.sigmoid(logits))


def use(root: Path) -> dict[str, Any]:
    import fusion
    from fusion.outputs import write
    from fusion.stores.importers import import_folder

    labels = fusion.Labels.open("flat", root / "masks", class_map="binary")
    for model in (root / "predictions").iterdir():
        dest, values = root / "cache" / f"{model.name}.zarr", "sigmoid-probabilities"
        import_folder(model, dest, ["lesion"], values=values)
    ensemble = fusion.HierarchicalEnsemble(root / "cache" / "*.zarr")
    found = ensemble.search(labels, "auto", objective="case-dice-monai")
    print(found)
    write(found.ensemble, root / "out", stored=labels.class_map.stored)
    return {"found": found, "labels": labels, "ensemble": ensemble}
