"""Class statistics of a labelled split (figure 2 of the paper): in how many videos each class occurs, and over how many pixels.

The pixel shares are pi, the prior of logit adjustment (equation 2).

    python -m fusion.models.statistics --vspw VSPW_480p --split train --out statistics/     -> statistics.json, statistics.png
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from fusion import cli
from fusion.errors import InputError, StoreError
from fusion.labels import Labels
from fusion.models.data.clips import Clips
from fusion.models.data.source import add_source, open_source
from fusion.progress import progress
from fusion.text import table

FILE, PICTURE = "statistics.json", "statistics.png"


@dataclass(frozen=True, eq=False)
class Statistics:
    """videos, pixels: int64 [C]. digest: of the labels that were counted."""

    classes: tuple[str, ...]
    videos: NDArray[np.int64]
    pixels: NDArray[np.int64]
    digest: str

    def log_prior(self) -> Tensor:
        """float32 [C]: log of each class's share of the labelled pixels; a class without any counts as one pixel."""
        pixels = torch.from_numpy(np.maximum(self.pixels, 1)).double()
        return (pixels / pixels.sum()).log().float()

    def to_json(self) -> dict[str, object]:
        rows = zip(self.classes, self.videos.tolist(), self.pixels.tolist(), strict=True)
        return {
            "digest": self.digest,
            "classes": [
                {"name": name, "videos": videos, "pixels": pixels} for name, videos, pixels in rows
            ],
        }


def class_statistics(clips: Clips, cache: Path | None = None) -> Statistics:
    """Counts every mask of the clips, or takes the counts from `cache` (a JSON file) where they are of the same labels.

    The cache is believed by the digest of the label files' bytes alone, so neither clocks nor renamed folders can make it lie.
    """
    labels = clips.labels
    if labels is None:
        raise InputError(
            f"statistics: {clips.root} was opened without masks; they are what is counted"
        )
    digest = labels.digest()
    if cache is not None and (known := _cached(cache, clips.classes, digest)):
        return known
    videos = np.zeros(len(clips.classes), np.int64)
    pixels = np.zeros(len(clips.classes), np.int64)
    for video in progress(clips.videos, "counting classes"):
        counts = _count(labels, video, len(clips.classes))
        videos += counts > 0
        pixels += counts
    found = Statistics(clips.classes, videos, pixels, digest)
    if cache is not None:
        _write(cache, json.dumps(found.to_json(), indent=1).encode())
    return found


def _count(labels: Labels, video: str, classes: int) -> NDArray[np.int64]:
    """Pixels of each class in one video, [C]."""
    total = np.zeros(classes, np.int64)
    for frame in labels.frames(video):
        values = labels.read(video, frame, classes=classes)
        total += np.bincount(values[values < classes].astype(np.int64), minlength=classes)
    return total


def _cached(path: Path, classes: tuple[str, ...], digest: str) -> Statistics | None:
    """The counts in a cache file, if they are these labels'; a file that cannot be read is counted anew and replaced."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = document["classes"]
        if document["digest"] != digest or tuple(row["name"] for row in rows) != classes:
            return None
        videos, pixels = (
            np.array([row[key] for row in rows], np.int64) for key in ("videos", "pixels")
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Statistics(classes, videos, pixels, digest)


def _write(path: Path, content: bytes) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_bytes(content)
        scratch.replace(path)
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); check the folder's rights and the disk"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()


def picture(statistics: Statistics) -> Image.Image:
    """Figure 2: two bar charts on log axes, classes by falling count; above videos, below pixels."""
    bar, height, margin = max(2, 992 // len(statistics.classes)), 200, 40
    canvas = Image.new(
        "RGB", (2 * margin + bar * len(statistics.classes), 2 * (height + margin) + margin), "white"
    )
    draw = ImageDraw.Draw(canvas)
    for row, (title, counts) in enumerate(
        (("videos", statistics.videos), ("pixels", statistics.pixels))
    ):
        floor = margin + height + row * (height + margin)
        ordered, top = np.sort(counts)[::-1], np.log10(max(1, counts.max()) + 1)
        draw.text(
            (margin, floor - height - 16),
            f"{title} per class, most common first: {ordered[0]} to {ordered[-1]}",
            fill="black",
        )
        for place, count in enumerate(ordered):
            left = margin + place * bar
            draw.rectangle(
                (left, floor - height * np.log10(count + 1) / top, left + bar - 1, floor),
                fill=(70, 110, 170),
            )
        for power in range(int(top) + 1):
            level = floor - height * power / top
            draw.line((margin - 4, level, margin, level), fill="black")
            draw.text((4, level - 6), f"1e{power}", fill="black")
    return canvas


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser("fusion.models.statistics", "Count videos and pixels per class (figure 2).")
    add_source(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help=f"where {FILE} and {PICTURE} go"
    )
    options: argparse.Namespace = parser.parse_args(arguments)
    found = class_statistics(open_source(options, labelled=True), options.out / FILE)
    picture(found).save(options.out / PICTURE)
    order = np.argsort(-found.pixels, kind="stable")
    rows = [(found.classes[c], str(found.videos[c]), str(found.pixels[c])) for c in order]
    print(table(rows, ("class", "videos", "pixels")))
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
