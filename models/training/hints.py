"""What people are told where training cannot work as it is configured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from fusion.errors import InputError
from fusion.models.training.config import Config


@contextlib.contextmanager
def enough_memory(config: Config) -> Iterator[None]:
    """Turns the errors that mean a lack of memory into one that says what needs less."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _too_large(config) from error
    except RuntimeError as error:  # what the CPU's allocator raises
        if "can't allocate memory" not in str(error):
            raise
        raise _too_large(config) from error


def _too_large(config: Config) -> InputError:
    options = config.train
    got = f"a batch of {options.batch} crops of {config.augment.crop} does not fit into memory"
    smaller = max(2, options.batch // 2)
    advice = "lower augment.crop, or choose a smaller network"
    if smaller < options.batch:
        more = -(-options.batch * options.accumulate // smaller)
        same = f"batch = {smaller} and accumulate = {more}, the same images a step"
        advice = f"set {same}, or lower augment.crop"
    return InputError(f"train: {got}; {advice}")
