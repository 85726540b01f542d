"""What people are told where training cannot work as it is configured."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from fusion.errors import InputError
from fusion.models.data.clips import Clips
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


def crop_hint(config: Config, clips: Clips) -> str | None:
    """A sentence where no view is ever filled by its image: most of such a crop is padding."""
    crop, largest = config.augment.crop, config.augment.scale[1]
    width, height = clips.image(*clips.labelled()[0]).size
    if max(width, height) * largest >= crop:
        return None
    fits = max(32, min(width, height) // 32 * 32)
    got = f"crop is {crop} and images are {height}x{width}, enlarged {largest:g} times at most"
    return f"augment: {got}, so the rest of each view is empty; crop = {fits} is faster"
