"""A VSPW release, 480p or original: <root>/data/<video>/{mask,origin}, <root>/<split>.txt.

Stored 0 ("others") and 255 are void, and class ids are stored values - 1.
Miao et al., "VSPW: A Large-scale Dataset for Video Scene Parsing in the Wild", CVPR 2021.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusion.errors import StoreError
from fusion.labels.layouts.base import Layout, directory, stems
from fusion.text import did_you_mean

VSPW_CLASSES = 124


class Vspw(Layout):
    """Videos in the order of the split's list; every one of them must have masks to be labels."""

    classes = VSPW_CLASSES

    def videos(self, root: Path, split: str | None) -> tuple[str, ...]:
        lists, split = stems(directory(root), ".txt"), split or "val"
        if split not in lists:
            raise StoreError(f"labels: {root} has no list {split}.txt{did_you_mean(split, lists)}")
        path = root / f"{split}.txt"
        lines = map(str.strip, path.read_text(encoding="utf-8").splitlines())
        found = tuple(line for line in lines if line and not line.startswith("."))
        if len(set(found)) != len(found):
            raise StoreError(f"labels: {path} lists a video twice; each would count twice")
        away = [v for v in found if Path(v).name != v]  # a name with a slash reads files elsewhere
        if away or not found:
            got = f"lists {len(found)} videos" + (f", {away[0]!r} is no name" if away else "")
            raise StoreError(f"labels: {path} {got}; one folder name a line")
        return found

    def labelled(self, root: Path, split: str | None) -> tuple[str, ...]:
        found, path = self.videos(root, split), root / f"{split or 'val'}.txt"
        lost = [v for v in found if not self.masks(root, v).is_dir()]
        if lost:
            got = f"{len(found)} videos, {len(lost)} without data/<video>/mask, first {lost[0]!r}"
            raise StoreError(f"labels: {path} lists {got}; is the release unpacked whole?")
        return found

    def masks(self, root: Path, video: str) -> Path:
        return root / "data" / video / "mask"

    def images(self, root: Path, video: str) -> Path:
        return root / "data" / video / "origin"

    def ids(self, stored: NDArray[np.integer], void: int) -> NDArray[np.integer]:
        return np.where(stored == void, stored, stored - 1)  # 0 wraps around to void

    def allowed(self, classes: int, void: int) -> str:
        return f"1..{classes} (0 and {void} are void)"
