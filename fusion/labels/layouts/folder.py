"""One folder of PNGs a video: <root>/<video>/<frame>.png."""

from __future__ import annotations

from pathlib import Path

from fusion.errors import StoreError
from fusion.labels.layouts.base import Layout, directory, names_in, stems


class Folder(Layout):
    """Ids as stored, of any number of classes, in one split; a folder without PNGs is no video."""

    def videos(self, root: Path, split: str | None) -> tuple[str, ...]:
        return tuple(name for name in names_in(directory(root)) if (root / name).is_dir())

    def labelled(self, root: Path, split: str | None) -> tuple[str, ...]:
        found = tuple(v for v in self.videos(root, split) if stems(self.masks(root, v), ".png"))
        if not found:
            advice = "give the folder that holds one folder of PNGs per video"
            raise StoreError(f"labels: {root} has no <video>/<frame>.png; {advice}")
        return found

    def masks(self, root: Path, video: str) -> Path:
        return root / video

    def images(self, root: Path, video: str) -> Path:
        return root / video
