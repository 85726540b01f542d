"""One small scene that figures share: a truth, and three groups that see it through noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.doors import scenes
from fusion.contested import Builder, Condensed, condense

CLASSES, SIZE, MEMBERS = 6, (96, 144), 3
GRAIN, BLUR = 20, 8  # pixels between the numbers of what is true, and of errors that members share
NOISE = {"strong": 2.0, "weak": 2.6, "auxiliary": 2.4}
NAMES = [f"class {c}" for c in range(CLASSES)]


@dataclass(frozen=True)
class Scene:
    """truth: [H, W]. means: float32 [G, C, H, W], each the mean of its members' softmaxes."""

    truth: NDArray[np.uint8]
    means: NDArray[np.float32]

    @property
    def condensed(self) -> Condensed:
        builder = Builder(tuple(NOISE), NAMES)
        block = condense(self.means, self.truth, CLASSES, ignore=255)
        builder.append("scene", block)
        return builder.finish()


def scene() -> Scene:
    rng = np.random.default_rng(11)
    truth = scenes.fields(rng, CLASSES, SIZE, GRAIN).argmax(axis=0).astype(np.uint8)
    means = []
    for noise in NOISE.values():
        shared = 0.6 * noise * scenes.fields(rng, CLASSES, SIZE, grain=BLUR)
        seen = [scenes.seen(rng, truth, CLASSES, 0.6 * noise) + shared for _ in range(MEMBERS)]
        means.append(np.mean([scenes.softmax(each) for each in seen], axis=0))
    return Scene(truth, np.stack(means).astype(np.float32))
