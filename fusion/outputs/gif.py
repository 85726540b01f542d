"""GIFs, written frame by frame: Pillow's own way of animating holds every frame until the last.

Pillow makes a GIF of each frame, whose parts are put behind one another.
Format: CompuServe, "Graphics Interchange Format, Version 89a", sections 17 to 27.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fusion.labels.lookup import packed
from fusion.outputs.drawing import Pixels
from fusion.outputs.strip import Strip

HEADER = 13  # bytes before the global colours
MOST = 256  # colours of a frame
FOREVER = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
EXTENSION, IMAGE, TRAILER = 0x21, 0x2C, b"\x3b"


@dataclass(frozen=True)
class Gif(Strip):
    """<out>/<unit>.gif, which any browser plays for ever; frames of more than 256 colours have
    the 256 that are nearest to them.
    """

    name: ClassVar = "gif"
    about: ClassVar = "<out>/<unit>.gif, moving: colours, or picture and overlay (--overlay)"
    packed: ClassVar = ("*.gif",)
    ending: ClassVar = ".gif"
    fastest: ClassVar = 50.0  # of browsers

    def encode(self, path: Path, shown: Iterator[Pixels]) -> None:
        hundredths = max(2, round(100 / self.rate))
        with path.open("xb") as file:
            for number, pixels in enumerate(shown):
                height, width = pixels.shape[:2]
                if number == 0:
                    # colours are each frame's own
                    file.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0x70, 0, 0))
                    file.write(FOREVER)
                file.write(b"\x21\xf9\x04\x04" + struct.pack("<HBB", hundredths, 0, 0))
                file.write(_image(_indexed(pixels)))
            file.write(TRAILER)


def _indexed(pixels: Pixels) -> Any:
    """A Pillow image of at most 256 colours: exactly the frame's, where it has no more."""
    from PIL import Image

    image = Image.fromarray(pixels)
    found = image.getcolors(MOST)
    if found is None:  # this method keeps small things' colours, and dithering keeps shades
        method = Image.Quantize.FASTOCTREE
        return image.quantize(palette=image.quantize(MOST, method=method))
    colours = np.array(sorted(colour for _, colour in found), np.uint8)
    places = np.searchsorted(packed(colours), packed(pixels))
    indexed = Image.fromarray(places.astype(np.uint8), "P")
    indexed.putpalette(colours.tobytes())
    return indexed


def _image(indexed: Any) -> bytes:
    """A frame's part of a file: its place, its colours as its own, its pixels."""
    buffer = io.BytesIO()
    indexed.save(buffer, format="GIF", optimize=False)
    whole = buffer.getvalue()
    flags = whole[10]
    at = HEADER + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    colours = whole[HEADER:at]
    while whole[at] == EXTENSION:
        at = _after_blocks(whole, at + 2)
    known = whole[at] == IMAGE and not whole[at + 9] & 0x80
    assert known, "Pillow writes GIFs of another form"
    place = whole[at : at + 9] + bytes([whole[at + 9] & 0x40 | 0x80 | flags & 7])
    return place + colours + whole[at + 10 : _after_blocks(whole, at + 11)]


def _after_blocks(whole: bytes, at: int) -> int:
    """Where a chain of blocks ends."""
    while whole[at]:
        at += whole[at] + 1
    return at + 1
