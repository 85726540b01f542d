"""Looking after stores: verify re-reads every byte, gc removes what dead writers left behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fusion import files
from fusion.errors import StoreError
from fusion.stores.format import parse_video
from fusion.stores.reader import committed, read_codes, read_group


@dataclass(frozen=True)
class Verdict:
    """One video of a store: its folder's name, frames read, and what is wrong (None: nothing)."""

    folder: str
    frames: int
    problem: str | None


def verify(path: str | Path) -> Iterator[Verdict]:
    """Re-reads every committed frame of a store; a verdict a video, damaged ones included."""
    root = Path(path)
    info, group = read_group(root)
    for folder in committed(root):
        try:
            video = parse_video(folder, info, group)
            for index in range(len(video.frames)):
                read_codes(folder, video, info.profile, [index])
            yield Verdict(folder.name, len(video.frames), None)
        except StoreError as error:
            yield Verdict(folder.name, 0, str(error))


def gc(path: str | Path, *, age: float = 3600.0, dry_run: bool = False) -> list[tuple[str, int]]:
    """Removes what dead writers left in a store, as `files.sweep` does; names and bytes."""
    read_group(Path(path))
    return files.sweep(Path(path), age=age, dry_run=dry_run)
