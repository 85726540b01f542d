"""Arrays in HDF5 files: a dataset a video, or one dataset [N, C, H, W].

Datasets that read from other files (external, virtual, behind links) are refused or not looked at.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fusion.errors import InputError
from fusion.stores.importers.bundles import Bundles
from fusion.stores.importers.folders import ends, files_in
from fusion.text import natural_order


@dataclass(frozen=True)
class Hdf5(Bundles):
    """.h5 and .hdf5 files."""

    kind: ClassVar[str] = "hdf5"
    name: ClassVar[str] = "HDF5 datasets"
    holds: ClassVar[str] = "<any>.h5 with a dataset [T,C,H,W] a video, or one [N,C,H,W]"
    suffixes: ClassVar[tuple[str, ...]] = (".hdf5", ".h5")

    @classmethod
    def files(cls, path: Path) -> list[Path]:
        if path.is_file():
            return [path] if ends(path, cls.suffixes) else []
        return list(files_in(path, cls.suffixes)) if path.is_dir() else []

    @classmethod
    def complete(cls, array: Any) -> str | None:
        """HDF5 too reads what is not there as a fill value, however much that is."""
        if array.chunks is None:
            there, wanted = int(array.id.get_storage_size() > 0), 1
        else:
            pairs = zip(array.shape, array.chunks, strict=True)
            there, wanted = array.id.get_num_chunks(), math.prod(-(-n // c) for n, c in pairs)
        return None if there >= wanted else f"{wanted - there} of {wanted} chunks are not there"

    @classmethod
    @contextlib.contextmanager
    def opened(cls, file: Path) -> Iterator[Mapping[str, Any]]:
        try:
            import h5py
        except ImportError as error:
            do = "pip install h5py"
            raise InputError(f"HDF5 needs h5py, which is not installed; {do}") from error
        found: dict[str, Any] = {}

        def look(name: str, item: Any) -> None:  # follows no link that leads elsewhere
            if isinstance(item, h5py.Dataset):
                if item.is_virtual or item.external:
                    problem = f"{name!r} reads from other files"
                    raise InputError(f"{file}: {problem}; copy the numbers into this one")
                found[name] = item

        with h5py.File(file, "r") as content:
            content.visititems(look)
            yield {name: found[name] for name in sorted(found, key=natural_order)}
