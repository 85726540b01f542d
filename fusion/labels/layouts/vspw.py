"""A VSPW release, 480p or original: <root>/data/<video>/{mask,origin}, <root>/<split>.txt.

Stored 0 ("others") and 255 are void, and class ids are stored values - 1. Classes are called as
<root>/label_num_dic_final.json says, class_000 and so on without it.
Miao et al., "VSPW: A Large-scale Dataset for Video Scene Parsing in the Wild", CVPR 2021.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusion.errors import InputError, StoreError
from fusion.labels.classes import read_classes
from fusion.labels.known_maps import VSPW_CLASSES, vspw
from fusion.labels.layouts.base import directory, ids_in, stems
from fusion.labels.layouts.folder import Folder
from fusion.text import did_you_mean

NAMES = "label_num_dic_final.json"


class Vspw(Folder):
    """Videos in the order of the split's list; every one of them must have masks to be labels."""

    name = "vspw"
    holds = "data/<video>/mask/<frame>.png and <split>.txt"
    marked = splits = True

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        super().__init__(root, split or "val", **options)
        self.class_map = vspw(self.class_names(root))

    @classmethod
    def class_names(cls, root: Path) -> tuple[str, ...] | None:
        path = root / NAMES
        if not path.is_file():
            return super().class_names(root)
        names = read_classes(path)
        if len(names) != VSPW_CLASSES:
            got = f"{path} has {len(names)} classes, VSPW has {VSPW_CLASSES}"
            raise InputError(f"classes: {got}; restore or remove the file")
        return tuple(names)

    @classmethod
    def recognises(cls, root: Path, split: str | None) -> bool:
        return (root / "data").is_dir() and (root / f"{split or 'val'}.txt").is_file()

    @classmethod
    def videos(cls, root: Path, split: str | None, **options: Any) -> tuple[str, ...]:
        lists, split = stems(directory(root), ".txt"), split or "val"
        if split not in lists:
            raise StoreError(f"labels: {root} has no list {split}.txt{did_you_mean(split, lists)}")
        return ids_in(root / f"{split}.txt")

    def labelled(self) -> tuple[str, ...]:
        found, path = self.videos(self.root, self.split), self.root / f"{self.split}.txt"
        lost = [v for v in found if not self.masks(v).is_dir()]
        if lost:
            got = f"{len(found)} videos, {len(lost)} without data/<video>/mask, first {lost[0]!r}"
            raise StoreError(f"labels: {path} lists {got}; is the release unpacked whole?")
        return found

    def masks(self, unit: str) -> Path:
        return self.root / "data" / unit / "mask"

    @classmethod
    def images(cls, root: Path, split: str | None) -> Path:
        return directory(root)  # and below it data/<video>/origin/<frame>.jpg
