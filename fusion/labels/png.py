"""Label PNGs, read strictly and written atomically.

H W pixels. Accepted: 8-bit greyscale and palette images (uint8 [H, W]; indices are the labels), and
16-bit greyscale where more than 255 classes were announced (uint16 [H, W]); where a class map says
what values mean, any of these, 1-bit greyscale and 8-bit RGB. The size is checked before anything
is allocated, and every chunk's checksum before anything is decoded, so that a damaged file is an
error and never another label map.
Format: W3C, "Portable Network Graphics Specification (Third Edition)", sections 5 and 11.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fusion.arguments import checked
from fusion.errors import InputError, StoreError
from fusion.files import refusals, replacing
from fusion.labels import isal_png

PathLike = str | os.PathLike[str]
Size = tuple[int, int]  # (H, W)
SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_COLOURS = 1 << 16
MOST_BYTES = 1 << 30  # of a file; the largest map as uncompressed 16-bit colours takes half of it
MOST_PIXELS = 89_478_485  # where Pillow begins to suspect a decompression bomb
_GREY, _RGB, _PALETTE = 0, 2, 3
_SAMPLES = {_GREY: 1, _RGB: 3, _PALETTE: 1}  # a pixel
_PASSES = [  # of Adam7: x, y, dx, dy
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
]
_COLOURS = {
    _GREY: "greyscale",
    _RGB: "RGB",
    _PALETTE: "palette",
    4: "greyscale with alpha",
    6: "RGBA",
}


def read_size(path: Path) -> Size:
    """(H, W) from the first 33 bytes of a file."""
    with reading(path), path.open("rb") as file:
        return png_size(file.read(33))


def png_size(content: bytes) -> Size:
    """(H, W) from the first 33 bytes of what a file holds."""
    return _header(content)[0]


def read_png(path: Path, *, depth: int | None = 8) -> NDArray[np.integer]:
    """The label map [H, W] of a file, or its colours, as `decode_png`; errors name the file."""
    with reading(path):
        return decode_png(whole_file(path), depth)


def whole_file(path: Path) -> bytes:
    """The bytes of a file of labels; StoreError where they would not fit into any such file."""
    with path.open("rb") as file:
        if (size := os.fstat(file.fileno()).st_size) > MOST_BYTES:
            raise StoreError(f"has {size} bytes, more than any label map; restore the file")
        return file.read()


def decode_png(content: bytes, depth: int | None = 8) -> NDArray[np.integer]:
    """The label map [H, W] of a PNG's bytes.

    Args:
        content: the bytes.
        depth: 8 for uint8 of 8-bit grey and indices, 16 for uint16 of 16-bit grey, None for
            whichever it is; then also 1-bit grey, and colours, uint8 [H, W, 3].

    Raises:
        StoreError: another kind of image, or a damaged one; says what is wrong.
    """
    size, bits, colour, interlaced = _header(content)
    try:
        _check_kind(bits, colour, depth)
    except StoreError as error:
        if (bits, colour) != (8, _RGB):
            raise
        raise StoreError(f"{error}; {colours_found(decode_png(content, None))}") from None
    data, expected = _image_data(content), _row_bytes(size, bits * _SAMPLES[colour], interlaced)
    from PIL import Image

    try:
        found = len(zlib.decompressobj().decompress(data, expected + 1))
        if found != expected:  # decoders may fill in zeros, a valid class
            raise ValueError(f"it holds {found} bytes of rows, not {expected}")
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            labels: NDArray[np.integer] = np.array(image, np.uint16 if bits == 16 else np.uint8)
    except Exception as error:  # Pillow leaves by whatever a chunk led it to
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StoreError(f"cannot be decoded ({reason}); restore the file") from error
    if labels.shape != (size if colour != _RGB else (*size, 3)):
        raise StoreError(f"decodes to {[*labels.shape]}, its header says {[*size]}; restore it")
    return labels


def colours_found(colours: NDArray[np.integer]) -> str:
    """What to do about colours [H, W, 3] without a class map, and the first five of them."""
    flat = colours.reshape(-1, 3)
    known = list(dict.fromkeys(map(tuple, np.unique(flat[:: max(1, len(flat) // 65536)], axis=0))))
    shown = ", ".join(str([int(n) for n in colour]) for colour in known[:5])
    form = 'class_map=FILE says what colours mean, {"colours": {NAME: [R, G, B]}, "void": []}'
    return f"{form}; here are {shown}{', ...' if len(known) > 5 else ''}"


@contextlib.contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Puts the file's name before what is wrong with it."""
    try:
        yield
    except StoreError as error:
        if str(error).startswith("labels: "):  # which names a place already
            raise
        raise StoreError(f"labels: {path} {error}") from error
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        raise StoreError(f"labels: {path} {reason}; check the path and its permissions") from error


def _header(content: bytes) -> tuple[Size, int, int, bool]:
    """((H, W), bit depth, colour type, interlaced) of a PNG's first chunk."""
    if content[:8] != SIGNATURE:
        raise StoreError("is no PNG; convert it, class ids unchanged (JPEG would change them)")
    whole = len(content) >= 33 and content[8:16] == b"\x00\x00\x00\rIHDR"
    if not whole or struct.unpack(">I", content[29:33])[0] != zlib.crc32(content[12:29]):
        raise StoreError("has a truncated or damaged header; restore the file")
    width, height, depth, colour = struct.unpack(">IIBB", content[16:26])
    if not 0 < width * height <= MOST_PIXELS:
        raise StoreError(f"claims {height} x {width} pixels; label maps have 1 to {MOST_PIXELS}")
    return (height, width), depth, colour, content[28] != 0


def _check_kind(bits: int, colour: int, depth: int | None) -> None:
    """That a file is of the kind that `decode_png` was asked for."""
    found, deep = f"{bits}-bit {_COLOURS.get(colour, 'unknown')}", (bits, colour) == (16, _GREY)
    if depth == 16 and not deep:
        raise StoreError(f"is {found}; beyond 255 classes, labels are 16-bit greyscale PNGs")
    small = (bits, colour) == (8, _GREY) or (colour == _PALETTE and bits <= 8)
    if depth == 8 and not small:
        advice = "announce the number of classes" if deep else "save class ids, not colours"
        raise StoreError(f"is {found}; give 8-bit greyscale or palette PNGs ({advice})")
    if not (small or deep or (bits, colour) in ((8, _RGB), (1, _GREY))):
        raise StoreError(f"is {found}; give ids in greyscale or a palette, or 8-bit RGB colours")


def _image_data(content: bytes) -> bytes:
    """The compressed pixels of whole chunks up to IEND; decoders skip these checksums."""
    at, kind, data = 8, b"", []
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", content[at : at + 8].ljust(8, b"\xff"))
        start, at = at + 4, at + 12 + length
        if at > len(content):
            raise StoreError("is truncated; restore the file")
        if struct.unpack(">I", content[at - 4 : at])[0] != zlib.crc32(content[start : at - 4]):
            named = kind.decode("ascii", "replace")
            raise StoreError(f"is damaged: its {named} chunk has a wrong checksum; restore it")
        if kind == b"IDAT":
            data.append(content[start + 4 : at - 4])
    return b"".join(data)


def _row_bytes(size: Size, bits: int, interlaced: bool) -> int:
    """Bytes of all rows before compression, each with its filter byte."""
    (height, width), passes = size, _PASSES if interlaced else [(0, 0, 1, 1)]
    grids = ((-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes)
    return sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in grids if columns > 0)


@checked
def colour_map(count: int = 256) -> NDArray[np.uint8]:
    """The PASCAL VOC colours [count, 3], in which VSPW is shown.

    Bit k of channel j is bit 3k + j of the index, highest bits first. InputError: more than 65,536.
    """
    if not 0 <= count <= MOST_COLOURS:
        raise InputError(f"colour_map: got {count} colours; give at most {MOST_COLOURS}")
    index, channels = np.arange(count)[:, None], np.arange(3)
    bits = (((index >> (3 * k + channels)) & 1) << (7 - k) for k in range(8))
    return np.array(sum(bits), dtype=np.uint8)


@checked
def write_labels(
    path: PathLike, labels: ArrayLike, *, palette: str | ArrayLike = "vspw", overwrite: bool = False
) -> None:
    """Write labels [H, W] as a PNG that reads back equal; it appears whole or not at all.

    Args:
        path: the file; folders on the way are made.
        labels: uint8, written as indices into the palette, or uint16, as 16-bit greyscale.
        palette: "vspw" for `colour_map`, or uint8 colours [n, 3], n <= 256, of the first n ids.
        overwrite: replace a file that is there (a link, not its target; a directory never).

    Raises:
        StoreError: something is there already, or the disk refuses.
        InputError: other shapes or types.
    """
    _write(Path(path), encode(labels, palette), overwrite=overwrite)


def _write(target: Path, content: bytes, *, overwrite: bool) -> None:
    try:
        replaceable = overwrite and (target.is_symlink() or not target.is_dir())
        if os.path.lexists(target) and not replaceable:
            raise FileExistsError("a directory" if target.is_dir() else "it exists")
        with replacing(target, overwrite=overwrite) as scratch, scratch.open("xb") as file:
            file.write(content)
    except FileExistsError as error:
        taken = f"is taken ({error}); choose another path or overwrite=True for files"
        raise StoreError(f"write_labels: {target} {taken}") from error
    except OSError as error:
        with refusals(f"write_labels: {target}", len(content)):
            raise error


@checked
def write_colours(path: PathLike, colours: ArrayLike, *, overwrite: bool = False) -> None:
    """Write colours uint8 [H, W, 3] as an RGB PNG; as `write_labels` in all else."""
    from PIL import Image

    array, buffer = np.asarray(colours), io.BytesIO()
    whole = array.ndim == 3 and array.shape[2] == 3 and array.dtype == np.uint8
    if not whole or not 0 < array.size <= 3 * MOST_PIXELS:
        got = f"got {array.dtype} {list(array.shape)}"
        raise InputError(f"write_colours: {got}; give uint8 [H, W, 3] of 1 to {MOST_PIXELS} pixels")
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, format="PNG")
    _write(Path(path), buffer.getvalue(), overwrite=overwrite)


def encode(labels: ArrayLike, palette: str | ArrayLike = "vspw") -> bytes:
    """What `write_labels` writes; InputError as there."""
    from PIL import Image

    array = np.asarray(labels)
    typed = array.ndim == 2 and array.dtype.name in ("uint8", "uint16")
    if not typed or not 0 < array.size <= MOST_PIXELS:
        rule = f"give uint8 or uint16 [H, W] of 1 to {MOST_PIXELS} pixels"
        raise InputError(f"write_labels: got {array.dtype} {list(array.shape)}; {rule}")
    # all 256 colours: with fewer, Pillow packs indices into fewer bits and void 255 is lost
    colours = _colours(palette).tobytes() if array.dtype.itemsize == 1 else None
    if quick := isal_png.encoded(array, colours):
        return quick
    image = Image.fromarray(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))
    if colours is not None:
        image.putpalette(colours)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _colours(palette: str | ArrayLike) -> NDArray[np.uint8]:
    colours, given = colour_map(), np.asarray(palette)
    if isinstance(palette, str) and palette == "vspw":
        return colours
    whole = given.ndim == 2 and given.shape[1] == 3 and given.dtype.kind in "iu"
    if not whole or len(given) > 256 or given.min(initial=0) < 0 or given.max(initial=0) > 255:
        got = repr(palette) if isinstance(palette, str) else f"{given.dtype} {list(given.shape)}"
        raise InputError(f"palette: got {got}; give 'vspw' or integers 0..255 [n, 3], n <= 256")
    colours[: len(given)] = given
    return colours
