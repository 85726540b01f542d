"""ADE20K as of the scene parsing challenge: annotations/<split>/<image>.png, images/<split>/.

Splits are training and validation. Stored 0 is void, class ids are stored values - 1.
Zhou et al., "Scene Parsing through ADE20K Dataset", CVPR 2017.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusion.labels.known_maps import MAPS
from fusion.labels.layouts.base import Indexed, directory, masks_in, nothing

SPLITS = {"train": "training", "val": "validation"}


class Ade20k(Indexed):
    """ADEChallengeData2016."""

    name = "ade20k"
    holds = "annotations/<split>/<image>.png and images/<split>"
    marked = splits = True

    def __init__(self, root: Path, split: str | None = None, **options: Any) -> None:
        super().__init__(directory(root), split or "val", **options)
        folder = directory(_part(root, "annotations", split))
        found = masks_in(folder, (".png",))
        if not found:
            raise nothing(folder, "<image>.png", "unpack the data set whole")
        below = folder.relative_to(root).as_posix()
        self.index((unit, unit, f"{below}/{name}") for unit, name in found)
        self.class_map = MAPS["ade20k-150"]()

    @classmethod
    def recognises(cls, root: Path, split: str | None) -> bool:
        return (root / "images").is_dir() and _part(root, "annotations", split).is_dir()

    @classmethod
    def images(cls, root: Path, split: str | None) -> Path:
        return directory(_part(root, "images", split))


def _part(root: Path, kind: str, split: str | None) -> Path:
    part = split or "val"
    return root / kind / SPLITS.get(part, part)
