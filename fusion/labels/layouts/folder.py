"""A folder a unit: <root>/<unit>/<frame>.png, or .npy. Folders are listed anew when asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from fusion.errors import StoreError
from fusion.labels.formats import PLAIN
from fusion.labels.layouts.base import (
    Files,
    directory,
    holds_masks,
    masks_in,
    nothing,
    twice,
)
from fusion.text import natural_order


class Folder(Files):
    """As many units as there are folders with masks."""

    name = "folder"
    holds = "<video>/<frame>.png"

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        super().__init__(directory(root), split, **options)
        self.units = self.labelled()

    @classmethod
    def recognises(cls, root: Path, split: str | None) -> bool:
        if not root.is_dir():
            return False
        with os.scandir(root) as entries:  # which know what is a folder, of many files
            return any(e.is_dir() and e.name[0] != "." and holds_masks(Path(e)) for e in entries)

    @classmethod
    def videos(cls, root: Path, split: str | None, **options: Any) -> tuple[str, ...]:
        with os.scandir(directory(root)) as entries:
            names = [entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."]
        return tuple(sorted(names, key=natural_order))

    def labelled(self) -> tuple[str, ...]:
        """Those of `videos` that have masks; StoreError: none, or a needed one is missing."""
        found = tuple(v for v in self.videos(self.root, self.split) if holds_masks(self.masks(v)))
        if not found:
            raise nothing(self.root, "<video>/<frame>.png", "give the videos' parent")
        return found

    def masks(self, unit: str) -> Path:
        """The folder of a unit's masks."""
        return self.root / unit

    def frames(self, unit: str) -> list[str]:
        folder = self.masks(unit)
        found = sorted(masks_in(folder), key=lambda pair: natural_order(pair[0]))
        if not found:
            raise StoreError(f"labels: {folder} has no PNG; remove the folder or restore its files")
        names = dict(found)
        for frame, name in found:
            if names[frame] != name:
                raise twice(unit, frame, folder / name, folder / names[frame])
        return list(names)

    def file(self, unit: str, frame: str) -> Path:
        folder = self.masks(unit)
        for suffix in PLAIN:
            path = folder / f"{frame}{suffix}"
            # no frame with a slash: it would read files elsewhere
            if path.name == f"{frame}{suffix}" and os.path.isfile(path):
                return path
        raise self.lacks(unit, frame, folder)
