"""Simulated stores in the shape of the paper's problem, so that everything can be tried in a minute
without any network or data.

22 models in two families, 124 classes with a long tail, val and test videos whose class frequencies
differ. Nothing here is a measurement: regions move over the image, and a model mistakes a whole
region for a look-alike class, more often a rare one. Part of a mistake all models share, part a
family, and part is the model's own, which is what makes ensembles worth the while.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fusion.labels import write_labels
from fusion.stores import LogitWriter

CLASSES, FRAMES, VIDEOS = 124, 5, 6
SIZE, NATIVE = (120, 160), (30, 40)
FAMILIES = {"maskformer": 11, "swin": 11}
REGIONS = 22
COMMON, SHARED = 0.45, 0.35  # of a mistake's variance: of all models, of one family's
VOID_ROWS = 3


@dataclass(frozen=True)
class Scene:
    """One video: targets [T, H, W] uint8, pixels' regions [T, H, W], regions' classes [R]."""

    video: str
    targets: np.ndarray
    regions: np.ndarray
    region_class: np.ndarray


def random(*key: object) -> np.random.Generator:
    """A generator that depends on its key alone, so that any part can be made again by itself."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def class_frequencies(split: str) -> np.ndarray:
    """Zipf over classes; test is tilted away from val."""
    tilt = random("tilt", split).normal(0, 0.0 if split == "val" else 0.8, CLASSES)
    frequency = np.exp(tilt) / (np.arange(CLASSES) + 3.0)
    return frequency / frequency.sum()


def make_scene(split: str, index: int) -> Scene:
    """Regions drift over the image; a pixel has the nearest one's class, some rows are void."""
    draw = random("scene", split, index)
    region_class = draw.choice(CLASSES, REGIONS, p=class_frequencies(split)).astype(np.int64)
    start, speed = draw.uniform(0, 1, (REGIONS, 2)) * SIZE, draw.normal(0, 1.5, (REGIONS, 2))
    reach = draw.uniform(0, 600, REGIONS)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    regions = np.empty((FRAMES, *SIZE), np.int64)
    for t in range(FRAMES):
        places = zip(start + t * speed, reach, strict=True)
        distance = [(y - r[0]) ** 2 + (x - r[1]) ** 2 - far for r, far in places]
        regions[t] = np.argmin(distance, axis=0)
    targets = region_class[regions].astype(np.uint8)
    targets[:, :VOID_ROWS] = 255
    return Scene(f"{split}_{index:02d}", targets, regions, region_class)


def model_logits(
    scene: Scene, shares: list[torch.Tensor], family: str, member: int
) -> Iterator[np.ndarray]:
    """A model's logits [C, h, w] of each frame of a scene, whose `region_share`s are given."""
    own = random("own", family, member, scene.video)
    draws = (random("common", scene.video), random("shared", family, scene.video), own)
    skill = random("skill", family, member).normal(0, 0.25)
    step = random("look-alike", family).integers(0, CLASSES - 1, CLASSES)
    look_alike = (scene.region_class + 1 + step[scene.region_class]) % CLASSES
    parts = zip((COMMON, SHARED, 1 - COMMON - SHARED), draws, strict=True)
    mistake = sum(part**0.5 * draw.normal(0, 1, REGIONS) for part, draw in parts)
    rarity = np.log1p(scene.region_class) / np.log1p(CLASSES)
    # above 1 the look-alike wins the region
    doubt = np.clip(1.0 + 0.55 * (mistake - skill + 0.9 * rarity - 1.5), 0.0, 1.9)
    doubts = torch.from_numpy(doubt).float()[:, None, None]
    strength = own.uniform(4.0, 6.0)
    for share in shares:
        logits, won = torch.zeros(CLASSES, *NATIVE), strength * share
        logits.index_add_(0, torch.from_numpy(scene.region_class), won)
        logits.index_add_(0, torch.from_numpy(look_alike), won * doubts)
        coarse = torch.from_numpy(own.normal(0, 0.8, (1, CLASSES, 6, 8)).astype(np.float32))
        logits += torch.nn.functional.interpolate(coarse, NATIVE, mode="bilinear")[0]
        yield logits.numpy()


def region_share(regions: np.ndarray) -> torch.Tensor:
    """[R, h, w]: the part of each store pixel that a region covers, blurred as networks do."""
    onehot = (torch.arange(REGIONS)[:, None, None] == torch.from_numpy(regions)).float()
    share = torch.nn.functional.interpolate(onehot[None], NATIVE, mode="area")
    return torch.nn.functional.avg_pool2d(share, 3, stride=1, padding=1, count_include_pad=False)[0]


def write(folder: Path, split: str) -> Iterator[str]:
    """Fills folder/<split>/<model>.zarr and folder/labels/<split>, keeps what is there already.

    Yields each model's name.
    """
    scenes = [make_scene(split, index) for index in range(VIDEOS)]
    shares = {scene.video: [region_share(regions) for regions in scene.regions] for scene in scenes}
    frames = [f"{t:05d}" for t in range(FRAMES)]
    for scene in scenes:
        for frame, target in zip(frames, scene.targets, strict=True):
            path = folder / "labels" / split / scene.video / f"{frame}.png"
            write_labels(path, target, overwrite=True)
    names = [f"class_{k:03d}" for k in range(CLASSES)]
    for family, member in ((name, k + 1) for name, n in FAMILIES.items() for k in range(n)):
        model = f"{family}_{member:02d}"
        path = folder / split / f"{model}.zarr"
        writer = LogitWriter(path, names, provenance={"simulated": True})
        for scene in scenes:
            with writer.video(scene.video, frames=frames, size=SIZE) as out:
                made = model_logits(scene, shares[scene.video], family, member)
                for logits in () if out.committed else made:
                    out.append(logits)
        yield model
