"""A folder of outputs as one zip file."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from fusion.errors import StoreError
from fusion.files import refusals, replacing


def pack(folder: Path, patterns: Sequence[str] = ("*/*.png",), *, overwrite: bool) -> Path:
    """OUT.zip with OUT's files of these patterns, whole or not at all.

    Args:
        folder: OUT.
        patterns: as `Path.glob` takes them, below it; names are patterns by `glob.escape`.
        overwrite: replace a zip that is there; else it is a StoreError.
    """
    target = archive_of(folder)
    check_archive(target, overwrite=overwrite)
    with (
        refusals(target),
        replacing(target, overwrite=overwrite) as scratch,
        zipfile.ZipFile(scratch, "x", zipfile.ZIP_STORED) as archive,  # all are compressed already
    ):
        for name in sorted(fitting(folder, patterns)):
            entry = zipfile.ZipInfo(name)  # of 1980: the same bytes whenever files were written
            entry.external_attr = 0o644 << 16
            entry.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as file, archive.open(entry, "w") as packed:
                shutil.copyfileobj(file, packed)
    return target


def archive_of(folder: Path) -> Path:
    """Where a folder's zip goes."""
    return folder.with_name(folder.name + ".zip")


def check_archive(target: Path, *, overwrite: bool) -> None:
    """Before any work: StoreError where something has the zip's name."""
    if os.path.lexists(target) and not overwrite:
        raise StoreError(f"{target}: exists; remove it or use --overwrite")


def fitting(folder: Path, patterns: Sequence[str]) -> Iterator[str]:
    """Names of plain files that fit one of the patterns: no links, nothing hidden."""
    for file in {file for pattern in patterns for file in folder.glob(pattern)}:
        below = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in below.parts)
        if file.is_file() and not file.is_symlink() and not hidden:
            yield below.as_posix()
