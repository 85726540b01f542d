"""Frames to look at: where fusing helped most, where it hurt most, and one in the middle."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fusion import files
from fusion.demo.scenes import CLASSES, COLOURS, VOID
from fusion.ensemble import Ensemble
from fusion.labels import Labels

SCALE, TITLE = 7, 24  # pixels of a picture for one of a label map; height of the line above
WRONG = (220, 30, 30)
LabelMap = NDArray[np.integer]


def write_pictures(single: Ensemble, fused: Ensemble, truth: Labels, out: Path) -> list[str]:
    """helped.png, typical.png and hurt.png: the truth | best single | fused, errors below in red.

    Args:
        single: the best model alone.
        fused: what is recommended.
        truth: whose frames are looked through.
        out: a folder.

    Returns:
        A line for each picture.
    """
    frames = sorted(_frames(single, fused, truth), key=lambda frame: frame[0])
    said = []
    for name, k in (("helped", -1), ("typical", len(frames) // 2), ("hurt", 0)):
        gain, video, frame = frames[k]
        target = truth.read(video, frame, classes=len(CLASSES))
        maps = [_labels(each, video, frame) for each in (single, fused)]
        drawn, data = drawing(target, *maps), io.BytesIO()
        drawn.save(data, "PNG")
        files.write_bytes(out / f"{name}.png", data.getvalue())
        points = round(100 * gain, 1) + 0.0  # no -0.0
        said.append(f"{name}.png: {video} frame {frame}, {points:+.1f} points of pixel accuracy")
    return said


def _frames(single: Ensemble, fused: Ensemble, truth: Labels) -> Iterator[tuple[float, str, str]]:
    """(what fusing adds to a frame's pixel accuracy, video, frame)."""
    for video in truth.videos:
        pairs = zip(single.label_maps(video), fused.label_maps(video), strict=True)
        for (frame, one), (_, both) in pairs:
            target = truth.read(video, frame, classes=len(CLASSES))
            known = target != VOID
            right = [(labels == target)[known].mean() for labels in (one, both)]
            yield float(right[1] - right[0]), video, frame


def _labels(ensemble: Ensemble, video: str, frame: str) -> LabelMap:
    ((_, labels),) = ensemble.label_maps(video, [frame])
    return labels


def drawing(target: LabelMap, one: LabelMap, both: LabelMap) -> Image.Image:
    """Truth, best single and fused side by side, titled; below, what is wrong in red."""
    columns = {"truth": target, "best single model": one, "fused": both}
    height, width = (SCALE * side for side in target.shape)
    sheet = Image.new("RGB", (3 * width, TITLE + 2 * height), "white")
    write = ImageDraw.Draw(sheet)
    for k, (name, labels) in enumerate(columns.items()):
        wrong = (labels != target) & (target != VOID)
        colours = COLOURS[np.minimum(labels, len(CLASSES))]
        below = np.where(wrong[..., None], np.array(WRONG, np.uint8), colours // 3 + 160)
        accuracy = 1 - wrong.sum() / (target != VOID).sum()
        said = name if labels is target else f"{name}: {100 * accuracy:.1f} % of pixels right"
        write.text((k * width + 6, 4), said, fill="black", font_size=14)
        for row, pixels in enumerate((colours, below)):
            large = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(large, (k * width, TITLE + row * height))
    return sheet
