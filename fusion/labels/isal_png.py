"""PNGs of label maps compressed by ISA-L, where the package `isal` is installed: the same pixels.

Five times as fast as Pillow at its default level, files a quarter larger (`benchmarks.pipeline`).
Format: W3C, "Portable Network Graphics Specification (Third Edition)", sections 5, 9 and 11.
"""

from __future__ import annotations

import struct
import zlib
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 2  # of 0 to 3; 3 is slower and no smaller on label maps
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _INDICES = 0, 3  # colour types


def encoded(array: NDArray[Any], palette: bytes | None) -> bytes | None:
    """A PNG file's bytes, or None where `isal` is not installed.

    Args:
        array: [H, W], uint8 of indices with a palette, uint16 of greyscale without.
        palette: 256 colours, 3 bytes each.
    """
    isal = _isal()
    if isal is None:
        return None
    height, width = array.shape
    rows = np.zeros((height, 1 + width * array.itemsize), np.uint8)  # first its filter: none
    big = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder(">"))
    rows[:, 1:] = big.view(np.uint8).reshape(height, -1)
    kind = _GREY if palette is None else _INDICES
    header = struct.pack(">IIBBBBB", width, height, 8 * array.itemsize, kind, 0, 0, 0)
    colours = b"" if palette is None else _chunk(b"PLTE", palette)
    data = _chunk(b"IDAT", isal.compress(rows, LEVEL))
    return _SIGNATURE + _chunk(b"IHDR", header) + colours + data + _chunk(b"IEND", b"")


@cache
def _isal() -> Any:
    try:
        from isal import isal_zlib
    except ImportError:
        return None
    return isal_zlib


def _chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))
