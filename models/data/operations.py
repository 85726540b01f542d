"""Further augmentations by name, of kornia: blur, noise, JPEG, erasing, rain, ...

    [augment.operations]
    RandomGaussianBlur = {kernel_size = [3, 3], sigma = [0.1, 2.0], p = 0.3}
    RandomJPEG = {jpeg_quality = [40, 90]}

Names and keys are those of kornia.augmentation; they come in the order of the file, after colour.
Only what leaves pixels in their places is taken: crop, scale and flip are done here, where masks
and a teacher's maps follow them. What they draw follows from the sample's own numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusion.errors import InputError
from fusion.text import did_you_mean

Operation = nn.Module  # images [N, 3, H, W] in 0..1 to the same
NONE_OF_THESE = ("Normalize", "Denormalize", "IntensityAugmentationBase2D")  # values in 0..1 stay


def operations_of(table: Mapping[str, Any]) -> list[Operation]:
    """The operations of a table; InputError: not installed, no such name, other keys."""
    if not table:
        return []
    try:
        from kornia import augmentation
    except ImportError as error:
        do = "pip install kornia, or leave [augment.operations] out"
        raise InputError(
            f"augment: operations need kornia, which is not installed; {do}"
        ) from error
    base, found = augmentation.IntensityAugmentationBase2D, inspect.getmembers(augmentation)
    known = {
        name: kind
        for name, kind in found
        if inspect.isclass(kind) and issubclass(kind, base) and name not in NONE_OF_THESE
    }
    made: list[Operation] = []
    for name, keys in table.items():
        if name not in known:
            why = f"no {name!r} among kornia's operations that leave pixels in their places"
            raise InputError(f"augment: operations: {why}{did_you_mean(name, known)}")
        if not isinstance(keys, Mapping):
            raise InputError(f"augment: operations: {name} is {keys!r}; give a table of its keys")
        try:
            made.append(known[name](**{key: _tuples(value) for key, value in keys.items()}))
        except Exception as error:  # of kornia, whatever it checks
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise InputError(
                f"augment: operations: {name} {dict(keys)} do not fit ({reason})"
            ) from error
    return made


def _tuples(value: Any) -> Any:
    """TOML's lists as kornia wants them."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def applied(operations: Sequence[Operation], image: Tensor, draw: np.random.Generator) -> Tensor:
    """An image [3, H, W] in 0..1 after all operations; torch's own random numbers stay."""
    if not operations:
        return image
    generator = torch.random.default_generator
    before = generator.get_state()
    generator.manual_seed(int(draw.integers(1 << 62)))
    try:
        for operation in operations:
            image = operation(image[None])[0]
    finally:
        generator.set_state(before)
    return image.clamp(0, 1)
