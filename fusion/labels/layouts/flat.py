"""A file an image: <root>/<image>.png, or .npy, each a unit of one frame of the same id."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusion.labels.formats import PLAIN
from fusion.labels.layouts.base import Indexed, directory, holds_masks, masks_in, nothing


class Flat(Indexed):
    """Single images in one folder."""

    name = "flat"
    holds = "<image>.png"
    suffixes = PLAIN

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        super().__init__(directory(root), split, **options)
        found = masks_in(root, self.suffixes)
        if not found:
            raise nothing(root, self.holds, "give the folder of the masks")
        self.index((unit, unit, name) for unit, name in found)

    @classmethod
    def recognises(cls, root: Path, split: str | None) -> bool:
        return holds_masks(root, cls.suffixes)
