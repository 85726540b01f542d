"""Simulated streets: a camera that drives past houses, cars that overtake it, people who walk.

A scene is painted once on a canvas wider than a frame, of which every frame shows a piece further
along; what moves by itself is painted frame by frame. T frames, H W pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLASSES = ("sky", "building", "ground", "tree", "fence", "car", "post", "person")
INDEX = {name: k for k, name in enumerate(CLASSES)}
COLOURS = np.array(  # void last
    [
        [140, 190, 230],
        [150, 60, 50],
        [128, 96, 128],
        [100, 150, 60],
        [90, 90, 150],
        [40, 40, 140],
        [230, 210, 90],
        [220, 110, 30],
        [0, 0, 0],
    ],
    np.uint8,
)
SIZE = (48, 64)  # (H, W) of labels and of what networks give
FASTEST = 1.6  # pixels that the camera moves in a frame
VOID, VOID_ROWS = 255, 1  # the car's own bonnet
Labels = NDArray[np.uint8]


def random(*key: object) -> np.random.Generator:
    """A generator that depends on its key alone, so that any part can be made again by itself."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


@dataclass(frozen=True)
class Scene:
    """One video of `frames` frames; what `split` and `index` name is always the same."""

    split: str
    index: int
    frames: int

    @property
    def video(self) -> str:
        return f"{self.split}_{self.index:02d}"

    @cached_property
    def shifts(self) -> list[int]:
        """Of every frame on the canvas, in pixels."""
        speed = random("speed", self.video).uniform(0, FASTEST)
        return [int(t * speed) for t in range(self.frames)]

    @property
    def canvas(self) -> tuple[int, int]:
        """Pixels [H, W] of all that the frames see."""
        return SIZE[0], SIZE[1] + self.shifts[-1]

    @cached_property
    def targets(self) -> Labels:
        """[T, H, W]."""
        draw = random("scene", self.video)
        height, width = self.canvas
        horizon = int(height * draw.uniform(0.4, 0.52))
        street, moving = _street(draw, height, width, horizon), _movers(draw, height, horizon)
        made = np.empty((self.frames, *SIZE), np.uint8)
        for t, shift in enumerate(self.shifts):
            made[t] = street[:, shift : shift + SIZE[1]]
            for mover in moving:
                mover.paint(made[t], t)
        made[:, -VOID_ROWS:] = VOID
        return made


@dataclass(frozen=True)
class Mover:
    """A car, or a person: where it stands at t = 0, and pixels a frame."""

    name: str
    foot: float
    left: float
    tall: float
    wide: float
    speed: float

    def paint(self, target: Labels, t: int) -> None:
        _figure(target, self.name, self.foot, self.left + t * self.speed, self.tall, self.wide)


def _street(draw: np.random.Generator, height: int, width: int, horizon: int) -> Labels:
    """What stands still, painted from far to near."""
    made = np.full((height, width), INDEX["sky"], np.uint8)
    for left, wide in _strip(draw, width, 0.25 * height, 0.8 * height):
        top = horizon - height * draw.uniform(0.2, 0.5)
        if draw.random() < 0.9:
            _box(made, "building", top, horizon + 0.08 * height, left, left + wide)
    for _ in range(draw.poisson(3 * width / height)):
        x, y = draw.uniform(0, width), horizon - height * draw.uniform(0.0, 0.2)
        _ellipse(made, "tree", y, x, height * draw.uniform(0.06, 0.2))
    kerb = horizon + height * draw.uniform(0.07, 0.11)
    for left, wide in _strip(draw, width, 0.2 * height, 0.6 * height):
        if draw.random() < 0.17:
            _box(made, "fence", kerb - 0.12 * height, kerb, left, left + wide)
    _box(made, "ground", kerb - 0.03 * height, height, 0, width)
    for _ in range(draw.poisson(1.3 * width / height)):
        x, top = draw.uniform(0, width), horizon - height * draw.uniform(0.15, 0.38)
        _box(made, "post", top, kerb, x, x + draw.uniform(1, 2.4))
        if draw.random() < 0.6:
            side = height * draw.uniform(0.07, 0.15)
            _box(made, "post", top, top + side, x - side / 2, x + side / 2)
    for _ in range(draw.poisson(1.1 * width / height)):
        tall = height * draw.uniform(0.12, 0.2)
        foot, left = kerb + height * draw.uniform(0.06, 0.16), draw.uniform(-tall, width)
        _figure(made, "car", foot, left, tall, 1.8 * tall)
    return made


def _movers(draw: np.random.Generator, height: int, horizon: int) -> list[Mover]:
    """What moves by itself: how many, how tall [share of the height], how fast [pixels a frame]."""
    kinds: Any = (
        ("person", 1.6, (0.12, 0.24), 0.35, 0.5),  # on foot
        ("person", 0.7, (0.15, 0.26), 0.75, 0.9),  # on a bicycle
        ("car", 0.6, (0.16, 0.3), 1.8, 1.0),
    )
    made = []
    for name, many, sizes, wide, speed in kinds:
        for _ in range(draw.poisson(many)):
            tall = height * draw.uniform(*sizes)
            foot = horizon + height * draw.uniform(0.12, 0.2) + 0.5 * tall
            left, fast = draw.uniform(-0.1, 0.95) * SIZE[1], draw.normal(0, speed)
            made.append(Mover(name, foot, left, tall, wide * tall, fast))
    return sorted(made, key=lambda mover: mover.foot)


def _strip(
    draw: np.random.Generator, width: int, least: float, most: float
) -> Iterator[tuple[float, float]]:
    """Pieces side by side: (left, wide)."""
    left = -draw.uniform(0, most)
    while left < width:
        wide = draw.uniform(least, most)
        yield left, wide
        left += wide


def _box(made: Labels, name: str, top: float, foot: float, left: float, right: float) -> None:
    rows, columns = slice(max(0, int(top)), max(0, int(foot))), slice(*map(_inside, (left, right)))
    made[rows, columns] = INDEX[name]


def _inside(x: float) -> int:
    return max(0, round(x))


def _ellipse(made: Labels, name: str, y: float, x: float, tall: float, wide: float = 0) -> None:
    rows, columns = np.ogrid[: made.shape[0], : made.shape[1]]
    inside = ((rows - y) / tall) ** 2 + ((columns - x) / (wide or tall)) ** 2 < 1
    made[inside] = INDEX[name]


def _figure(made: Labels, name: str, foot: float, left: float, tall: float, wide: float) -> None:
    """A body, and on it a head or a roof."""
    middle = left + wide / 2
    _box(made, name, foot - 0.62 * tall, foot, left, left + wide)
    _ellipse(made, name, foot - 0.65 * tall, middle, 0.35 * tall, 0.32 * wide)
