"""python -m benchmarks.distil: a small network that learns of an ensemble, beside one of labels.

Drifting textured regions (benchmarks.scenes) of the 12 most frequent classes, other things void. A
quarter of the training videos has labels; the others stand for the pictures without labels that
people have plenty of. Teachers are plain networks trained on the labels with other seeds, fused
with equal weights and written as a store of the training frames (top-k, at the stores' resolution).
Students are of one smaller size, start at random and take the same steps:

    labels          the labels, on the labelled videos
    fused           the ensemble's probabilities alone, on the labelled videos
    both            labels and probabilities, on the labelled videos
    fused, all      the probabilities alone, on all videos
    pseudo, all     the ensemble's certain labels (format "pseudo", keep 0.8), on all videos

mIoU is on other videos, at the image's resolution; a row a student, mean and deviation over seeds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import fusion
from benchmarks import scenes
from fusion.labels import Labels, write_labels
from fusion.models.data.clips import Clips
from fusion.models.predict import fill
from fusion.models.training import config
from fusion.models.training.checkpoint import load_network
from fusion.models.training.distributed import world
from fusion.models.training.run import train
from fusion.outputs import write
from fusion.text import table

KEPT = np.argsort(-scenes.class_frequencies("train", 0))[:12]
NAMES = [f"class_{c:03d}" for c in KEPT]
SIZES = scenes.Sizes((64, 96), {"train": 24, "val": 12}, regions=7, frames=(3, 5))
LABELLED = 6  # of the training videos
TEACHERS, TEACHER, STUDENT = 4, "tiny", "micro"


def make(root: Path) -> None:
    """images/ and labels/ of every split, and labelled/ with the labels of a few videos."""
    to_id = np.full(256, 255, np.uint8)
    to_id[KEPT + 1] = np.arange(len(KEPT))
    for split, count in SIZES.videos.items():
        for index in range(count):
            for t, (image, mask) in enumerate(scenes.make_video(split, index, SIZES, 0)):
                place = Path(f"{split}_{index:02d}") / f"{t:02d}.png"
                picture = root / split / "images" / place
                picture.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(picture)
                write_labels(root / split / "labels" / place, to_id[mask])
                if split == "train" and index < LABELLED:
                    write_labels(root / "labelled" / place, to_id[mask])
    (root / "classes.txt").write_text("\n".join(NAMES))


def learn(
    root: Path, name: str, preset: str, seed: int, steps: int, masks: Path, **loss: Any
) -> Path:
    """The weights of a network that was trained on the videos of these masks."""
    data = {"images": root / "train" / "images", "labels": masks, "classes": root / "classes.txt"}
    document = {
        "out": str(root / name),
        "seed": seed,
        "data": {key: str(path) for key, path in data.items()},
        "network": {"name": "plain", "preset": preset},
        "augment": {"crop": 64, "scale": [0.75, 1.5]},
        "loss": loss,
        "train": {"steps": steps, "batch": 8, "learning_rate": 3e-3, "warmup": 20},
    }
    return train(config.parse(document), "cpu")


def predicted(root: Path, weights: Path, split: str) -> Path:
    """A store of what a network says of a split."""
    store = weights.parent / f"{split}.zarr"
    clips = Clips.folder(root / split / "images", classes=NAMES)
    fill(load_network(weights)[0], clips, store, world("cpu"), {})
    return store


def score(root: Path, stores: list[Path]) -> float:
    truth = Labels.folder(root / "val" / "labels", classes=len(NAMES))
    return float(fusion.HierarchicalEnsemble(stores).evaluate(truth).score)


def one_seed(root: Path, seed: int, steps: int, temperature: float) -> dict[str, float]:
    """mIoU of everybody: teachers, their ensemble, and the students."""
    labelled = root / "labelled"
    weights = [
        learn(root, f"teacher_{seed}_{k}", TEACHER, 100 * seed + k, steps, labelled)
        for k in range(TEACHERS)
    ]
    stores = [predicted(root, each, "val") for each in weights]
    found = {"a teacher (mean of 4)": statistics.mean(score(root, [each]) for each in stores)}
    found["the ensemble of 4"] = score(root, stores)
    ensemble = fusion.HierarchicalEnsemble([predicted(root, each, "train") for each in weights])
    fused, pseudo = root / f"fused_{seed}.zarr", root / f"pseudo_{seed}"
    write(ensemble, fused, "store", soft="top-k", at="stores")
    write(ensemble, pseudo, "pseudo", keep=0.8)
    soft = {"teacher": str(fused), "temperature": temperature}
    students: dict[str, tuple[Path, dict[str, Any]]] = {
        "labels": (labelled, {}),
        "fused": (labelled, {**soft, "labels": 0.0}),
        "both": (labelled, soft),
        "fused, all": (pseudo, {**soft, "labels": 0.0}),
        "pseudo, all": (pseudo, {}),
    }
    for name, (masks, loss) in students.items():
        run = f"{name.replace(', ', '_')}_{seed}"
        student = learn(root, run, STUDENT, 7000 + seed, steps, masks, **loss)
        found[f"student: {name}"] = score(root, [predicted(root, student, "val")])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.distil", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--temperature", type=float, default=1.0, help="of distillation")
    options, began = parser.parse_args(), time.perf_counter()
    torch.set_num_threads(1)  # small maps are slower on several
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        make(root)
        how = options.steps, options.temperature
        seeds = [one_seed(root, seed, *how) for seed in range(options.seeds)]
    rows = []
    for name in seeds[0]:
        values = [100 * each[name] for each in seeds]
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        each = "  ".join(f"{value:.1f}" for value in values)
        rows.append((name, f"{statistics.mean(values):.1f}", f"{deviation:.1f}", each))
    print(table(rows, ("mIoU in percent", "mean", "deviation", "by seed")))
    said = f"{options.seeds} seeds, {options.steps} steps, temperature {options.temperature:g}"
    print(f"{said}, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
