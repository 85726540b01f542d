"""Remote sensing tiles: labels coded as colours with pixels to be ignored, logits at half the size.

Everything on the command line, as such a user would type it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.doors import scenes

TILES, SIZE = 24, (48, 64)
MODELS = {"hrnet": 1.8, "unet": 2.2, "segformer": 1.6}
COLOURS = {"forest": (34, 139, 34), "water": (30, 144, 255), "built": (178, 34, 34)}
IGNORED = (0, 0, 0)


def make(root: Path, tiles: int = TILES) -> None:
    """labels/<tile>.tif of colours, predictions/<model>/<tile>.npy logits, colours.json."""
    import rasterio

    rng = np.random.default_rng(8)
    table = np.array([*COLOURS.values(), IGNORED], np.uint8)
    for folder in ("labels", *(f"predictions/{model}" for model in MODELS)):
        (root / folder).mkdir(parents=True)
    for number in range(tiles):
        name, truth = f"tile_{number // 6}_{number % 6}", scenes.regions(rng, len(COLOURS), SIZE)
        coded = np.where(scenes.fields(rng, 1, SIZE)[0] > 1.5, len(COLOURS), truth)
        transform = rasterio.Affine(10, 0, 4e5 + 640 * number, 0, -10, 5e6)
        how = {"driver": "GTiff", "dtype": "uint8", "count": 3, "crs": "EPSG:32633"}
        size = {"height": SIZE[0], "width": SIZE[1], "transform": transform}
        with rasterio.open(root / "labels" / f"{name}.tif", "w", **how, **size) as file:
            file.write(table[coded].transpose(2, 0, 1))
        for model, noise in MODELS.items():
            logits = scenes.seen(rng, truth, len(COLOURS), noise, step=2)
            np.save(root / "predictions" / model / f"{name}.npy", logits)
    document = {"colours": COLOURS, "void": [IGNORED]}
    (root / "colours.json").write_text(json.dumps(document))
    (root / "classes.txt").write_text("\n".join(COLOURS))


COMMANDS = (
    "segfusion stores import predictions/ cache/ --each --classes classes.txt --labels labels",
    "segfusion search --stores cache/*.zarr --labels labels --label-map colours.json --out results",
    "segfusion predict --ensemble results/best.json --out maps --format geotiff"
    " --label-map colours.json --write colours",
)


def use(root: Path) -> dict[str, Any]:
    from benchmarks.doors.shell import run

    return {"outputs": [run(command, root) for command in COMMANDS]}
