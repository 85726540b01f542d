"""A folder a unit: <root>/<unit>/<frame>.png, or .npy. Folders are listed anew when asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusion.errors import StoreError
from fusion.labels.formats import PLAIN
from fusion.labels.layouts.base import (
    Files,
    directory,
    holds_masks,
    masks_in,
    names_in,
    nothing,
    twice,
)


class Folder(Files):
    """As many units as there are folders with masks."""

    name = "folder"
    holds = "<video>/<frame>.png"

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        super().__init__(directory(root), split, **options)
        self.units = self.labelled()

    @classmethod
    def recognises(cls, root: Path, split: str | None) -> bool:
        return root.is_dir() and any(holds_masks(root / name) for name in names_in(root))

    @classmethod
    def videos(cls, root: Path, split: str | None) -> tuple[str, ...]:
        return tuple(name for name in names_in(directory(root)) if (root / name).is_dir())

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
        found = masks_in(folder)
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
            if path.name == f"{frame}{suffix}" and path.is_file():
                return path
        raise self.lacks(unit, frame, folder)
