"""A store against a dict of arrays, wherever it lies: whatever its history, readers find whole
videos that were written, each once, and damage where it was done."""

# ruff: noqa: PT017  an error is one of two right answers here, and then its words are looked at
from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from fusion.errors import CorruptStoreError, StoreConflictError, StoreError
from fusion.files import STAGING
from fusion.stores import GapCodec, LogitStore, LogitWriter
from fusion.stores import video_writer as writing
from fusion.stores.locations import Disk, Remote, location_of
from fusion.stores.maintenance import gc, verify
from tests.faults.dying import dying, dying_remotely

CLASSES = ["sky", "road", "car"]
# what file systems, shells, zarr or a careless join would make something else of
NASTY = ("../../x", "/abs", "..", ".", "", "a\0b", "new\nline", "CON", "x" * 300, "A", "a", "é")
NASTY += ("e\u0301", "pack-" + "0" * 32, STAGING, "zarr.json", "commit.json", "\ud800", "a/b", "*")
FRAMES = (("0",), ("0", "1"), ("1", "0"), ("", "..", "a/b\n"))
SIZES = ((2, 3), (1, 1), (3, 2))
ids = st.lists(st.sampled_from(NASTY) | st.text(max_size=2), min_size=3, max_size=3, unique=True)
videos = st.integers(0, 2)  # of three ids: histories are about what meets


Kept = tuple[tuple[str, ...], tuple[int, int], bytes]  # frame ids, size, codes


@dataclass(frozen=True)
class Clip:
    """What a video was written with: codes [T, C, h, w] are worked out from nothing else."""

    frames: tuple[str, ...]
    size: tuple[int, int]
    seed: int

    @property
    def logits(self) -> np.ndarray:
        shape = len(self.frames), len(CLASSES), *self.size
        return np.random.default_rng(self.seed).normal(0, 6, shape).astype(np.float32)

    def kept(self, profile: str) -> Kept:
        clip = self.logits
        codes = GapCodec().encode(clip) if profile == "compact" else clip.astype("f2")
        return self.frames, self.size, codes.tobytes()

    def alike(self, other: Clip) -> bool:
        """Whether a writer that asks before it has pixels takes one for the other."""
        return (self.frames, self.size) == (other.frames, other.size)


clips = st.builds(Clip, st.sampled_from(FRAMES), st.sampled_from(SIZES), st.integers(0, 3))
asked = st.lists(st.tuples(videos, clips, st.booleans()), min_size=1, max_size=3)
Asked = list[tuple[int, Clip, bool]]
Wanted = list[tuple[str, Clip, bool]]


def read(store: LogitStore, video: str) -> Kept:
    info = store.describe(video)
    return info.frames, info.size, store.codes(video).tobytes()


@dataclass
class Living:
    """A writer that has begun and not ended."""

    writer: Any
    video: str
    clip: Clip
    overwrite: bool
    appended: int = 0
    packs: int = -1  # that may have had the video at the first append


@contextlib.contextmanager
def small_shards() -> Iterator[None]:
    """A frame a file: a writer has something on the disk from its first frame on."""
    limit, writing.MAX_SHARD_BYTES = writing.MAX_SHARD_BYTES, 1
    try:
        yield
    finally:
        writing.MAX_SHARD_BYTES = limit


class StoreMachine(RuleBasedStateMachine):
    """place: an address at which nothing is; taken away at the end, where it lies on the disk."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place, self.root = place, location_of(place)
        self.on_disk = isinstance(self.root, Disk)
        self.model: dict[str, Clip] = {}
        self.readers: list[tuple[LogitStore, dict[str, Clip]]] = []
        self.living: list[Living] = []
        self.packs = Counter[str]()  # that may have brought a video
        self.stale: set[str] = set()  # damaged packs, of which nothing is read any more
        self.sound = True

    @initialize(profile=st.sampled_from(["compact", "exact"]), names=ids)
    def create(self, profile: str, names: list[str]) -> None:
        self.profile: Any = profile
        self.names = names
        self.writer().__exit__()

    def writer(self) -> LogitWriter:
        return LogitWriter(self.place, CLASSES, self.profile)

    # --- what is there

    def found(self) -> dict[str, Kept]:
        store = LogitStore(self.place)
        return {video: read(store, video) for video in store.videos}

    def expect(self, *others: tuple[str, Clip]) -> None:
        """The store holds the model, or of some videos what was being written."""
        found, kept = self.found(), self.profile
        for video, clip in others:
            if video in found and found[video] == clip.kept(kept):
                self.model[video] = clip
        assert sorted(found) == sorted(self.model)
        for video, one in found.items():
            assert one == self.model[video].kept(kept), video
        if self.on_disk:  # nothing anywhere else
            assert [path.name for path in Path(self.place).parent.iterdir()] == [self.root.name]

    # --- writing

    @rule(wanted=asked, packed=st.booleans())
    def write(self, wanted: Asked, packed: bool) -> None:
        self._write(self.named(wanted), packed, self.model)
        self.expect()

    def named(self, wanted: Asked) -> Wanted:
        return [(self.names[video], clip, overwrite) for video, clip, overwrite in wanted]

    def _write(self, wanted: Wanted, packed: bool, model: dict[str, Clip]) -> None:
        """As the model says: skipped where it is the same as far as one can see, else refused."""
        self.packs.update(video for video, _, _ in wanted if packed)
        with self.writer() as writer, writer.pack() if packed else nullcontext(writer) as place:
            for video, clip, overwrite in wanted:
                known = model.get(video)
                clashes = known is not None and not overwrite and not known.alike(clip)
                try:
                    how: dict[str, Any] = {"size": clip.size, "overwrite": overwrite}
                    with place.video(video, frames=clip.frames, **how) as out:
                        assert not clashes
                        skips = known is not None and not overwrite
                        assert out.committed == skips, (video, clip, overwrite, known)
                        out.extend(clip.logits)
                except StoreConflictError as error:
                    assert clashes, error
                    continue
                if known is None or overwrite:
                    model[video] = clip

    @rule(
        wanted=asked,
        packed=st.booleans(),
        left=st.integers(0, 45),
        torn=st.floats(0, 1),
        late=st.booleans(),
    )
    def kill(self, wanted: Asked, packed: bool, left: int, torn: float, late: bool) -> None:
        """A writer dies somewhere: every video is what it was, or what it was to be."""
        named = self.named(wanted)
        kind: Any = dying(left, torn=torn) if self.on_disk else dying_remotely(left % 9, late=late)
        with kind, small_shards():
            self._write(named, packed, dict(self.model))
        self.expect(*((video, clip) for video, clip, _ in named))

    @rule(wanted=asked, packed=st.booleans(), left=st.integers(0, 45))
    def kill_and_resume(self, wanted: Asked, packed: bool, left: int) -> None:
        """The same program again, after it died: the store is as if it had not."""
        once = {video: (video, clip, True) for video, clip, _ in self.named(wanted)}
        kind: Any = dying(left) if self.on_disk else dying_remotely(left % 9)
        with kind:
            self._write(list(once.values()), packed, dict(self.model))
        self._write(list(once.values()), packed, self.model)
        self.expect()

    # --- writers that live on

    @rule(number=videos, clip=clips, overwrite=st.booleans())
    @precondition(lambda self: len(self.living) < 3)
    def begin(self, number: int, clip: Clip, overwrite: bool) -> None:
        video = self.names[number]
        known = self.model.get(video)
        clashes = known is not None and not overwrite and not known.alike(clip)
        try:
            how: dict[str, Any] = {"size": clip.size, "overwrite": overwrite}
            writer = self.writer().video(video, frames=clip.frames, **how)
            assert not clashes
        except StoreConflictError as error:
            assert clashes, error
            return
        if not writer.committed:
            self.living.append(Living(writer, video, clip, overwrite))

    @rule(at=st.integers(0, 9))
    @precondition(lambda self: self.living)
    def append(self, at: int) -> None:
        one = self.living[at % len(self.living)]
        if one.appended < len(one.clip.frames):
            self._append(one, 1)

    def _append(self, one: Living, frames: int) -> None:
        if not one.appended:
            one.packs = self.packs[one.video]
        with small_shards():
            one.writer.extend(one.clip.logits[one.appended : one.appended + frames])
        one.appended += frames

    @rule(at=st.integers(0, 9))
    @precondition(lambda self: self.living)
    def finish(self, at: int) -> None:
        """Of two writers the first wins; one that overwrites, unless a pack came meanwhile."""
        one = self.living.pop(at % len(self.living))
        self._append(one, len(one.clip.frames))
        there, late = self.model.get(one.video), self.packs[one.video] > one.packs
        same = there is None or there.kept(self.profile) == one.clip.kept(self.profile)
        try:
            one.writer.__exit__(None)
            assert same or one.overwrite
            self.model[one.video] = one.clip
        except StoreConflictError:
            assert not same
            assert late or not one.overwrite
        self.expect()

    @rule(at=st.integers(0, 9))
    @precondition(lambda self: self.living)
    def give_up(self, at: int) -> None:
        one = self.living.pop(at % len(self.living))
        one.writer.__exit__(KeyboardInterrupt)
        self.expect()

    # --- reading

    @rule()
    @precondition(lambda self: len(self.readers) < 3)
    def open_reader(self) -> None:
        store = LogitStore(self.place)
        assert store.videos == tuple(sorted(self.model))
        self.readers.append((store, dict(self.model)))

    @rule(at=st.integers(0, 9), video=st.integers(0, 99), keep=st.booleans())
    @precondition(lambda self: self.readers)
    def read(self, at: int, video: int, keep: bool) -> None:
        """What the store was when it was opened, or a sentence that says it is another now."""
        store, then = self.readers[at % len(self.readers)]
        if then:
            name = sorted(then)[video % len(then)]
            try:
                assert read(store, name) == then[name].kept(self.profile)
            except CorruptStoreError:
                raise
            except StoreError as error:
                assert "was written again since this store was opened" in str(error)
                assert self.model[name] is not then[name]
        if not keep:
            del self.readers[at % len(self.readers)]

    # --- looking after it

    @rule()
    def verify(self) -> None:
        found = list(verify(self.place))
        assert [verdict.problem for verdict in found] == [None] * len(found)
        assert {verdict.video for verdict in found} == set(self.model)

    @rule(dry_run=st.booleans())
    def gc(self, dry_run: bool) -> None:
        """The dead are swept, the living go on."""
        gc(self.place, age=0, dry_run=dry_run)
        if not dry_run:
            assert gc(self.place, age=0) == []
            staging = Path(self.place, STAGING)
            if self.on_disk and staging.is_dir():
                assert len(list(staging.iterdir())) == sum(one.appended > 0 for one in self.living)
        self.expect()

    @rule(
        which=st.integers(0, 999),
        at=st.floats(0, 1, exclude_max=True),
        how=st.sampled_from(["flip", "cut", "more", "gone"]),
    )
    @precondition(lambda self: self.model)
    def corrupt(self, which: int, at: float, how: str) -> None:
        """One file: verify finds that folder and no other; writing its videos again repairs it."""
        store = LogitStore(self.place)
        folders = {store.describe(video).folder for video in self.model}
        files = {name: data for name, data in self.files().items() if name.split("/")[0] in folders}
        # drafts on servers have random names, which must not choose the file
        plain = sorted(files, key=lambda name: (name.split("/")[0], name[-12:], len(files[name])))
        name = plain[which % len(files)]
        if name.endswith("commit.json") and not self.on_disk and how == "gone":
            return  # as if the video had never been written, which nothing can tell
        data, place = files[name], int(at * len(files[name]))
        if how == "flip" and not data:
            return  # a draft that was cut to nothing before, of which nobody reads
        changed = {
            "flip": data[:place] + bytes([data[place] ^ (1 << which % 8)]) + data[place + 1 :],
            "cut": data[:place],
            "more": data + b"x",
            "gone": None,
        }[how]
        self.sound = False
        self.put(name, changed)
        self.readers.clear()  # what they say of damage is tests/stores/test_damage.py's matter
        harmed, lost = name.split("/")[0], name.endswith("commit.json") and how == "gone"
        inside = {v for v in self.model if store.describe(v).folder == harmed}
        self.look_at(harmed, inside, lost)
        self.repair(harmed, inside, lost)
        self.verify()
        self.expect()
        self.sound = True
        self.stale |= {harmed}

    def look_at(self, harmed: str, inside: set[str], lost: bool) -> None:
        """The other folders are sound, and nowhere are there other numbers.

        lost: whether readers find nothing of the videos inside.
        """
        found = list(verify(self.place))
        bad = {verdict.folder for verdict in found if verdict.problem}
        assert bad <= {harmed} | self.stale  # who replaced these may be what is harmed now
        assert bad or not lost
        sound = {verdict.video for verdict in found if not verdict.problem}
        assert sound >= set(self.model) - inside
        try:
            store = LogitStore(self.place)
        except StoreError as error:
            assert harmed in str(error)
            return
        assert set(store.videos) == set(self.model) - (inside if lost else set())
        for video in store.videos:
            try:
                assert read(store, video) == self.model[video].kept(self.profile)
                assert video in sound
            except CorruptStoreError:
                assert video not in sound

    def repair(self, harmed: str, inside: set[str], lost: bool) -> None:
        """As the errors say."""
        wanted = [(video, self.model[video], True) for video in sorted(inside)]
        try:
            self._write(wanted, False, self.model)
        except StoreError as error:  # a pack that no writer can look into
            assert harmed.startswith("pack-"), error
            self.remove(harmed)
            self._write(wanted, False, self.model)
        if lost and harmed.startswith("pack-"):
            self.remove(harmed)

    # --- files, wherever they are

    def files(self) -> dict[str, bytes]:
        if isinstance(self.root, Disk):
            found = (f for f in self.root.path.rglob("*") if f.is_file() and STAGING not in f.parts)
            return {str(f.relative_to(self.root.path)): f.read_bytes() for f in found}
        assert isinstance(self.root, Remote)
        return {name: (self.root / name).document() for name in self.root._listing()}

    def put(self, name: str, data: bytes | None) -> None:
        if isinstance(self.root, Disk):
            path = self.root.path / name
            path.unlink() if data is None else path.write_bytes(data)
        else:
            assert isinstance(self.root, Remote)
            self.root._remove([name]) if data is None else (self.root / name)._put(data)

    def remove(self, folder: str) -> None:
        for name in self.files():
            if name.split("/")[0] == folder:
                self.put(name, None)
        if self.on_disk:
            shutil.rmtree(Path(self.place, folder))

    def teardown(self) -> None:
        for one in self.living:
            one.writer.__exit__(KeyboardInterrupt)
        if self.sound and self.model:
            self.expect()
        if self.on_disk:
            shutil.rmtree(Path(self.place).parent, ignore_errors=True)
