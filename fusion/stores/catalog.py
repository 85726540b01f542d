"""Which videos a store has: those with a folder of their own, those in packs, each once."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from fusion.errors import CorruptStoreError, StoreConflictError, StoreError
from fusion.stores.documents import COMMIT, damaged
from fusion.stores.format import StoreInfo, VideoInfo, parse_video, video_key
from fusion.stores.locations import Location
from fusion.stores.pack_format import PACK, is_pack, parse_pack


def committed(root: Location) -> list[Location]:
    """Folders with a commit.json, the only ones that exist for a reader."""
    names = root.folders()
    root.gather(names)
    return [root / name for name in names]


def parse_folder(folder: Location, store: StoreInfo, group: bytes) -> list[VideoInfo]:
    """The videos of a committed folder; CorruptStoreError for a damaged one."""
    if is_pack(folder.name):
        return parse_pack(folder, store, group)
    return [parse_video(folder, store, group)]


def catalog(root: Location, store: StoreInfo, group: bytes) -> dict[str, VideoInfo]:
    """Every video of a store, by its id.

    Raises:
        CorruptStoreError: a damaged folder, or one whose commit.json is gone while an older self of
            its video lies in a pack: that must not come back unnoticed.
        StoreConflictError: a video is there twice, with different content.
    """
    found: list[VideoInfo] = []
    for folder in committed(root):
        try:
            found += parse_folder(folder, store, group)
        except StoreError:  # replaced between its two documents: a second look sees one writer's
            if (folder / COMMIT).exists():
                found += parse_folder(folder, store, group)
    videos = _preferred(found)
    for _, problem in conflicts(found):
        raise StoreConflictError(f"{root}: {problem}")
    lost = set(root.headless())
    for info in videos.values() if lost else ():
        if info.pack is not None and video_key(info.video) in lost:
            raise headless(root / video_key(info.video))
    return videos


def headless(folder: Location) -> CorruptStoreError:
    """The error of a folder whose commit.json is gone."""
    problem = f"{COMMIT} is missing, so that readers find nothing of it"
    return damaged(folder, problem, "restore it, or remove the folder and write what it held again")


def unreplaced(found: Iterable[VideoInfo]) -> list[VideoInfo]:
    """Without those videos in packs that were written again since, in folders of their own."""
    every = list(found)
    replaced = {(info.video, pack) for info in every for pack in info.replaces}
    return [info for info in every if (info.video, info.folder) not in replaced]


def _current(found: Iterable[VideoInfo]) -> list[VideoInfo]:
    """Without what is replaced; a video's own folder before packs, packs in the order of names."""
    return sorted(unreplaced(found), key=lambda info: (info.pack is not None, info.folder))


def _preferred(found: Iterable[VideoInfo]) -> dict[str, VideoInfo]:
    videos: dict[str, VideoInfo] = {}
    for info in _current(found):
        videos.setdefault(info.video, info)
    return videos


def conflicts(found: Iterable[VideoInfo]) -> Iterator[tuple[VideoInfo, str]]:
    """Videos that two writers committed at once, unless they agree; and what is wrong."""
    first: dict[str, VideoInfo] = {}
    for info in _current(found):
        other = first.setdefault(info.video, info)
        if other is info:
            continue
        problem = _unequal(other, info)
        if problem:
            both = f"{other.folder} and {info.folder}"
            advice = "write it again with overwrite=True"
            yield info, f"video {info.video!r} is both in {both}, with other {problem}; {advice}"


def _unequal(one: VideoInfo, two: VideoInfo) -> str | None:
    if one.shape != two.shape or one.geometry != two.geometry:
        return "frame ids, shape or geometry"
    return one.difference(two.frames, two.size, None, two.crc)


class PackIndex:
    """The videos in a store's packs, as writers need them: read when first asked for, and again
    whenever the store has changed."""

    def __init__(self, root: Location, store: StoreInfo, group: bytes) -> None:
        self._root, self._store, self._group = root, store, group
        self._seen: tuple[Hashable, dict[str, dict[str, VideoInfo]]] = (None, {})

    def find(self, video: str, *, now: bool = False) -> list[VideoInfo]:
        """What packs hold of a video, in the order of their names; mostly nothing.

        now: as of `Location.state`.
        """
        return [videos[video] for videos in self._packs(now).values() if video in videos]

    def forget(self) -> None:
        """Looks again at the next call, whatever the folder's time says."""
        self._seen = (None, self._seen[1])

    def _packs(self, now: bool) -> dict[str, dict[str, VideoInfo]]:
        changed, packs = self._seen
        state = self._root.state(now=now)
        if state != changed:
            # a store of thousands of videos is not looked through again at each of them
            names = [name for name in self._root.folders(PACK) if is_pack(name)]
            packs = {name: packs.get(name) or self._read(name) for name in names}
            self._seen = state, packs  # at once: threads may share a writer
        return packs

    def _read(self, name: str) -> dict[str, VideoInfo]:
        videos = parse_pack(self._root / name, self._store, self._group)
        return {info.video: info for info in videos}
