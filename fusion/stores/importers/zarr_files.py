"""Zarr arrays of somebody else's, whose chunks may claim more than their array does.

Zarr unpacks a chunk as large as the chunk itself says. Here it is looked at first: a zstd frame, a
Blosc or LZ4 buffer says its size in front, deflated bytes are unpacked as far as they may go.
Sources: RFC 8878, 3.1.1.1; RFC 1952; the headers of c-blosc 1 and of numcodecs' LZ4.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fusion.stores.codec import zstd_size

DEFLATED = ("gzip", "zlib")
SIZED = {"blosc": 4, "lz4": 0}  # where in front of a chunk its size stands, in 4 bytes


def open_zarr(folder: Path, path: str = "") -> Any:
    """The array or group at a path of a Zarr store in a folder; raises what zarr does.

    A chunk that claims more than its array's chunks hold is a ValueError when it is read, once
    `guard` knows the array; of an array at the path itself it does.
    """
    import zarr

    node = zarr.open(store=_guarded()(folder, read_only=True), mode="r", path=path)
    if isinstance(node, zarr.Array):
        guard([node])
    return node


def guard(arrays: Iterable[Any]) -> None:
    """Has chunks of these arrays looked at, which lie in what `open_zarr` opened."""
    for array in arrays:
        names = {type(codec).__name__.lower().removesuffix("codec") for codec in array.compressors}
        array.store.sizes[array.path] = math.prod(array.chunks) * array.dtype.itemsize, names


@functools.cache
def _guarded() -> Any:
    from zarr.storage import LocalStore

    class Guarded(LocalStore):
        """A folder whose chunks are looked at before anybody unpacks them.

        sizes: bytes of a chunk and its compressors, by path of an array.
        """

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.sizes: dict[str, tuple[int, set[str]]] = {}

        async def get(self, key: str, *arguments: Any, **options: Any) -> Any:
            found = await super().get(key, *arguments, **options)
            if found is not None and not key.rpartition("/")[2].startswith((".z", "zarr.json")):
                of = [path for path in self.sizes if key.startswith(f"{path}/" if path else "")]
                if of:
                    most, names = self.sizes[max(of, key=len)]
                    _check(found.as_numpy_array(), most, names, key)
            return found

    return Guarded


def _check(packed: np.ndarray, most: int, names: set[str], key: str) -> None:
    """ValueError for a chunk that unpacks to more bytes than its array's chunks have."""
    head = packed[:18].tobytes()
    claimed = zstd_size(head) if "zstd" in names else 0
    for name in names & SIZED.keys():
        claimed = int.from_bytes(head[SIZED[name] : SIZED[name] + 4], "little")
    if names & {*DEFLATED}:
        try:
            claimed = len(zlib.decompressobj(47).decompress(packed.tobytes(), most + 1))
        except zlib.error:  # the reader says it
            return
    if claimed > most:
        raise ValueError(f"chunk {key} claims {claimed} bytes, its array's have {most}")
