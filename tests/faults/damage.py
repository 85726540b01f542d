"""What a disk, a user or a program may do to the files of a folder, one damage at a time.

for what, damage in damages(folder, other, every=1):
    damage()
    ...                     # read it: the same as before, or one error that names the file
    restore(folder, sound)  # sound: a copy
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Damage = tuple[str, Callable[[], Any]]


def files_of(folder: Path) -> list[Path]:
    """Every file below a folder, in order; of a file, itself."""
    if folder.is_file():
        return [folder]
    return sorted(path for path in folder.rglob("*") if path.is_file())


def damages(folder: Path, other: Path | None, every: int = 1) -> Iterator[Damage]:
    """All that can happen to the files below a folder, whatever they hold.

    Args:
        folder: what is damaged.
        other: the same of other data, whose files take these ones' places; None for none.
        every: one byte of so many is flipped; 1 for all.
    """
    files = files_of(folder)
    for path in files:
        yield from file_damages(path, str(path.relative_to(folder)), every)
        if other is not None:
            theirs = other / path.relative_to(folder)
            yield f"{path.name}: of other data", lambda p=path, q=theirs: shutil.copyfile(q, p)
    for one, two in itertools.permutations(files, 2):
        yield f"{two} copied over {one}", lambda p=one, q=two: shutil.copyfile(q, p)


def file_damages(path: Path, name: str, every: int = 1) -> Iterator[Damage]:
    """All that can happen to one file: flips, cuts, more bytes, gone, and what is no file."""
    raw = path.read_bytes()
    for at in range(0, len(raw), every):
        flipped = raw[:at] + bytes([raw[at] ^ (1 << at % 8)]) + raw[at + 1 :]
        yield f"{name}: byte {at} flipped", lambda p=path, b=flipped: p.write_bytes(b)
    for length in sorted({0, 1, len(raw) // 2, max(0, len(raw) - 1), max(0, len(raw) - 64)}):
        yield f"{name}: cut to {length}", lambda p=path, b=raw[:length]: p.write_bytes(b)
    for more in (b"\0", raw):
        yield f"{name}: {len(more)} bytes more", lambda p=path, b=raw + more: p.write_bytes(b)
    yield f"{name}: deleted", path.unlink
    yield f"{name}: a folder", lambda p=path: (p.unlink(), p.mkdir())
    yield f"{name}: a pipe", lambda p=path: (p.unlink(), os.mkfifo(p))
    yield f"{name}: a link to itself", lambda p=path: (p.unlink(), p.symlink_to(p))
    aside = path.with_name("aside")
    yield f"{name}: a link to the same", lambda p=path, q=aside: (p.rename(q), p.symlink_to(q))
    yield f"{name}: huge", lambda p=path: os.truncate(p, 1 << 40)


def restore(folder: Path, sound: Path) -> None:
    """What was damaged is as the sound copy again."""
    shutil.rmtree(folder) if folder.is_dir() and not folder.is_symlink() else folder.unlink(True)
    shutil.copytree(sound, folder) if sound.is_dir() else shutil.copyfile(sound, folder)
