"""Arrays in Zarr (versions 2 and 3): <any>.zarr, an array a video, or one array [N, C, H, W].

Zarr reads a chunk that is not there as its fill value: arrays with such chunks are refused, since
nobody can tell whether they were zero or are lost.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fusion.errors import InputError
from fusion.stores.format import ATTRIBUTES
from fusion.stores.importers.bundles import Bundles
from fusion.stores.importers.folders import listed
from fusion.stores.importers.zarr_files import guard, open_zarr
from fusion.text import natural_order

METADATA = ("zarr.json", ".zarray", ".zgroup")


@dataclass(frozen=True)
class Zarrs(Bundles):
    """Zarr arrays and groups of somebody else's."""

    kind: ClassVar[str] = "zarr"
    name: ClassVar[str] = "Zarr arrays"
    holds: ClassVar[str] = "<any>.zarr with an array [T,C,H,W] a video, or one [N,C,H,W]"
    suffixes: ClassVar[tuple[str, ...]] = (".zarr",)

    @classmethod
    def files(cls, path: Path) -> list[Path]:
        if not path.is_dir():
            return []
        return [path] if _is_zarr(path) else [entry for entry in listed(path) if _is_zarr(entry)]

    @classmethod
    @contextlib.contextmanager
    def opened(cls, file: Path) -> Iterator[Mapping[str, Any]]:
        import zarr

        _check_links(file)
        node = open_zarr(file)
        if ATTRIBUTES in node.attrs:
            raise InputError(f"{file}: a logit store already; use it as it is")
        if isinstance(node, zarr.Array):
            yield {"": node}
            return
        found = dict(node.members(max_depth=None))
        names = [name for name, item in found.items() if isinstance(item, zarr.Array)]
        guard(found[name] for name in names)
        yield {name: found[name] for name in sorted(names, key=natural_order)}

    @classmethod
    def complete(cls, array: Any) -> str | None:
        there, wanted = array.nchunks_initialized, array.nchunks
        if there >= wanted:
            return None
        return f"{wanted - there} of {wanted} chunks are not there (write_empty_chunks keeps them)"


def _is_zarr(path: Path) -> bool:
    return path.is_dir() and any((path / name).is_file() for name in METADATA)


def _check_links(folder: Path) -> None:
    """No file of an array may lie elsewhere."""
    root = folder.resolve()
    for parent, folders, names in os.walk(folder):
        for entry in (Path(parent, name) for name in (*folders, *names)):
            if entry.is_symlink() and not entry.resolve().is_relative_to(root):
                problem = "a link that leads out of its array"
                raise InputError(f"{entry}: {problem}; copy the file there")
