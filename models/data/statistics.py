"""Videos and pixels of each class in a split (figure 2); the pixels' shares are equation 2's pi.

Which classes each frame holds is kept too, for sampling.
"""

from __future__ import annotations

import base64
import functools
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from fusion import plain, sealed
from fusion.errors import InputError, StoreError
from fusion.files import write_json
from fusion.labels import Labels
from fusion.models.data.clips import Clips
from fusion.parallel import map_videos
from fusion.text import listed

FILE, PICTURE = "statistics.json", "statistics.png"
MOST = 1 << 24  # bytes of the file


@dataclass(frozen=True, eq=False)
class Statistics:
    """videos, pixels: int64 [C]. present: bool [F, C], which classes are in each of all frames, in
    order. digest: of the labels that were counted.
    """

    classes: tuple[str, ...]
    videos: NDArray[np.int64]
    pixels: NDArray[np.int64]
    present: NDArray[np.bool_]
    digest: str

    def log_prior(self) -> Tensor:
        """float32 [C]: log of each class's share of labelled pixels; none counts as one."""
        pixels = torch.from_numpy(np.maximum(self.pixels, 1)).double()
        return (pixels / pixels.sum()).log().float()

    def to_json(self) -> dict[str, object]:
        counts = zip(self.classes, self.videos.tolist(), self.pixels.tolist(), strict=True)
        classes = [{"name": n, "videos": videos, "pixels": pixels} for n, videos, pixels in counts]
        bits = zlib.compress(np.packbits(self.present, axis=1).tobytes())
        present = {"frames": len(self.present), "bits": base64.b64encode(bits).decode()}
        return {"digest": self.digest, "classes": classes, "present": present}


def class_statistics(
    clips: Clips, cache: Path | None = None, *, damaged: str = "error"
) -> Statistics:
    """Counts every mask of the clips, or reads `cache`; InputError without masks.

    cache: a JSON file, believed by the digest of the label files' bytes alone, so neither clocks
    nor renamed folders can make it lie.

    damaged: masks that cannot be decoded: an error, or skip counts nothing of them.
    """
    digest = clips.masks.digest()
    if cache is not None and (known := _cached(cache, clips.classes, digest)):
        return known
    skip = damaged == "skip"
    task = functools.partial(_count, clips.masks, classes=len(clips.classes), skip=skip)
    counts = map_videos(task, clips.videos, progress="counting classes")
    videos = np.sum([held.any(axis=0) for _, held in counts.values()], axis=0)
    pixels = np.sum([number for number, _ in counts.values()], axis=0)
    present = np.concatenate([held for _, held in counts.values()])
    found = Statistics(clips.classes, videos, pixels, present, digest)
    if cache is not None:
        write_json(cache, sealed.sealed(found.to_json()))
    return found


def _count(
    labels: Labels, video: str, *, classes: int, skip: bool
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Pixels of each class in a video, [C], and which classes its frames hold, [T, C]."""
    frames = labels.frames(video)
    counts = np.zeros((len(frames), classes), np.int64)
    for frame, row in zip(frames, counts, strict=True):
        try:
            mask = labels.read(video, frame, classes=classes)
        except StoreError:
            if not skip:
                raise
            continue
        row += np.bincount(mask[mask < classes], minlength=classes)
    return counts.sum(axis=0), counts > 0


def read(path: Path, classes: tuple[str, ...]) -> Statistics:
    """The counts in a file that training or ``python -m fusion.models.statistics`` wrote.

    StoreError: missing, damaged or changed since. InputError: of other classes.
    """
    advice = "give one that python -m fusion.models.statistics wrote"
    try:
        found = _parsed(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"statistics: {path} cannot be read ({reason}); {advice}") from error
    if found.classes != classes:
        got = f"{path} counts {listed(found.classes)}, not {listed(classes)}"
        raise InputError(f"statistics: {got}; count the labels that the network learned from")
    return found


def _cached(path: Path, classes: tuple[str, ...], digest: str) -> Statistics | None:
    """The counts in a file, if they are these labels'; one that cannot be read, was changed, or has
    no checksum yet is replaced.
    """
    try:
        found = _parsed(path)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, zlib.error):
        return None
    return found if (found.digest, found.classes) == (digest, classes) else None


def _parsed(path: Path) -> Statistics:
    document = sealed.parsed(plain.content(path, MOST))
    if not sealed.is_sealed(document):
        raise ValueError("it has no checksum")
    document = sealed.unsealed(document)
    known = document["classes"]
    names = tuple(entry["name"] for entry in known)
    videos, pixels = np.array(
        [[entry[key] for entry in known] for key in ("videos", "pixels")], np.int64
    )
    present = _present(document["present"], names)
    return Statistics(names, videos, pixels, present, document["digest"])


def _present(document: dict[str, Any], classes: tuple[str, ...]) -> NDArray[np.bool_]:
    """[F, C] of what `to_json` wrote."""
    width = -(-len(classes) // 8)
    size = document["frames"] * width
    content = zlib.decompressobj().decompress(base64.b64decode(document["bits"]), size + 1)
    rows = np.frombuffer(content, np.uint8).reshape(document["frames"], width)
    return np.unpackbits(rows, axis=1, count=len(classes)).astype(bool)


def picture(statistics: Statistics) -> Image.Image:
    """Figure 2: bar charts on log axes, classes by falling count; above videos, below pixels."""
    classes, height, margin = len(statistics.classes), 200, 40
    bar = max(2, 992 // classes)
    size = (2 * margin + bar * classes, 2 * (height + margin) + margin)
    canvas = Image.new("RGB", size, "white")
    draw, charts = ImageDraw.Draw(canvas), ("videos", "pixels")
    for floor, kind in zip((margin + height, 2 * (margin + height)), charts, strict=True):
        ordered = np.sort(getattr(statistics, kind))[::-1]
        top = np.log10(max(1, ordered[0]) + 1)
        title = f"{kind} per class, most common first: {ordered[0]} to {ordered[-1]}"
        draw.text((margin, floor - height - 16), title, fill="black")
        for place, count in enumerate(ordered):
            left, level = margin + place * bar, floor - height * np.log10(count + 1) / top
            draw.rectangle((left, level, left + bar - 1, floor), fill=(70, 110, 170))
        for power in range(int(top) + 1):
            level = floor - height * power / top
            draw.line((margin - 4, level, margin, level), fill="black")
            draw.text((4, level - 6), f"1e{power}", fill="black")
    return canvas
