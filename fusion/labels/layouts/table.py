"""A CSV with a row a mask: columns mask (a path below the CSV's folder), image, unit, frame.

The mask is needed. Without unit, a row is a unit of one frame by its image's name without its end,
or the mask's; with a unit but no frame, the frame has that name. Masks outside of the folder, also
by a link, are refused.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

from fusion.errors import InputError, StoreError
from fusion.labels.formats import FORMATS
from fusion.labels.layouts.base import Indexed, directory
from fusion.text import did_you_mean, listed

COLUMNS = ("mask", "image", "unit", "frame")


class Table(Indexed):
    """The root is the CSV."""

    name = "csv"
    holds = "a CSV with columns mask, image, maybe unit and frame"
    marked = True

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        super().__init__(root, split, **options)
        rows = _rows(root)
        self.folder = root.parent
        self._inside = self.folder.resolve()
        for line, row in enumerate(rows, start=2):
            _check(root, line, row["mask"])
        self.index((*_ids(row), row["mask"]) for row in rows)

    @classmethod
    def recognises(cls, root: Path, split: str | None) -> bool:
        return root.suffix == ".csv" and root.is_file()

    @classmethod
    def images(cls, root: Path, split: str | None) -> Path:
        """The folder that all images of the column lie below."""
        rows = [Path(row["image"]) for row in _rows(root) if row["image"]]
        if odd := [path for path in rows if path.is_absolute() or ".." in path.parts]:
            got = f"image {str(odd[0])!r} does not lie below {root.parent}"
            raise InputError(f"labels: {root}: {got}; give paths relative to it")
        if not rows:
            return super().images(root, split)
        return directory(root.parent / os.path.commonpath([path.parent for path in rows]))

    def file(self, unit: str, frame: str) -> Path:
        path = self._files[unit].get(frame)
        if path is None:
            raise self.lacks(unit, frame)
        # links are looked through when a file is used, lest all be touched to list them
        if not (self.folder / path).resolve().is_relative_to(self._inside):
            raise InputError(
                f"labels: {self.root} lists {path!r}, a link out of its folder; copy it"
            )
        return self.folder / path


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            rows, names = list(reader), list(reader.fieldnames or [])
    except FileNotFoundError as error:
        raise StoreError(f"labels: {path} does not exist; give a CSV of masks") from error
    except (OSError, ValueError, csv.Error) as error:
        raise StoreError(f"labels: {path} is no readable CSV ({error}); correct it") from error
    if "mask" not in names:
        near = did_you_mean("mask", names)
        raise InputError(f"labels: {path} has columns {listed(names)}, none named 'mask'{near}")
    if not rows:
        raise StoreError(f"labels: {path} has no row; list a mask a line")
    return [{name: (row.get(name) or "").strip() for name in COLUMNS} for row in rows]


def _ids(row: dict[str, str]) -> tuple[str, str]:
    own = Path(row["image"] or row["mask"]).name.split(".")[0]
    unit = row["unit"] or own
    return unit, row["frame"] or (own if row["unit"] else unit)


def _check(root: Path, line: int, mask: str) -> None:
    """InputError for a mask that no row may name."""
    path = Path(mask)
    where = f"labels: {root}, line {line}: mask {mask!r}"
    if not mask or "\0" in mask or path.is_absolute() or ".." in path.parts:
        raise InputError(f"{where} does not lie below {root.parent}; give a path relative to it")
    if path.suffix not in FORMATS:
        raise InputError(f"{where} is of no known format; give one of {listed(FORMATS)}")
