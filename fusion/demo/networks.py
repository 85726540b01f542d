"""Simulated networks, which err as the real ones in `measured` do.

A network's logits in a cell are

    sharpness x ( evidence - margins + doubts + flicker )

evidence: the share of its surroundings that each class covers, blurred as networks blur. margins
[C, C]: how far below the true class each other one is; from the measured confusions, so that a post
is taken for a building more often than for the ground, and persons are overrated. doubts [C, H, W]:
smooth fields that stay on the scene while the camera moves. flicker: small fields of one frame.

Doubts have a part that all networks share, a part that a family shares, and a part of the network's
own: fusing can do nothing about the first, a second family lessens the second, and a mean over
members the third. Margins are alike on all videos but for habits of a family and a network, and for
moods of a video: that is what multipliers and heads can learn, and how far it holds elsewhere.
T frames, C classes, H W pixels; predictions are as large as labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from fusion.demo.measured import CONFUSION
from fusion.demo.scenes import CLASSES, SIZE, VOID, Scene, random

FAMILIES = {"conv": 3, "attention": 2}
C = len(CLASSES)


@dataclass(frozen=True)
class Errors:
    """How large each cause of errors is; the defaults were fitted to `measured.PROFILE`.

    Standard deviations are in units of evidence: 1 is what separates a class that covers a pixel
    from one that does not.
    """

    sharpness: float = 6.0
    blur: int = 3  # pixels
    clean: float = 0.7  # of the measured confusions: what is not the work of borders
    habits: tuple[float, float] = (0.02, 0.12)  # of margins: of a family, own
    moods: float = 0.12  # of margins on one video, shared by all
    videos: float = 0.117  # of a class on one video, shared by all
    doubts: tuple[float, float, float] = (0.302, 0.151, 0.16)  # shared by all, by a family, own
    cells: int = 9  # pixels over which a doubt changes
    flicker: float = 0.0121
    skill: float = 0.55  # spread, by networks, of the size of their own doubts
    worse: float = 0.01  # margins that a network lacks at one such spread


ERRORS = Errors()


@dataclass(frozen=True)
class Network:
    """A member of a family: always the same one."""

    family: str
    member: int
    errors: Errors = ERRORS

    @property
    def name(self) -> str:
        return f"{self.family}_{self.member:02d}"

    @cached_property
    def lack(self) -> float:
        """Of skill: how much worse it is than the mean, in spreads."""
        return float(random("skill", self.name).uniform(-1, 1) * 3**0.5)

    @property
    def poor(self) -> float:
        """How large its own errors are beside those of others."""
        return float(np.exp(self.errors.skill * self.lack))

    @cached_property
    def margins(self) -> NDArray[np.float64]:
        """[C, C], truth by row: what is taken from each class's logit; 0 of the true one."""
        made = margins_of(self.errors)
        for size, key in zip(self.errors.habits, self._sources[1:], strict=True):
            made = made + size * random("margins", *key).normal(0, 1, (C, C))
        made -= self.errors.worse * self.lack
        made[np.arange(C), np.arange(C)] = 0
        return made

    def doubts(self, scene: Scene) -> Tensor:
        """[C, H, W] on a scene's canvas: what is not its own is the same of every network."""
        errors, where = self.errors, (C, *scene.canvas)
        sizes = [*errors.doubts[:2], self.poor * errors.doubts[2]]
        made = torch.zeros(where)
        for size, key in zip(sizes, self._sources, strict=True):
            made += size * smooth(random("doubts", *key, scene.video), where, errors.cells)
        offset = errors.videos * random("video", scene.video).normal(0, 1, C)
        return made + torch.from_numpy(offset).float()[:, None, None]

    def logits(self, scene: Scene, seen: Mapping[int, Tensor]) -> Iterator[NDArray[np.float32]]:
        """[C, H, W] of frames of a scene, whose `evidence` is given by the frame's number."""
        errors, doubts = self.errors, self.doubts(scene)
        moods = errors.moods * random("moods", scene.video).normal(0, 1, (C, C))
        margins = torch.from_numpy(self.margins + moods * (1 - np.eye(C))).float()
        for t, share in seen.items():
            shift = scene.shifts[t]
            z = share - torch.einsum("khw,kc->chw", share, margins)
            z += doubts[:, :, shift : shift + SIZE[1]]
            noise = random("flicker", self.name, scene.video, t)
            z += errors.flicker * smooth(noise, (C, *SIZE), errors.cells // 2)
            yield (errors.sharpness * z).numpy()

    @property
    def _sources(self) -> tuple[tuple[str, ...], ...]:
        """Where a part of its errors comes from: all networks, its family, itself."""
        return ("all",), ("family", self.family), ("own", self.name)


def networks(errors: Errors = ERRORS) -> list[Network]:
    """All of them, family after family."""
    return [Network(f, k + 1, errors) for f, many in FAMILIES.items() for k in range(many)]


def margins_of(errors: Errors) -> NDArray[np.float64]:
    """[C, C]: the margin at which doubts let a class win as often as was measured.

    Two classes' doubts differ by sqrt(2) times their size, normally distributed.
    """
    size = (2 * sum(part**2 for part in errors.doubts) + 2 * errors.videos**2) ** 0.5
    rate = np.clip(errors.clean * CONFUSION / 100, 2e-4, 0.45)
    quantile = torch.special.ndtri(torch.from_numpy(1 - rate)).numpy()
    # evidence is 1 already
    return np.asarray(np.clip(size * quantile - 1, -1, 1.5) * (1 - np.eye(C)))


def smooth(draw: np.random.Generator, shape: tuple[int, int, int], cells: int) -> Tensor:
    """A field of mean 0 and spread 1 that changes over so many pixels."""
    coarse = (1, shape[0], *(max(2, round(side / cells) + 1) for side in shape[1:]))
    drawn = torch.from_numpy(draw.normal(0, 1.5, coarse).astype(np.float32))
    return interpolate(drawn, shape[1:], mode="bilinear", align_corners=True)[0]


def evidence(
    scene: Scene, frames: Iterable[int] | None = None, errors: Errors = ERRORS
) -> dict[int, Tensor]:
    """Of each of some frames, default all, [C, H, W]: what a class covers of a cell, blurred."""
    made = {}
    for t in range(scene.frames) if frames is None else frames:
        target = scene.targets[t]
        kept = torch.from_numpy(np.where(target == VOID, CLASSES.index("ground"), target))
        onehot = (torch.arange(C)[:, None, None] == kept).float()[None]
        pad = errors.blur // 2
        made[t] = avg_pool2d(onehot, errors.blur, 1, pad, count_include_pad=False)[0]
    return made
