"""Moving textured regions of 124 long-tailed classes as VSPW: for the paper in miniature.

    <root>/data/<video>/origin/<frame>.jpg, <root>/data/<video>/mask/<frame>.png, train.txt,
    val.txt, test.txt

Nothing here is a picture of the world. Every class has two colours and a pattern of stripes; its
colours come from a few families, so that classes are confused with their relatives. Regions of one
class each drift over the image; light differs from video to video. Class frequencies follow Zipf's
law in train and val; test is tilted away from it, more for some classes than for others, as the
paper's test split is from its val split. Mask values are class + 1; 0 ("others") and 255 are void.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fusion.demo import random
from fusion.labels import VSPW_CLASSES, write_labels

COLOUR_FAMILIES, TILT, NOISE = 80, 0.8, 8.0


@dataclass(frozen=True)
class Sizes:
    """size: (H, W) in pixels. videos: per split. regions, frames (fewest, most): per video."""

    size: tuple[int, int]
    videos: dict[str, int] = field(default_factory=dict)
    regions: int = 14
    frames: tuple[int, int] = (11, 24)


@dataclass(frozen=True)
class Look:
    """Of the classes: colours [C, 2, 3] in 0..255; angle and wave length of the stripes [C]."""

    colours: NDArray[np.float64]
    angle: NDArray[np.float64]
    length: NDArray[np.float64]


def class_look(seed: int) -> Look:
    draw = random("look", seed)
    families = draw.uniform(20, 235, (COLOUR_FAMILIES, 2, 3))
    colours = families[draw.integers(0, COLOUR_FAMILIES, VSPW_CLASSES)]
    colours = (colours + draw.normal(0, 14, colours.shape)).clip(0, 255)
    # angles, then wave lengths
    stripes = [draw.uniform(*ends, VSPW_CLASSES) for ends in ((0, np.pi), (4, 14))]
    return Look(colours, *stripes)


def class_frequencies(split: str, seed: int) -> NDArray[np.float64]:
    """[C], sums to 1: Zipf's law, tilted on test; one order everywhere, class ids are no ranks."""
    order = random("order", seed).permutation(VSPW_CLASSES)
    tilt = random("tilt", seed).normal(0, TILT if split == "test" else 0.0, VSPW_CLASSES)
    frequency = np.exp(tilt) / (order + 2.0)
    return frequency / frequency.sum()


def make_video(
    split: str, index: int, sizes: Sizes, seed: int
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Frame by frame: image [H, W, 3], mask [H, W] as stored."""
    draw, look = random("video", seed, split, index), class_look(seed)
    classes = draw.choice(VSPW_CLASSES, sizes.regions, p=class_frequencies(split, seed))
    start = draw.uniform(0, 1, (sizes.regions, 2)) * sizes.size
    speed = draw.normal(0, 1.5, (sizes.regions, 2))
    reach = draw.uniform(0, np.prod(sizes.size) / 20, sizes.regions)
    light, tone = draw.uniform(0.8, 1.15), draw.normal(0, 5, 3)
    y, x = np.mgrid[: sizes.size[0], : sizes.size[1]]
    for t in range(int(draw.integers(sizes.frames[0], sizes.frames[1] + 1))):
        up, left = (start + t * speed).T
        distance = (y[..., None] - up) ** 2 + (x[..., None] - left) ** 2 - reach
        region = np.argmin(distance, axis=-1)
        label = classes[region]
        # stripes move with their region
        angle, down, right = look.angle[label], y - up[region], x - left[region]
        across = down * np.sin(angle) + right * np.cos(angle)
        share = (0.5 + 0.5 * np.sin(2 * np.pi * across / look.length[label]))[..., None]
        colour = look.colours[label, 0] * share + look.colours[label, 1] * (1 - share)
        image = colour * light + tone + draw.normal(0, NOISE, colour.shape)
        mask = (label + 1).astype(np.uint8)
        mask[:2], mask[-1:] = 255, 0
        yield image.clip(0, 255).astype(np.uint8), mask


def write(root: Path, sizes: Sizes, seed: int = 0) -> None:
    """Writes every split below `root`; a split whose list is there is complete and is kept."""
    for split, count in sizes.videos.items():
        listed = root / f"{split}.txt"
        if listed.exists():
            continue
        videos = [f"{split}_{index:04d}" for index in range(count)]
        for index, video in enumerate(videos):
            folder = root / "data" / video
            (folder / "origin").mkdir(parents=True, exist_ok=True)
            for t, (image, mask) in enumerate(make_video(split, index, sizes, seed)):
                Image.fromarray(image).save(folder / "origin" / f"{t:08d}.jpg", quality=92)
                write_labels(folder / "mask" / f"{t:08d}.png", mask, overwrite=True)
        listed.write_text("\n".join(videos) + "\n")
