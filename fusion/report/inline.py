"""Pictures as part of a page: each in the smallest form that keeps what it is for.

Label maps need crisp edges and their very colours: lossless, and never blended when they shrink.
Photographs do not.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence

import numpy as np

from fusion.report.facts import FrameRow, Picture

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

    flat = colours_in(picture)
    is_map = len(flat) <= FEW_COLOURS
    image = Image.fromarray(np.ascontiguousarray(picture), "RGB")
    if max(image.size) > side:
        how = Image.Resampling.NEAREST if is_map else Image.Resampling.LANCZOS
        share = side / max(image.size)
        size = tuple(max(1, round(length * share)) for length in image.size)
        image = image.resize((size[0], size[1]), how)
    if not is_map:
        forms = _photographs(image)
    else:
        forms = _maps(image, flat)
    return min(forms, key=lambda form: len(form[1]))


def _photographs(image: object) -> list[tuple[str, bytes]]:
    jpeg = _saved(image, "JPEG", quality=QUALITY, optimize=True, progressive=True)
    return [("image/jpeg", jpeg), ("image/webp", _saved(image, "WEBP", quality=QUALITY, method=4))]


def _maps(image: object, flat: Picture) -> list[tuple[str, bytes]]:
    from PIL import Image

    pixels = np.asarray(image)
    codes = _codes(flat)
    indices = np.searchsorted(codes, _codes(pixels.reshape(-1, 3))).astype(np.uint8)
    palette = Image.fromarray(indices.reshape(pixels.shape[:2]), "P")
    palette.putpalette(flat.tobytes())
    png = _saved(palette, "PNG", optimize=True)
    webp = _saved(image, "WEBP", lossless=True, quality=60, method=4)
    return [("image/png", png), ("image/webp", webp)]


def colours_in(picture: Picture) -> Picture:
    """The colours that occur, [N, 3], in the order of their codes."""
    codes = np.unique(_codes(picture.reshape(-1, 3)))
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)


def _codes(pixels: Picture) -> np.ndarray:
    red, green, blue = pixels.astype(np.int64).T
    return red << 16 | green << 8 | blue


def _saved(image: object, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)  # type: ignore[attr-defined]
    return file.getvalue()


def colours_used(frames: Iterable[FrameRow]) -> set[tuple[int, int, int]]:
    """The colours of all label maps of frames."""
    found: set[tuple[int, int, int]] = set()
    for frame in frames:
        for picture in frame.pictures.values():
            flat = colours_in(picture)
            if len(flat) <= FEW_COLOURS:
                found |= {(int(r), int(g), int(b)) for r, g, b in flat}
    return found
