"""Populations of videos in which the worth of every weighting is known, condensed for searches.

`level`: every weighting of the groups scores the same, exactly. Pixels that groups disagree on are
between two classes, and each video has a mirror in which all margins are the other way round: any
weighted sum is right on one of the two. Groups err by video, so samples of videos do differ.
`equal`: softmaxes of equal skill and independent errors; uniform weights are the best there are.
Each video comes three times, its groups in every turn, so that they are exactly alike.
`better`: the last group is the best, and weights have something to gain.

C classes, the last of them rare where a scene says so. Videos differ in difficulty.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fusion.contested import Builder, Condensed, condense
from fusion.search.method import Problem

GROUPS = ("strong", "weak", "auxiliary")
CLASSES, PIXELS, BASE = 6, 240, 120  # pixels of each kind and video; videos before their mirrors
RARE, LIVES = 0.03, 0.4  # of a video's pixels, and of the videos
REACH = 4.0

Floats = NDArray[np.float64]


class Video(NamedTuple):
    """Group means [G, C, P] and targets [P]."""

    means: Floats
    targets: NDArray[np.int64]


@dataclass(frozen=True)
class Scene:
    """A kind of population, and how many videos are drawn from it."""

    kind: str
    videos: int
    rare: bool = True
    multipliers: bool = False

    @property
    def name(self) -> str:
        classes = "a rare class" if self.rare else "classes alike"
        return f"{self.kind}, {self.videos} videos, {classes}" + (
            ", multipliers" if self.multipliers else ""
        )

    def problem(self, base: int = BASE) -> Problem:
        """The population."""
        rng = np.random.default_rng([ord(letter) for letter in self.kind])
        videos: list[Video] = []
        for _ in range(base):
            frequency = np.ones(CLASSES) / CLASSES
            if self.rare:
                frequency[-1] = RARE * (rng.random() < LIVES)
                frequency[:-1] = rng.dirichlet(np.full(CLASSES - 1, 3.0)) * (1 - frequency[-1])
            videos += KINDS[self.kind](rng, frequency)
        if not self.multipliers:
            return Problem(condensed(videos))
        return Problem(condensed(videos), wide=condensed(videos, REACH), reach=REACH)


def condensed(videos: list[Video], reach: float = 1.0) -> Condensed:
    """As a search has them."""
    builder = Builder(GROUPS, [f"class {c}" for c in range(CLASSES)])
    for number, (means, targets) in enumerate(videos):
        given = means.astype(np.float32), targets.astype(np.uint8), CLASSES
        builder.append(f"video {number}", condense(*given, ignore=255, reach=reach))
    return replace(builder.finish(), reach=reach)


def level(rng: np.random.Generator, frequency: Floats) -> list[Video]:
    """A video and its mirror."""
    ease, tilt = rng.uniform(0.6, 0.95), rng.normal(0, 1.0, len(GROUPS))
    settled = rng.choice(CLASSES, PIXELS, p=frequency)
    said = np.where(rng.random(PIXELS) < ease, settled, rng.choice(CLASSES, PIXELS, p=frequency))
    pairs = rng.choice(CLASSES, (2, PIXELS), p=frequency)
    first, second = pairs[:, pairs[0] != pairs[1]]
    noise = rng.normal(0, 1.0, (len(GROUPS), len(first))) + rng.normal(0, 0.5, len(first))
    margins = np.tanh(0.5 * (tilt[:, None] + noise))
    made = []
    for sign in (1, -1):
        means = np.full((len(GROUPS), CLASSES, PIXELS + len(first)), 0.01)
        means[:, said, np.arange(PIXELS)] = 0.95
        places = PIXELS + np.arange(len(first))
        means[:, first, places] = 0.48 * (1 + sign * margins)
        means[:, second, places] = 0.48 * (1 - sign * margins)
        made.append(Video(means, np.concatenate([settled, first])))
    return made


def skilled(rng: np.random.Generator, frequency: Floats, skill: Floats) -> Video:
    """Softmaxes whose logit of the true class is higher by a group's skill, more in some videos."""
    targets = rng.choice(CLASSES, 2 * PIXELS, p=frequency)
    prior = np.log(np.maximum(frequency, RARE / 4))
    logits = 1.2 * rng.normal(size=(len(skill), CLASSES, len(targets)))
    logits += rng.normal(size=logits.shape[1:]) + prior[:, None]
    own = skill + rng.normal(0, 0.5, len(skill)) + rng.normal(0, 0.5)
    logits[:, targets, np.arange(len(targets))] += own[:, None]
    odds = np.exp(logits)
    return Video(odds / odds.sum(axis=1, keepdims=True), targets)


def equal(rng: np.random.Generator, frequency: Floats) -> list[Video]:
    """A video with its groups in every turn."""
    video = skilled(rng, frequency, np.full(len(GROUPS), 2.5))
    return [Video(np.roll(video.means, turn, axis=0), video.targets) for turn in range(3)]


def better(rng: np.random.Generator, frequency: Floats) -> list[Video]:
    """Two videos in which the last group knows more."""
    return [skilled(rng, frequency, np.array([2.0, 2.0, 2.8])) for _ in range(2)]


KINDS = {"level": level, "equal": equal, "better": better}


def level_indeed(problem: Problem) -> bool:
    """Whether weightings of a population of `level` videos score the same."""
    weights = np.random.default_rng(0).dirichlet(np.ones(len(GROUPS)), 20)
    scores = problem.condensed.miou([[1.0] * len(GROUPS), *weights])
    return bool(np.ptp(scores) < 1e-4)  # ties in float32
