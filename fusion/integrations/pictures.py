"""Pictures of a data set as batches for a transformers model: each prepared alone, none padded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from fusion.errors import InputError
from fusion.integrations.units import Size, Units

Key = str | Callable[[Any], Any]


@dataclass(frozen=True)
class Pictures:
    """Batches {"unit", "frame", "size", "pixel_values"}; of committed ones the first two alone.

    Of a `datasets.Dataset` ids are read as a column: no committed picture is opened. For arguments
    see `hf.cache`.
    """

    dataset: Any
    processor: Any
    unit: Key | None
    frame: Key | None
    image: str
    batch_size: int
    units: Units

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"batch_size: got {self.batch_size}; give the images at a time")
        if self.frame is not None and self.unit is None:
            raise InputError("frame: got frames of no unit; give unit=, the id of their video")
        if getattr(self.processor, "do_center_crop", False):
            problem = f"{type(self.processor).__name__} crops pictures, borders get no logits"
            raise InputError(f"processor: {problem}; set its do_center_crop = False")

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        columns = {key: self._column(key) for key in (self.unit, self.frame)}
        for start in range(0, len(self.dataset), self.batch_size):
            rows = range(start, min(start + self.batch_size, len(self.dataset)))
            given = [self._ids(row, columns) for row in rows]
            if all(self.units.committed(unit) for unit, _, _ in given):
                yield {"unit": [unit for unit, _, _ in given], "frame": [f for _, f, _ in given]}
                continue
            items = [
                self.dataset[row] if i is None else i
                for row, (_, _, i) in zip(rows, given, strict=True)
            ]
            made = [(u, f, *self._picture(u, i)) for (u, f, _), i in zip(given, items, strict=True)]
            for _, group in groupby(made, key=lambda one: one[3].shape):
                unit, frame, size, pixels = zip(*group, strict=True)
                batch = {"unit": unit, "frame": frame, "size": list(size)}
                yield {**batch, "pixel_values": torch.stack(pixels)}

    def _column(self, key: Key | None) -> list[Any] | None:
        if not isinstance(key, str) or not hasattr(self.dataset, "select_columns"):
            return None
        if key not in self.dataset.column_names:
            raise _missing(key, self.dataset.column_names)
        return self.dataset.select_columns([key]).with_format(None)[:][key]

    def _ids(self, row: int, columns: dict[Any, Any]) -> tuple[str, Any, Any]:
        """Unit and frame of a row, and its item where they stand there."""
        item, found = None, []
        for key in (self.unit, self.frame):
            if key is None:
                found.append(f"{row:05d}")
            elif columns[key] is not None:
                found.append(columns[key][row])
            else:
                item = self.dataset[row] if item is None else item
                found.append(key(item) if callable(key) else _of(item, key))
        return str(found[0]), found[1], item

    def _picture(self, unit: str, item: Any) -> tuple[Size, Tensor]:
        """(height, width) of the source, and [3, H, W] as the model wants it."""
        from transformers.image_utils import get_image_size

        if self.processor is None:
            pixels = torch.as_tensor(_of(item, "pixel_values"))
            picture = item.get(self.image, pixels)
        else:
            picture = _of(item, self.image)
        if hasattr(picture, "convert"):
            picture = picture.convert("RGB")
        try:
            size = picture.size[::-1] if hasattr(picture, "convert") else get_image_size(picture)
            if self.processor is not None:
                made = self.processor(images=picture, return_tensors="pt")
                pixels = made["pixel_values"][0]
        except Exception as error:  # of every library there is
            reason = (str(error) or type(error).__name__).splitlines()[0]
            problem = f"its picture cannot be prepared ({reason})"
            raise InputError(f"unit {unit!r}: {problem}; repair or leave it out") from error
        if self.processor is not None and not made.get("pixel_mask", torch.ones(1)).all():
            problem = "the processor pads a single picture, logits would cover the border as well"
            raise InputError(f"unit {unit!r}: {problem}; switch padding off")
        return size, pixels


def _of(item: Any, key: str) -> Any:
    if key not in item:
        raise _missing(key, item)
    return item[key]


def _missing(key: str, known: Any) -> InputError:
    return InputError(f"dataset: no {key!r} in its items, which hold {list(known)[:10]}; name one")
