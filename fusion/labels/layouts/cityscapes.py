"""Cityscapes: gtFine/<split>/<city>/<city>_<sequence>_<frame>_gtFine_labelIds.png.

A unit is one annotated image, <city>_<sequence>_<frame>, as the suffix _leftImg8bit of its image
and of most predictions is left out. Stored are the 34 ids, of which 19 are classes; where there are
labelTrainIds alone, these are class ids and 255 is void.
Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusion.errors import StoreError
from fusion.labels.known_maps import MAPS
from fusion.labels.layouts.base import Indexed, directory, names_in
from fusion.labels.layouts.pattern import files_below
from fusion.text import did_you_mean, natural_order

KINDS = ("labelIds", "labelTrainIds")  # the first that there is


class Cityscapes(Indexed):
    """The release as it is unpacked, with leftImg8bit for images, or its gtFine."""

    name = "cityscapes"
    holds = "gtFine/<split>/<city>/<city>_<sequence>_<frame>_gtFine_labelIds.png"
    marked = splits = True

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        super().__init__(directory(root), split or "val", **options)
        base, part = _home(root), str(self.split)
        if not (base / part).is_dir():
            near = did_you_mean(part, names_in(base) if base.is_dir() else [])
            raise StoreError(f"labels: {base} has no split {part!r}{near}")
        below = (base / part).relative_to(root).as_posix()
        paths = list(files_below(root, below))
        for kind in KINDS:
            ending = f"_gtFine_{kind}.png"
            found = [path for path in paths if path.endswith(ending)]
            if found:
                break
        else:
            raise StoreError(f"labels: {base / part} has no *_gtFine_labelIds.png; unpack it whole")
        units = (Path(path).name.removesuffix(ending) for path in found)
        self.index((unit, unit, path) for unit, path in zip(units, found, strict=True))
        self.class_map = MAPS["cityscapes"]() if kind == KINDS[0] else None

    @classmethod
    def recognises(cls, root: Path, split: str | None) -> bool:
        named = root.is_dir() and (root.name == "gtFine" or (root / "gtFine").is_dir())
        return named and (split is None or (_home(root) / split).is_dir())

    @classmethod
    def images(cls, root: Path, split: str | None) -> Path:
        release = root.parent if root.name == "gtFine" else root
        return directory(release / "leftImg8bit" / (split or "val"))

    @classmethod
    def videos(cls, root: Path, split: str | None, **options: Any) -> tuple[str, ...]:
        paths, ending = files_below(cls.images(root, split)), "_leftImg8bit.png"
        names = (Path(path).name for path in paths if path.endswith(ending))
        return tuple(sorted((name.removesuffix(ending) for name in names), key=natural_order))


def _home(root: Path) -> Path:
    """gtFine itself."""
    return root / "gtFine" if (root / "gtFine").is_dir() else root
