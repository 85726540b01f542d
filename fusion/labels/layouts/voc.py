"""PASCAL VOC: SegmentationClass/<image>.png, listed in ImageSets/Segmentation/<split>.txt.

Palette images of the 21 classes, void 255; images are JPEGImages/<image>.jpg.
Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2015.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusion.errors import StoreError
from fusion.labels.known_maps import MAPS
from fusion.labels.layouts.base import Indexed, directory, ids_in, stems
from fusion.text import did_you_mean

LISTS = Path("ImageSets", "Segmentation")


class Voc(Indexed):
    """A year's folder, such as VOCdevkit/VOC2012."""

    name = "voc"
    holds = "SegmentationClass/<image>.png and ImageSets/Segmentation/<split>.txt"
    marked = splits = True

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        super().__init__(directory(root), split or "val", **options)
        self.class_map = MAPS["voc"]()
        names = self.videos(root, self.split)
        there = {*stems(directory(root / "SegmentationClass"), ".png")}
        lost = [name for name in names if name not in there]
        if lost:
            got = f"{len(names)} images, {len(lost)} without SegmentationClass/<image>.png"
            lists = root / LISTS / f"{self.split}.txt"
            raise StoreError(f"labels: {lists} lists {got}, first {lost[0]!r}; unpack it whole")
        self.index((name, name, f"SegmentationClass/{name}.png") for name in names)

    @classmethod
    def recognises(cls, root: Path, split: str | None) -> bool:
        lists = root / LISTS / f"{split or 'val'}.txt"
        return (root / "SegmentationClass").is_dir() and lists.is_file()

    @classmethod
    def images(cls, root: Path, split: str | None) -> Path:
        return directory(root / "JPEGImages")

    @classmethod
    def videos(cls, root: Path, split: str | None, **options: Any) -> tuple[str, ...]:
        lists, split = directory(root / LISTS), split or "val"
        if split not in (known := stems(lists, ".txt")):
            raise StoreError(f"labels: {lists} has no {split}.txt{did_you_mean(split, known)}")
        return ids_in(lists / f"{split}.txt")
