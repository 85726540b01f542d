"""Can the network learn anything at all? A few images, the same views again and again.

The oldest check of a training set-up: what cannot fit a handful of images has a wrong learning
rate, labels that belong to other images, or a loss that does not see them. Nothing is written.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fusion.errors import InputError
from fusion.metrics import confusion
from fusion.models.data.augment import Augment
from fusion.models.training.config import Config, Val
from fusion.models.training.distributed import World
from fusion.models.training.run import Batch, Run
from fusion.progress import bar

ENOUGH = 0.95  # of the pixels
MOST_STEPS, EACH = 1000, 10  # steps at most, and between two looks


@dataclass(frozen=True)
class Overfit:
    """losses: of the first step and the last. accuracy: of pixels, a fraction, in the end."""

    images: int
    steps: int
    losses: tuple[float, float]
    accuracy: float

    @property
    def learned(self) -> bool:
        return self.accuracy >= ENOUGH

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"learned": self.learned}

    def text(self) -> str:
        can = "can learn them" if self.learned else "does not learn them"
        course = "{:.3f} -> {:.3f}".format(*self.losses)
        got = f"{100 * self.accuracy:.1f} % of the pixels right, loss {course}"
        todo = "" if self.learned else "; try another learning rate, then look at the labels"
        return f"{self.images} images, {self.steps} steps: {got}: the network {can}{todo}"


def overfit(config: Config, images: int, place: World, most: int | None = None) -> Overfit:
    """Trains on so many images, without augmentation, until nearly all their pixels are right.

    Args:
        config: whose network, loss, crop, batch, precision and highest learning rate are taken.
        images: how many; batches need two at least.
        place: this process, the only one.
        most: steps after which it is given up; default `MOST_STEPS`.
    """
    most = MOST_STEPS if most is None else most
    if images < config.train.batch or place.size > 1:
        got = f"overfit: got {images} images in {place.size} processes"
        raise InputError(f"{got}; give train.batch ({config.train.batch}) or more, and one process")
    still = Augment(crop=config.augment.crop, scale=(1.0, 1.0), flip=0.0, colour=0.0)
    pace: dict[str, Any] = {"steps": most + 1, "warmup": 0, "power": 0.0, "schedule": "poly"}
    options = replace(config.train, **pace, accumulate=1, ema=0.0)
    plain = replace(config, augment=still, train=options, val=Val())
    run = Run(plain, place, resume=False)
    count = min(images, len(run.samples.pairs))
    samples = [run.samples[k] for k in range(count)]  # one view of each, always the same
    size, losses, accuracy = config.train.batch, [0.0, 0.0], 0.0
    with bar("overfit", most, unit="step") as shown:
        run.network.train()
        while run.step < most and accuracy < ENOUGH:
            chosen = [samples[(run.step * size + k) % count] for k in range(size)]
            losses[bool(run.step)] = loss = run.update([_stacked(chosen)])
            run.step += 1
            if run.step % EACH == 0:
                accuracy = _accuracy(run, samples)
            said = f"loss {loss:.3f}, {100 * accuracy:.1f} % right"
            shown.set_postfix_str(said, refresh=False)
            shown.update()
    return Overfit(count, run.step, (losses[0], losses[1]), accuracy)


def _stacked(samples: list[Batch]) -> Batch:
    return tuple(torch.stack(parts) for parts in zip(*samples, strict=True))


@torch.no_grad()
def _accuracy(run: Run, samples: list[Batch]) -> float:
    """The fraction of pixels whose class is right, of the network as training sees it.

    Batches are whole, the last filled from the first: batch norm may have no value to spare.
    """
    classes, size, right, all_of_them = len(run.clips.classes), run.config.train.batch, 0, 0
    for start in range(0, len(samples), size):
        chosen = [samples[(start + k) % len(samples)] for k in range(size)]
        images, targets = _stacked(chosen)[:2]
        logits: Tensor = run.network.logits(images.to(run.place.device)).float()
        shown = torch.nn.functional.interpolate(logits, targets.shape[-2:], mode="bilinear")
        labels = shown.argmax(1).cpu()
        counted = targets < classes
        pixels = targets[counted].numpy(), labels[counted].numpy()
        found = confusion(*pixels, classes)
        right, all_of_them = right + int(found.trace()), all_of_them + int(found.sum())
    return right / max(1, all_of_them)
