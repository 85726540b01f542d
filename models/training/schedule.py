"""The learning rate of a step, by its number alone, so that a resumed run goes on as it was.

It rises over `warmup` steps while it falls from learning_rate to 0, for i of n steps,

    poly      (1 - i / n)^power, as DeepLab has it (Chen et al. 2016, section 4.1.1)
    cosine    (1 + cos(pi i / n)) / 2 (Loshchilov and Hutter, "SGDR" (2017), equation 5, one cycle)

then, while weights are averaged, cycles as `swa.cyclical` or `swa.annealed`, or is constant
(Izmailov et al. 2018, section 3.2).
"""

from __future__ import annotations

import math

from fusion.models.training import swa
from fusion.models.training.config import Config


def learning_rate(config: Config, step: int) -> float:
    """Warm-up and decay, then the averaging phase."""
    options, average = config.train, config.swa
    if (beyond := step - options.steps) >= 0:
        if average.rate == "constant":
            return average.highest
        cycle = swa.annealed if average.rate == "cosine" else swa.cyclical
        return cycle(beyond, average.every, average.highest, average.lowest)
    warm = min(1.0, (step + 1) / options.warmup) if options.warmup else 1.0
    done = step / options.steps
    if options.schedule == "cosine":
        return options.learning_rate * warm * (1 + math.cos(math.pi * done)) / 2
    return options.learning_rate * warm * (1 - done) ** options.power
