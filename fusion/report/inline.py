"""Pictures as part of a page: each in the smallest form that keeps what it is for.

Label maps need crisp edges and their very colours: lossless, and never blended when they shrink.
Photographs do not.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fusion.report.facts import FrameRow, Picture

if TYPE_CHECKING:
    from PIL import Image

Colour = tuple[int, int, int]

SIDES = (640, 480, 360, 256, 160)  # pixels of the longer side, the largest that the budget allows
BUDGET = 2_600_000  # bytes of all pictures in a page, before base64
FEW_COLOURS = 256  # of a label map
QUALITY = 78


def data_uri(kind: str, content: bytes) -> str:
    """Bytes as an address."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def encoded(frames: Sequence[FrameRow]) -> list[dict[str, str]]:
    """Addresses of every frame's pictures, by name; as large as all of them may be together.

    Args:
        frames: those of one page.
    """
    made: list[dict[str, tuple[str, bytes]]] = []
    for side in SIDES:
        made = [{name: encode(p, side) for name, p in f.pictures.items()} for f in frames]
        if sum(len(content) for each in made for _, content in each.values()) <= BUDGET:
            break
    return [{name: data_uri(*form) for name, form in each.items()} for each in made]


def encode(picture: Picture, side: int) -> tuple[str, bytes]:
    """The kind and bytes of a picture [H, W, 3] at most `side` pixels long, or wide."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture), "RGB")
    flat = _colours(image)
    if max(image.size) > side:
        how = Image.Resampling.NEAREST if flat else Image.Resampling.LANCZOS
        share = side / max(image.size)
        width, height = (max(1, round(length * share)) for length in image.size)
        image = image.resize((width, height), how)
    forms = _maps(image, flat) if flat else _photographs(image)
    return min(forms, key=lambda form: len(form[1]))


def colours_used(frames: Iterable[FrameRow]) -> set[Colour]:
    """The colours of all label maps of frames."""
    from PIL import Image

    pictures = [picture for frame in frames for picture in frame.pictures.values()]
    images = (Image.fromarray(np.ascontiguousarray(picture), "RGB") for picture in pictures)
    return {colour for image in images for colour in _colours(image)}


def _colours(image: Image.Image) -> list[Colour]:
    """Those of a label map, in order; none of a photograph."""
    found = image.getcolors(FEW_COLOURS)
    return sorted(colour for _, colour in found) if found else []  # type: ignore[misc]


def _photographs(image: Image.Image) -> list[tuple[str, bytes]]:
    jpeg = _saved(image, "JPEG", quality=QUALITY, optimize=True, progressive=True)
    return [("image/jpeg", jpeg), ("image/webp", _saved(image, "WEBP", quality=QUALITY, method=4))]


def _maps(image: Image.Image, colours: Sequence[Colour]) -> list[tuple[str, bytes]]:
    from PIL import Image as images

    flat = np.array(colours, np.uint8)
    indices = np.searchsorted(_codes(flat), _codes(np.asarray(image))).astype(np.uint8)
    palette = images.fromarray(indices, "P")
    palette.putpalette(flat.tobytes())
    png = _saved(palette, "PNG", optimize=True)
    return [("image/png", png), ("image/webp", _saved(image, "WEBP", lossless=True, method=4))]


def _codes(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """A number a colour, in the colours' order."""
    red, green, blue = np.moveaxis(pixels.astype(np.int64), -1, 0)
    return red << 16 | green << 8 | blue


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()
