"""Looking after stores: verify re-reads every byte, gc removes what dead writers left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fusion.errors import StoreError
from fusion.stores.format import STAGING, parse_video
from fusion.stores.reader import LogitStore, committed, read_group
from fusion.stores.writer import LOCK


@dataclass(frozen=True)
class Verdict:
    """One video of a store: its folder's name, the frames read, and what is wrong with it (None: nothing)."""

    folder: str
    frames: int
    problem: str | None


def verify(path: str | Path) -> Iterator[Verdict]:
    """Re-reads every committed frame of a store against its crc; one verdict a video, damaged ones included, none skipped."""
    root = Path(path)
    info, group = read_group(root)
    for folder in committed(root):
        try:
            video = parse_video(folder, info, group)
            for frame in video.frames:
                LogitStore.opened(root, info, {video.video: (folder, video)}).codes(
                    video.video, [frame]
                )
            yield Verdict(folder.name, len(video.frames), None)
        except StoreError as error:
            yield Verdict(folder.name, 0, str(error))


def gc(path: str | Path, *, age: float = 3600.0, dry_run: bool = False) -> list[tuple[str, int]]:
    """Removes staging folders that are older than `age` seconds and whose writer is dead; returns their names and bytes.

    A living writer holds a lock on its folder, which is what counts: a clock that jumped cannot make gc take a live one's work.
    """
    read_group(Path(path))
    staging = Path(path) / STAGING
    removed = []
    for folder in sorted(staging.iterdir()) if staging.is_dir() else []:
        try:
            if (
                folder.is_symlink()
                or not folder.is_dir()
                or abs(time.time() - folder.stat().st_mtime) < age
                or _alive(folder)
            ):
                continue
            size = sum(
                os.lstat(os.path.join(parent, name)).st_size
                for parent, _, names in os.walk(folder)
                for name in names
            )
            if not dry_run:
                shutil.rmtree(folder)
        except FileNotFoundError:  # its writer finished, or another gc was faster
            continue
        removed.append((folder.name, size))
    return removed


def _alive(folder: Path) -> bool:
    """Whether a writer holds the folder's lock; a folder without a lock file is a writer's that died while making it."""
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(
            f"{folder}: cannot tell whether its writer lives ({error.strerror}); check the folder's rights"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
