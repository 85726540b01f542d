"""Further augmentations by name, of kornia: blur, noise, JPEG, erasing, rain, ...

    [augment.operations]
    RandomGaussianBlur = {kernel_size = [3, 3], sigma = [0.1, 2.0], p = 0.3}
    RandomJPEG = {jpeg_quality = [40, 90]}

Names and keys are those of kornia.augmentation; they come in the order of the file, after colour.
Only what leaves pixels in their places is taken: crop, scale and flip are done here, where masks
and a teacher's maps follow them. What they draw follows from the sample's own numbers.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fusion.errors import InputError
from fusion.text import did_you_mean

Operation = nn.Module  # images [N, 3, H, W] in 0..1 to the same
NONE_OF_THESE = ("Normalize", "Denormalize", "IntensityAugmentationBase2D")  # values in 0..1 stay


def operations_of(table: Mapping[str, Any], side: int) -> list[Operation]:
    """The operations of a table, each tried once on the largest view, of side x side pixels.

    InputError: not installed, no such name, other keys, or values that do not work.
    """
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
        given = {key: _tuples(value) for key, value in keys.items()}
        with _fitting(f"{name} {dict(keys)} do"):
            made.append(known[name](**given))
            # some keys it looks at when it is used, which by p may be late in a run
            with torch.random.fork_rng(devices=[]):
                known[name](**given | {"p": 1.0})(torch.full((1, 3, side, side), 0.5))
    return made


@contextlib.contextmanager
def _fitting(what: str) -> Iterator[None]:
    """InputError for whatever kornia raises: what does not fit, and its reason."""
    try:
        yield
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"augment: operations: {what} not fit ({reason})") from error


def _tuples(value: Any) -> Any:
    """TOML's lists as kornia wants them."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def applied(operations: Sequence[Operation], image: Tensor, draw: np.random.Generator) -> Tensor:
    """An image [3, H, W] in 0..1 after all operations; torch's own random numbers stay."""
    if not operations:
        return image
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(int(draw.integers(1 << 62)))
        for operation in operations:
            # a kernel may have no room in a view that an image's border makes smaller
            with _fitting(f"{type(operation).__name__} and a view of {list(image.shape[1:])} do"):
                image = operation(image[None])[0]
    return image.clamp(0, 1)
