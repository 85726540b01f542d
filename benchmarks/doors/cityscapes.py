"""Cityscapes: its folders, names and 34 raw ids; predictions of 19 classes, named as images are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.doors import scenes

CITIES, SIZE = {"frankfurt": 4, "lindau": 3, "munster": 3}, (64, 128)
MODELS = {"pspnet": 2.2, "ocrnet": 1.7}
TRAIN_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)  # raw ids


def make(root: Path, cities: Mapping[str, int] = CITIES) -> None:
    """gtFine/val/<city>/..._gtFine_labelIds.png, predictions/<model>/..._leftImg8bit.npy."""
    rng = np.random.default_rng(8)
    for city, images in cities.items():
        folder = root / "gtFine" / "val" / city
        folder.mkdir(parents=True)
        for number in range(images):
            name = f"{city}_{number:06d}_000019"
            truth = scenes.regions(rng, len(TRAIN_IDS), SIZE)
            raw = np.array(TRAIN_IDS, np.uint8)[truth]
            raw[:4] = 1  # ego vehicle, which is never scored
            Image.fromarray(raw).save(folder / f"{name}_gtFine_labelIds.png")
            for model, noise in MODELS.items():
                place = root / "predictions" / model
                place.mkdir(parents=True, exist_ok=True)
                logits = scenes.seen(rng, truth, len(TRAIN_IDS), noise, step=4)
                np.save(place / f"{name}_leftImg8bit.npy", logits)


COMMANDS = (
    "segfusion stores import predictions/ cache/ --each --classes cityscapes --labels gtFine",
    "segfusion search --stores cache/*.zarr --labels gtFine --out results",
    "segfusion predict --ensemble results/best.json --out maps --label-map cityscapes"
    " --write stored",
)


def use(root: Path) -> dict[str, Any]:
    from benchmarks.doors.shell import run

    return {"outputs": [run(command, root) for command in COMMANDS]}
