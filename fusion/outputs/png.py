"""PNGs: indexed label maps, 16-bit ids, bit masks of channels, colours."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from fusion.errors import InputError
from fusion.files import write_bytes
from fusion.labels import write_labels
from fusion.outputs.content import Content, is_colours
from fusion.outputs.output import Output, Part, option
from fusion.outputs.unit import Unit
from fusion.overlap import SOME, drained, threads

MOST_BITS = 16  # of a greyscale PNG


@dataclass(frozen=True)
class Png(Output):
    """A PNG a frame: uint8 labels as indices of a palette, uint16 and bit masks as greyscale (bit c
    is channel c), colours as RGB. A unit that is a single image, named as its frame, is a file
    without a folder.
    """

    name: ClassVar = "png"
    about: ClassVar = "<out>/<unit>/<frame>.png, <out>/<unit>.png of single images"
    keeps: ClassVar[tuple[str, ...]] = ("labels", "channels", "stored", "colours")
    packed: ClassVar[tuple[str, ...]] = ("*.png", "*/*.png")

    palette: str | tuple[tuple[int, int, int], ...] | None = None  # of indexed PNGs; default vspw
    flat: bool | None = option(
        "--flat", "<out>/<unit>.png, of units of one frame", action="store_true"
    )

    def prepared(self, content: Content, units: Sequence[Unit]) -> Png:
        super().prepared(content, units)
        if content.kind == "channels" and len(content.names) > MOST_BITS:
            got = f"{len(content.names)} channels, a PNG has {MOST_BITS} bits"
            raise InputError(f"png: {got}; choose npy, or give compose= an id for each")
        return self

    def parts(self, unit: Unit) -> list[Part]:
        if self.flat and len(unit.frames) > 1:
            got = f"unit {unit.video!r} has {len(unit.frames)} frames"
            raise InputError(f"png: {got}, a flat folder has one file a unit; leave out flat=")
        if self.flat:
            return [Part((f"{unit.name}.png",), unit.frames)]
        return [Part((unit.file(frame, ".png"),), (frame,)) for frame in unit.frames]

    def write(
        self, out: Path, unit: Unit, parts: Sequence[Part], content: Content, *, overwrite: bool
    ) -> None:
        maps = content.maps(unit, [frame for part in parts for frame in part.frames])

        def save(made: tuple[Part, tuple[str, np.ndarray]]) -> None:
            part, (_, array) = made
            path = out / part.files[0]
            if content.kind == "channels":
                write_picture(path, bits(array), overwrite=overwrite)
            elif is_colours(array, content):
                write_picture(path, array, overwrite=overwrite)
            else:
                palette = "vspw" if self.palette is None else self.palette
                write_labels(path, array, palette=palette, overwrite=overwrite)
            content.sealed(part.files)

        # zlib in threads, while the next frames are fused
        drained(save, zip(parts, maps, strict=True), max(SOME, threads()))


def bits(masks: np.ndarray) -> np.ndarray:
    """Masks [C, H, W] of 0 and 1 as one number a pixel, uint8 or uint16: bit c is channel c."""
    whole = np.zeros(masks.shape[1:], np.uint8 if len(masks) <= 8 else np.uint16)
    for channel, mask in enumerate(masks):
        whole |= mask.astype(whole.dtype) << channel
    return whole


def write_picture(path: Path, array: np.ndarray, *, overwrite: bool) -> None:
    """Greyscale, uint8 or uint16 [H, W], or colours, uint8 [H, W, 3], without a palette."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue(), overwrite=overwrite, durable=False)
