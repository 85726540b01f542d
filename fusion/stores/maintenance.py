"""Looking after stores: verify re-reads every byte, gc removes what dead writers left behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from fusion.errors import StoreError
from fusion.stores.catalog import committed, conflicts, headless, parse_folder, unreplaced
from fusion.stores.format import StoreInfo, VideoInfo
from fusion.stores.locations import Address, Location, location_of
from fusion.stores.reader import read_codes, read_group
from fusion.stores.shards import Shards


@dataclass(frozen=True)
class Verdict:
    """One video of a store.

    Args:
        folder: the name of its folder, or of the pack that it is in.
        frames: how many were read.
        problem: what is wrong; None for nothing.
        video: its id; None where the folder's documents are damaged.
    """

    folder: str
    frames: int
    problem: str | None
    video: str | None = None


def verify(path: Address) -> Iterator[Verdict]:
    """Re-reads every frame that readers find in a store; a verdict a video, damaged ones included.

    What was written again is not looked at where its old self lies in a pack, with others.
    """
    root, found = location_of(path), list[VideoInfo]()
    info, group = read_group(root)
    for folder in committed(root):
        try:
            found += parse_folder(folder, info, group)
        except StoreError as error:
            yield Verdict(folder.name, 0, str(error))
    for name in root.headless():
        yield Verdict(name, 0, str(headless(root / name)))
    for _, videos in groupby(unreplaced(found), key=attrgetter("folder")):
        shards = Shards()
        for video in videos:
            yield _verdict(root, info, video, shards)
    for video, problem in conflicts(found):
        yield Verdict(video.folder, 0, f"{root}: {problem}", video.video)


def _verdict(root: Location, info: StoreInfo, video: VideoInfo, shards: Shards) -> Verdict:
    try:
        for index in range(len(video.frames)):
            read_codes(root, video, info.profile, [index], shards)
        return Verdict(video.folder, len(video.frames), None, video.video)
    except StoreError as error:
        return Verdict(video.folder, 0, str(error), video.video)


def gc(path: Address, *, age: float = 3600.0, dry_run: bool = False) -> list[tuple[str, int]]:
    """Removes what dead writers left in a store, as `files.sweep` does; names and bytes."""
    root = location_of(path)
    read_group(root)
    return root.sweep(age=age, dry_run=dry_run)
