"""The learning rate of a step, by its number alone, so that a resumed run goes on as it was.

It rises over `warmup` steps, falls as learning_rate (1 - i / steps)^power, then cycles as
`swa.cyclical`.
"""

from __future__ import annotations

from fusion.models.training import swa
from fusion.models.training.config import Config


def learning_rate(config: Config, step: int) -> float:
    """Warm-up and polynomial decay, then the cycles of weight averaging."""
    options, average = config.train, config.swa
    if (beyond := step - options.steps) >= 0:
        return swa.cyclical(beyond, average.every, average.highest, average.lowest)
    warm = min(1.0, (step + 1) / options.warmup) if options.warmup else 1.0
    return options.learning_rate * warm * (1 - step / options.steps) ** options.power
