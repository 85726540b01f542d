"""Greyscale and palette PNGs as the numbers they hold: 8 or 16 bits, whole, never converted."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np

from fusion.errors import InputError

PNG = (".png", ".PNG")
MOST_PIXELS = 89_478_485  # where Pillow begins to suspect a decompression bomb
GREY, PALETTE = 0, 3
COLOURS = {GREY: "grey", 2: "RGB", PALETTE: "palette", 4: "grey with alpha", 6: "RGBA"}


def png_kind(path: Path) -> tuple[int, int]:
    """(bit depth, colour type) by the header. InputError: no PNG."""
    try:
        with path.open("rb") as file:
            head = file.read(33)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its rights") from error
    if head[:8] != b"\x89PNG\r\n\x1a\n" or len(head) < 33:
        raise InputError(f"{path}: no PNG, or cut off; restore it (JPEG would change numbers)")
    width, height, depth, colour = struct.unpack(">IIBB", head[16:26])
    if not 0 < width * height <= MOST_PIXELS:
        raise InputError(f"{path}: claims {height} x {width} pixels; give 1 to {MOST_PIXELS}")
    return depth, colour


def read_picture(path: Path, *, palette: bool) -> np.ndarray:
    """[H, W] uint8 or uint16 of a grey PNG; the indices of a palette's, where that is allowed.

    InputError: colours, fewer bits, damaged.
    """
    from PIL import Image

    depth, colour = png_kind(path)
    whole = colour == GREY and depth in (8, 16)
    if not whole and not (palette and colour == PALETTE):
        wanted = "8- or 16-bit grey" + (" or a palette" if palette else "")
        raise InputError(f"{path}: {depth}-bit {COLOURS.get(colour, 'unknown')}; give {wanted}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(path, formats=["PNG"]) as image:
                image.verify()  # checksums, which loading does not look at
            with Image.open(path, formats=["PNG"]) as image:
                return np.array(image, np.uint16 if depth == 16 else np.uint8)
    except Exception as error:  # Pillow leaves by whatever a chunk led it to
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"{path}: cannot be decoded ({reason}); restore it") from error
