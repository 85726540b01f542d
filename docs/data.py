"""The data that tutorials work on, made up: python -m docs.data NAME FOLDER

The networks are the truth seen through noise of their own, so that an ensemble helps; no score made
from them says anything about real networks.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.doors import binary, rasters, scenes, volumes
from fusion.labels import write_labels

CLASSES = ("sky", "road", "car", "tree", "person")
MODELS = {"upernet": 2.4, "segformer": 1.8, "mask2former": 1.6}  # by their noise
SPLITS = {"val": 6, "test": 3}  # clips
FRAMES, SIZE, STEP = 4, (48, 64), 4  # STEP: label pixels to a pixel of the networks' logits


def video(root: Path) -> None:
    """Clips: labels/<split>/<clip>/<frame>.png and predictions/<split>/<model>/<clip>.npy."""
    rng = np.random.default_rng(8)
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    for split, clips in SPLITS.items():
        for number in range(clips):
            clip = f"drive{number // 2 + 1}_{'ab'[number % 2]}"
            clip = clip if split == "val" else f"test_{number}"
            wide = scenes.regions(rng, len(CLASSES), (SIZE[0], SIZE[1] + STEP * FRAMES))
            labels = np.stack([wide[:, STEP * t : STEP * t + SIZE[1]] for t in range(FRAMES)])
            for frame, label in enumerate(labels):
                write_labels(root / "labels" / split / clip / f"{frame:05d}.png", label)
            for model, noise in MODELS.items():
                seen = scenes.seen(rng, labels, len(CLASSES), noise, step=STEP).swapaxes(0, 1)
                _save(root / "predictions" / split / model / f"{clip}.npy", seen)


def images(root: Path) -> None:
    """Single images of different sizes: masks/<image>.png, predictions/<model>/<image>.npy."""
    rng = np.random.default_rng(8)
    for number in range(7):
        name, size = f"field_{number}", tuple(rng.integers(40, 72, 2))
        truth = scenes.regions(rng, 3, size)
        write_labels(root / "masks" / f"{name}.png", truth)
        picture = np.array([[96, 78, 52], [88, 140, 60], [170, 120, 60]], np.uint8)[truth]
        (root / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(root / "images" / f"{name}.png")
        for model, noise in MODELS.items():
            logits = scenes.seen(rng, truth, 3, noise, step=2)
            _save(root / "predictions" / model / f"{name}.npy", scenes.softmax(logits))
    (root / "classes.txt").write_text("soil\ncrop\nweed\n")


def stores(root: Path) -> None:
    """The clips of `video` as cache/<split>/<model>.zarr too, classes.txt and labels beside."""
    from fusion.labels import Labels
    from fusion.stores.importers import import_folder

    video(root)
    for split in SPLITS:
        for model in MODELS:
            source, dest = (Path(split) / model, root / "cache" / split / f"{model}.zarr")
            labels = Labels.folder(root / "labels" / split)
            import_folder(root / "predictions" / source, dest, list(CLASSES), labels=labels)


class Clip(list[np.ndarray]):
    """The images of a clip, of which README's script takes a network's word."""

    def __init__(self, name: str, logits: np.ndarray) -> None:
        super().__init__(logits)
        self.id, self.size = name, SIZE
        self.frame_ids = [f"{frame:05d}" for frame in range(len(logits))]


def readme(root: Path) -> dict[str, Any]:
    """The stores, and what README's script calls its own: clips, a network and names."""
    stores(root)
    files = sorted((root / "predictions" / "val" / "segformer").glob("*.npy"))
    clips = [Clip(file.stem, np.load(file)) for file in files]
    return {"clips": clips, "names": list(CLASSES), "net": np.asarray}


def nnunet(root: Path) -> None:
    volumes.make(root)


def kaggle(root: Path) -> None:
    """As the door: masks of 0 and 255, probabilities of one channel."""
    binary.make(root, images=24)
    (root / "classes.txt").write_text("lesion\n")


def tiles(root: Path) -> None:
    rasters.make(root, tiles=7)


SETS: dict[str, Callable[[Path], dict[str, Any] | None]] = {
    make.__name__: make for make in (video, images, stores, readme, nnunet, kaggle, tiles)
}


def _save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array.astype(np.float32))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m docs.data", description=__doc__)
    parser.add_argument("name", choices=sorted(SETS))
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    if options.folder.exists():
        parser.error(f"{options.folder}: is there already; give a folder that is not")
    SETS[options.name](options.folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
