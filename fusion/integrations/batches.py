"""What a store needs of a loader's batch: images, ids of units and frames, sizes, predictions.

A batch is a tensor, a dict, or a tuple whose first item is the images; ids and sizes stand in the
dict, in the tuple's dict (or list of dicts), or come from a function of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fusion.errors import InputError
from fusion.integrations.units import Size, Units

Pick = str | int | Callable[[Any], Any]
IMAGES = ("image", "images", "pixel_values", "inputs")  # what datasets call them
OUTPUTS = ("logits", "out")  # transformers, torchvision
Names = list[tuple[str, str | None]]  # unit, frame


@dataclass(frozen=True)
class Batches:
    """How to read a batch of N images.

    Args:
        unit: key or function of the batch: N ids of videos, images or cases.
        frame: the same for N frame ids; None: every image is a unit.
        size: the same for N (height, width) of the source images, or one pair for all; None: as
            the network sees them.
        images: key or function of the batch: [N, ..., H, W]; None: found by type and name.
        output: key or function of what the network returns: [N, C, h, w]; None: the tensor, the
            first of a tuple, "logits" or "out" of a dict.
    """

    unit: Pick
    frame: Pick | None = None
    size: Pick | Size | None = None
    images: Pick | None = None
    output: Pick | None = None

    def add(self, batch: Any, names: Names, output: Any, units: Units) -> None:
        """Adds what a network returned for a batch; anything where nothing was lacking."""
        if not lacking(names, units):
            for unit, frame in names:
                units.add(unit, frame, None)
            return
        sizes, predictions = self.sizes(batch, names), self.predictions(output, names)
        for (unit, frame), one, size in zip(names, predictions, sizes, strict=True):
            units.add(unit, frame, one, None if units.committed(unit) else size)

    def names(self, batch: Any) -> Names:
        """Unit and frame of each image."""
        units = _ids(_picked(batch, self.unit, "unit"), "unit")
        if self.frame is None:
            return [(unit, None) for unit in units]
        frames = _ids(_picked(batch, self.frame, "frame"), "frame")
        if len(frames) != len(units):
            problem = f"{len(frames)} frame ids for {len(units)} unit ids"
            raise InputError(f"frame: a batch has {problem} ({units[0]!r}, ...); give one an image")
        return list(zip(units, frames, strict=True))

    def images_of(self, batch: Any) -> Tensor:
        """[N, ..., H, W]."""
        found = _found_images(batch) if self.images is None else None
        if self.images is not None:
            found = _picked(batch, self.images, "images")
        if not isinstance(found, Tensor) or found.ndim < 4:
            got = _held(batch) if found is None else _held(found)
            advice = "give images= a key or function of the batch that is a tensor [N, ..., H, W]"
            raise InputError(f"images: a batch holds {got}; {advice}")
        return found

    def sizes(self, batch: Any, names: Names) -> list[Size]:
        """(height, width) of each image."""
        if self.size is None:
            height, width = self.images_of(batch).shape[-2:]
            return [(height, width)] * len(names)
        if isinstance(self.size, tuple):
            given: Any = self.size
        else:
            given = _picked(batch, self.size, "size")
        try:
            return _pairs(given, len(names))
        except (TypeError, ValueError):
            wanted = f"give {len(names)} pairs (height, width) of whole numbers"
            where = f"size of {names[0][0]!r}, ..."
            raise InputError(f"{where}: got {given!r:.80}; {wanted}") from None

    def predictions(self, output: Any, names: Names) -> Tensor:
        """[N, C, h, w] of what the network returned."""
        found = _found_output(output) if self.output is None else None
        if self.output is not None:
            found = _picked(output, self.output, "output")
        if not isinstance(found, Tensor) or found.ndim != 4 or len(found) != len(names):
            got = _held(output if found is None else found)
            wanted = f"output= picks the logits [{len(names)}, C, h, w] from it"
            where = f"unit {names[0][0]!r}" + (", ..." if len(names) > 1 else "")
            raise InputError(f"{where}: the network returned {got}; say how {wanted}")
        return found


def lacking(names: Names, units: Units) -> bool:
    """Whether any of a batch was not in the store at the start."""
    return not all(units.committed(unit) for unit, _ in names)


def _picked(whole: Any, pick: Pick, what: str) -> Any:
    if callable(pick):
        return pick(whole)
    parts = [whole, *(whole if isinstance(whole, (tuple, list)) else ())]
    for part in parts:
        if isinstance(part, Mapping) and pick in part:
            return part[pick]
        many = isinstance(part, (tuple, list)) and len(part) > 0
        if many and all(isinstance(one, Mapping) and pick in one for one in part):
            return [one[pick] for one in part]
    if isinstance(pick, int) and isinstance(whole, (tuple, list)) and pick < len(whole):
        return whole[pick]
    got = f"{pick!r} is not in {_held(whole)}"
    raise InputError(f"{what}: {got}; give a key of the batch or a function of it")


def _held(whole: Any) -> str:
    """What something is, for an error."""
    if isinstance(whole, Tensor):
        return f"a tensor {list(whole.shape)}"
    if isinstance(whole, Mapping):
        return f"a dict of {list(whole)[:10]}"
    if isinstance(whole, (tuple, list)):
        return f"a {type(whole).__name__} of " + ", ".join(_held(part) for part in whole[:4])
    return f"a {type(whole).__name__}"


def _found_images(batch: Any) -> Any:
    if isinstance(batch, (tuple, list)) and batch:
        return _found_images(batch[0])
    if not isinstance(batch, Mapping):
        return batch
    named = [batch[key] for key in IMAGES if key in batch]
    like = [value for value in batch.values() if isinstance(value, Tensor) and value.ndim >= 4]
    return named[0] if named else like[0] if len(like) == 1 else None


def _found_output(output: Any) -> Any:
    if isinstance(output, Mapping):
        return next((output[key] for key in OUTPUTS if key in output), None)
    return output[0] if isinstance(output, (tuple, list)) and output else output


def _ids(given: Any, what: str) -> list[str]:
    """Strings; whole numbers are written out."""
    single = isinstance(given, (str, int, Path)) or getattr(given, "ndim", 1) == 0
    listed = [given] if single or not isinstance(given, Iterable) else list(given)
    plain = [one.item() if getattr(one, "ndim", 1) == 0 else one for one in listed]
    odd = [one for one in plain if isinstance(one, bool) or not isinstance(one, (str, int, Path))]
    if odd or not plain:
        got = f"{odd[0]!r:.80}" if odd else "none"
        raise InputError(f"{what}: got {got}; give an id an image: a text or a whole number")
    return [str(one) for one in plain]


def _pairs(given: Any, count: int) -> list[Size]:
    """N pairs: as tensors [N, 2], as PyTorch collates pairs (heights [N], widths [N]), or one."""
    if isinstance(given, (tuple, list)) and len(given) == 2:
        if all(getattr(part, "ndim", 0) == 1 and len(part) == count for part in given):
            given = list(zip(*given, strict=True))
        elif all(isinstance(part, int) for part in given):
            given = [given] * count
    pairs = [(height.__index__(), width.__index__()) for height, width in given]
    if len(pairs) != count:
        raise ValueError("not a pair an image")
    return pairs
