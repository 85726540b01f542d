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
COMMON, SHARED = (
    0.45,
    0.35,
)  # parts of a mistake's variance that all models, and a family's models, have in common
VOID_ROWS = 3


@dataclass(frozen=True)
class Scene:
    """One video: targets [T, H, W] uint8, the region of each pixel [T, H, W], and the class of each
    region [R]."""

    video: str
    targets: np.ndarray
    regions: np.ndarray
    region_class: np.ndarray


def random(*key: object) -> np.random.Generator:
    """A generator that depends on its key alone, so that any part can be made again by itself."""
    return np.random.default_rng(
        int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little")
    )


def class_frequencies(split: str) -> np.ndarray:
    """Zipf over classes; test is tilted away from val."""
    tilt = random("tilt", split).normal(0, 0.0 if split == "val" else 0.8, CLASSES)
    frequency = np.exp(tilt) / (np.arange(CLASSES) + 3.0)
    return frequency / frequency.sum()


def make_scene(split: str, index: int) -> Scene:
    """Regions with a class each drift over the image; the label of a pixel is its nearest region's
    class, some rows are void."""
    draw = random("scene", split, index)
    region_class = draw.choice(CLASSES, REGIONS, p=class_frequencies(split)).astype(np.int64)
    start, speed = draw.uniform(0, 1, (REGIONS, 2)) * SIZE, draw.normal(0, 1.5, (REGIONS, 2))
    reach = draw.uniform(0, 600, REGIONS)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    regions = np.empty((FRAMES, *SIZE), np.int64)
    for t in range(FRAMES):
        place = start + t * speed
        distance = [
            (y - place[r, 0]) ** 2 + (x - place[r, 1]) ** 2 - reach[r] for r in range(REGIONS)
        ]
        regions[t] = np.argmin(distance, axis=0)
    targets = region_class[regions].astype(np.uint8)
    targets[:, :VOID_ROWS] = 255
    return Scene(f"{split}_{index:02d}", targets, regions, region_class)


def model_logits(
    scene: Scene, shares: list[torch.Tensor], family: str, member: int
) -> Iterator[np.ndarray]:
    """One model's logits [C, h, w] of each frame of a scene. shares: `region_share` of every
    frame."""
    common, shared, own = (
        random("common", scene.video),
        random("shared", family, scene.video),
        random("own", family, member, scene.video),
    )
    skill = random("skill", family, member).normal(0, 0.25)
    look_alike = (
        scene.region_class
        + 1
        + random("look-alike", family).integers(0, CLASSES - 1, CLASSES)[scene.region_class]
    ) % CLASSES
    parts = zip((COMMON, SHARED, 1 - COMMON - SHARED), (common, shared, own), strict=True)
    mistake = sum(part**0.5 * draw.normal(0, 1, REGIONS) for part, draw in parts)
    rarity = np.log1p(scene.region_class) / np.log1p(CLASSES)
    doubt = np.clip(
        1.0 + 0.55 * (mistake - skill + 0.9 * rarity - 1.5), 0.0, 1.9
    )  # above 1 the look-alike wins the region
    strength = own.uniform(4.0, 6.0)
    for share in shares:
        logits = torch.zeros(CLASSES, *NATIVE)
        logits.index_add_(0, torch.from_numpy(scene.region_class), strength * share)
        logits.index_add_(
            0,
            torch.from_numpy(look_alike),
            strength * share * torch.from_numpy(doubt).float()[:, None, None],
        )
        coarse = torch.from_numpy(own.normal(0, 0.8, (1, CLASSES, 6, 8)).astype(np.float32))
        logits += torch.nn.functional.interpolate(
            coarse, NATIVE, mode="bilinear", align_corners=False
        )[0]
        yield logits.numpy()


def region_share(regions: np.ndarray) -> torch.Tensor:
    """[R, h, w]: which part of each store pixel every region covers, a little blurred as networks
    do."""
    onehot = (torch.arange(REGIONS)[:, None, None] == torch.from_numpy(regions)).float()
    share = torch.nn.functional.interpolate(onehot[None], NATIVE, mode="area")
    return torch.nn.functional.avg_pool2d(share, 3, stride=1, padding=1, count_include_pad=False)[0]


def write(folder: Path, split: str) -> Iterator[str]:
    """Fills folder/<split>/<model>.zarr and folder/labels/<split>; yields each model's name. What
    is there already is kept."""
    scenes = [make_scene(split, index) for index in range(VIDEOS)]
    shares = {scene.video: [region_share(regions) for regions in scene.regions] for scene in scenes}
    for scene in scenes:
        for t, target in enumerate(scene.targets):
            path = folder / "labels" / split / scene.video / f"{t:05d}.png"
            write_labels(path, target, overwrite=True)
    names = [f"class_{k:03d}" for k in range(CLASSES)]
    for family, count in FAMILIES.items():
        for member in range(1, count + 1):
            model = f"{family}_{member:02d}"
            with LogitWriter(
                folder / split / f"{model}.zarr", names, provenance={"simulated": True}
            ) as writer:
                for scene in scenes:
                    with writer.video(
                        scene.video, frames=[f"{t:05d}" for t in range(FRAMES)], size=SIZE
                    ) as out:
                        for logits in (
                            model_logits(scene, shares[scene.video], family, member)
                            if not out.committed
                            else ()
                        ):
                            out.append(logits)
            yield model
