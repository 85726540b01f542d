"""Label PNGs, read strictly and written atomically.

H W pixels. Accepted: 8-bit greyscale and palette images (uint8 [H, W]; a palette is ignored, its indices are the labels), and 16-bit
greyscale where more than 255 classes were announced (uint16 [H, W]). The size is checked before anything is allocated, and every
chunk's checksum before anything is decoded, so that a damaged file is an error and never another label map.
Format: W3C, "Portable Network Graphics Specification (Third Edition)", sections 5 and 11.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.errors import InputError, StoreError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_PIXELS = 89_478_485  # where Pillow begins to suspect a decompression bomb
_GREY, _PALETTE = 0, 3
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # Adam7: x, y, dx, dy
_COLOURS = {_GREY: "greyscale", 2: "RGB", _PALETTE: "palette", 4: "greyscale with alpha", 6: "RGBA"}


def read_size(path: Path) -> tuple[int, int]:
    """(H, W) from the first 33 bytes of a file."""
    with _reading(path), path.open("rb") as file:
        head = file.read(33)
    return _header(path, head)[0]


def read_png(path: Path, *, wide: bool = False) -> NDArray[np.integer]:
    """The label map [H, W] of a file: uint8, or uint16 from a 16-bit file if `wide`. StoreError names the file and what is wrong."""
    from PIL import Image

    with _reading(path):
        content = path.read_bytes()
    size, depth, colour, interlaced = _header(path, content)
    found = f"{depth}-bit {_COLOURS.get(colour, 'unknown')}"
    if wide and (depth, colour) != (16, _GREY):
        raise StoreError(
            f"labels: {path} is {found}; beyond 255 classes, labels are 16-bit greyscale PNGs"
        )
    if not wide and (
        depth > 8 or colour not in (_GREY, _PALETTE) or (colour == _GREY and depth < 8)
    ):
        advice = (
            "announce the number of classes"
            if (depth, colour) == (16, _GREY)
            else "save class ids, not colours"
        )
        raise StoreError(
            f"labels: {path} is {found}; give 8-bit greyscale or palette PNGs ({advice})"
        )
    _check_pixels(path, _image_data(path, content), size, depth, interlaced)
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            labels: NDArray[np.integer] = np.array(image, dtype=np.uint16 if wide else np.uint8)
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise StoreError(f"labels: {path} cannot be decoded ({error}); restore the file") from error
    if labels.shape != size:
        raise StoreError(
            f"labels: {path} decodes to {list(labels.shape)}, its header says {list(size)}; restore the file"
        )
    return labels


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"labels: {path} cannot be read ({error.strerror}); check the path and its permissions"
        ) from error


def _header(path: Path, content: bytes) -> tuple[tuple[int, int], int, int, bool]:
    """((H, W), bit depth, colour type, interlaced) of a PNG's first chunk."""
    if content[:8] != SIGNATURE:
        raise StoreError(
            f"labels: {path} is no PNG; convert it, class ids unchanged (JPEG would change them)"
        )
    if (
        len(content) < 33
        or content[8:16] != b"\x00\x00\x00\rIHDR"
        or struct.unpack(">I", content[29:33])[0] != zlib.crc32(content[12:29])
    ):
        raise StoreError(f"labels: {path} has a truncated or damaged header; restore the file")
    width, height, depth, colour = struct.unpack(">IIBB", content[16:26])
    if not 0 < width * height <= MOST_PIXELS:
        raise StoreError(
            f"labels: {path} claims {height} x {width} pixels; label maps have 1 to {MOST_PIXELS}"
        )
    return (height, width), depth, colour, content[28] != 0


def _image_data(path: Path, content: bytes) -> bytes:
    """The compressed pixels, once every chunk up to IEND was found whole; decoders skip the checksums of image data."""
    at, kind, data = 8, b"", []
    while kind != b"IEND":
        length, kind = (
            struct.unpack(">I4s", content[at : at + 8])
            if at + 12 <= len(content)
            else (len(content), b"")
        )
        end = at + 12 + length
        if end > len(content):
            raise StoreError(f"labels: {path} is truncated; restore the file")
        if struct.unpack(">I", content[end - 4 : end])[0] != zlib.crc32(content[at + 4 : end - 4]):
            raise StoreError(
                f"labels: {path} is damaged: its {kind.decode('ascii', 'replace')} chunk has a wrong checksum; restore it"
            )
        if kind == b"IDAT":
            data.append(content[at + 8 : end - 4])
        at = end
    return b"".join(data)


def _check_pixels(
    path: Path, data: bytes, size: tuple[int, int], depth: int, interlaced: bool
) -> None:
    """The stream holds every row, each with its filter byte; decoders may fill what is missing with zeros, a valid class."""
    (height, width), expected = size, 0
    for x, y, dx, dy in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        expected += rows * (1 + -(-columns * depth // 8)) if columns > 0 else 0
    try:
        found = len(zlib.decompressobj().decompress(data, expected + 1))
    except zlib.error as error:
        raise StoreError(f"labels: {path} cannot be decoded ({error}); restore the file") from error
    if found != expected:
        raise StoreError(
            f"labels: {path} cannot be decoded (it holds {found} bytes of rows, not {expected}); restore the file"
        )


def colour_map() -> NDArray[np.uint8]:
    """The PASCAL VOC colours [256, 3]: bit k of channel j is bit 3k + j of the index, highest bits first. VSPW is shown in them."""
    index = np.arange(256)[:, None]
    channels = np.arange(3)
    return np.array(
        sum(((index >> (3 * k + channels)) & 1) << (7 - k) for k in range(8)), dtype=np.uint8
    )


def write_labels(
    path: str | os.PathLike[str],
    labels: ArrayLike,
    *,
    palette: str | ArrayLike = "vspw",
    overwrite: bool = False,
) -> None:
    """Write labels [H, W] as a PNG that reads back equal: uint8 as indices into the palette, uint16 as 16-bit greyscale.

    palette: "vspw" for `colour_map`, or uint8 colours [n, 3], n <= 256; the rest keeps `colour_map`'s. Folders on the way are made.
    The file appears whole or not at all. StoreError: something is there already, unless `overwrite` (a link is then replaced, not
    followed; a directory never is), or the disk refuses. InputError: other shapes or types.
    """
    target = Path(path)
    content = _encode(labels, palette)
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        if os.path.lexists(target) and (
            not overwrite or (target.is_dir() and not target.is_symlink())
        ):
            raise FileExistsError("a directory" if target.is_dir() else "it exists")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                file.write(content)
            _publish(temporary, target, overwrite)
        finally:
            temporary.unlink(missing_ok=True)
    except FileExistsError as error:
        raise StoreError(
            f"write_labels: {target} is taken ({error}); choose another path or overwrite=True for files"
        ) from error
    except OSError as error:
        raise StoreError(
            f"write_labels: {target} cannot be written ({error.strerror}), {len(content)} bytes needed"
        ) from error


def _publish(temporary: Path, target: Path, overwrite: bool) -> None:
    if not overwrite:
        try:
            os.link(temporary, target)  # unlike a rename, fails if another writer was faster
            return
        except OSError as error:
            if error.errno not in (
                errno.EPERM,
                errno.ENOTSUP,
                errno.ENOSYS,
            ):  # file systems without hard links
                raise
    temporary.replace(target)


def _encode(labels: ArrayLike, palette: str | ArrayLike) -> bytes:
    from PIL import Image

    array = np.asarray(labels)
    if (
        array.ndim != 2
        or array.dtype.name not in ("uint8", "uint16")
        or not 0 < array.size <= MOST_PIXELS
    ):
        raise InputError(
            f"write_labels: got {array.dtype} {list(array.shape)}; give uint8 or uint16 [H, W] of 1 to {MOST_PIXELS} pixels"
        )
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    image = Image.fromarray(array)
    if array.dtype == np.uint8:
        # all 256 colours: with fewer, Pillow packs indices into fewer bits and void 255 is lost
        image.putpalette(_colours(palette).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _colours(palette: str | ArrayLike) -> NDArray[np.uint8]:
    colours = colour_map()
    if isinstance(palette, str):
        if palette != "vspw":
            raise InputError(f"palette: got {palette!r}; give 'vspw' or uint8 colours [n, 3]")
        return colours
    given = np.asarray(palette)
    shaped = (
        given.ndim == 2 and given.shape[1] == 3 and len(given) <= 256 and given.dtype.kind in "iu"
    )
    if not shaped or given.min(initial=0) < 0 or given.max(initial=0) > 255:
        raise InputError(
            f"palette: got {given.dtype} {list(given.shape)}; give whole numbers 0..255, [n, 3], n <= 256"
        )
    colours[: len(given)] = given
    return colours
