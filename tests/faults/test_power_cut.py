"""The power goes at any moment of a commit: what is found then is the old, the new, or nothing.

What was promised by then, because the call had returned, is there; the same work, done again, ends
as a clean run does.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import fusion
from fusion import files, tensors
from fusion.contested.cache import CondensedCache
from fusion.errors import FusionError
from fusion.stores import LogitStore, pack_writer, video_writer
from fusion.stores.codec import encode_frame
from fusion.stores.maintenance import gc, verify
from tests.conftest import class_names
from tests.faults.power import make, recorded
from tests.faults.test_nth_call import CLASSES, CLIPS, GROUPS, OTHER, condensed, leftovers, tree

Promise = Callable[[str], None]
IDS = ["0", "1", "2"]


@dataclass(frozen=True)
class Commit:
    """Something that is promised to be on the disk.

    prepare: what is on the disk before. do: the work, which says what it promises by now; again, it
    goes on. found: names of what is there, all of it whole, or AssertionError.
    """

    do: Callable[[Path, Promise], object]
    found: Callable[[Path], set[str]]
    prepare: Callable[[Path], object] = lambda root: None
    sweep: Callable[[Path], object] = lambda root: None


def cut(commit: Commit, folder: Path, every: int = 1, **how) -> int:
    """Looks at every state that a power cut may leave; returns how many there are."""
    clean, root = folder / "clean", folder / "root"
    for place in (clean, root):
        place.mkdir(parents=True)
        commit.prepare(place)
    commit.do(clean, lambda what: None)
    expected = tree(clean)
    with recorded(root, **how) as disk:
        commit.do(root, disk.promise)
    for number, ((state, promised), why) in enumerate(disk.states.items()):
        if number % every:
            continue
        shutil.rmtree(root)
        root.mkdir()
        make(state, root)
        files._TIDIED.clear()
        found = commit.found(root)
        assert promised <= found, (why, promised - found)
        commit.do(root, lambda what: None)
        commit.sweep(root)
        assert tree(root) == expected, why
        assert not leftovers(root), why
    return len(disk.states)


@pytest.fixture(autouse=True)
def same_facts(monkeypatch):
    """Commits say who wrote them and when; here nobody, never."""
    for module in (video_writer, pack_writer):
        monkeypatch.setattr(module, "facts", lambda array: {"dtype": array.dtype.name})


# --- stores


def write(root: Path, promise: Promise, clips=CLIPS, **how) -> None:
    writer = fusion.LogitWriter(root / "deep" / "s.zarr", class_names(4), **how)
    for video, clip in clips.items():
        with writer.video(video, frames=IDS) as out:
            out.extend(clip)
        promise(video)


def packed(root: Path, promise: Promise) -> None:
    writer = fusion.LogitWriter(root / "deep" / "s.zarr", class_names(4))
    with writer.pack() as pack:
        for video, clip in CLIPS.items():
            with pack.video(video, frames=IDS) as out:
                out.extend(clip)
    for video in CLIPS:
        promise(video)


def overwritten(root: Path, promise: Promise) -> None:
    writer = fusion.LogitWriter(root / "deep" / "s.zarr", class_names(4))
    for video, clip in OTHER.items():
        with writer.video(video, frames=IDS, overwrite=True) as out:
            out.extend(clip)
        promise(f"new {video}")


def videos(root: Path) -> set[str]:
    """Those that readers find, all of them whole."""
    place = root / "deep" / "s.zarr"
    if not (place / "zarr.json").exists():
        return set()
    verdicts = list(verify(place))
    assert [verdict.problem for verdict in verdicts] == [None] * len(verdicts)
    return {str(verdict.video) for verdict in verdicts}


def old_and_new(root: Path) -> set[str]:
    """As above, of two; "new a" where a's numbers are the new ones."""
    found = videos(root)
    assert found == set(CLIPS)
    store = LogitStore(root / "deep" / "s.zarr")
    for video in CLIPS:
        codes = store.codes(video)
        is_old, is_new = (np.array_equal(codes, encoded(each[video])) for each in (CLIPS, OTHER))
        assert is_old or is_new, video
        found |= {f"new {video}"} if is_new else set()
    return found


def encoded(clip: np.ndarray) -> np.ndarray:
    return np.stack([encode_frame(frame, 4, "compact", "logits") for frame in clip])


def sweep(root: Path) -> None:
    gc(root / "deep" / "s.zarr", age=0.0)


# --- the rest


def cached(root: Path, promise: Promise) -> None:
    condensed(root)
    for video in CLIPS:
        promise(video)


def pixels(root: Path) -> set[str]:
    if not (root / "cache").is_dir():
        return set()
    cache = CondensedCache(root / "cache", "digest", GROUPS, CLASSES)
    missing = cache.missing(list(CLIPS))
    there = [video for video in CLIPS if video not in missing]
    cache.load(there)
    return set(there)


def documents(root: Path, promise: Promise, step: int = 2) -> None:
    """What searches and training write: documents, and tensors."""
    files.write_json(root / "out" / "best.json", {"step": step})
    promise(f"best {step}")
    tensors.write(root / "run" / "checkpoint", {"a": np.full(50, step)}, {"step": step})
    promise(f"checkpoint {step}")


def said(root: Path) -> set[str]:
    found = set()
    if (root / "out" / "best.json").exists():
        found.add(f"best {json.loads((root / 'out' / 'best.json').read_text())['step']}")
    if (root / "run" / "checkpoint").exists():
        arrays, document = tensors.load(root / "run" / "checkpoint")
        assert (arrays["a"] == document["step"]).all()
        found.add(f"checkpoint {document['step']}")
    return found


COMMITS = {
    "store": Commit(write, videos, sweep=sweep),
    "packed store": Commit(packed, videos, sweep=sweep),
    "overwritten store": Commit(
        overwritten,
        old_and_new,
        prepare=lambda root: write(root, lambda what: None),
        sweep=sweep,
    ),
    "condensed cache": Commit(cached, pixels),
    "new documents": Commit(documents, said),
    "documents": Commit(
        documents, said, prepare=lambda root: documents(root, lambda what: None, step=1)
    ),
}


@pytest.mark.parametrize("name", COMMITS)
def test_the_power_goes(tmp_path, name):
    assert cut(COMMITS[name], tmp_path, every=9) > 20


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMITS)
def test_the_power_goes_at_every_moment(tmp_path, name, capsys):
    states = cut(COMMITS[name], tmp_path, random_cuts=8)
    with capsys.disabled():
        print(f"\n{name}: {states} states")


@pytest.mark.parametrize("name", COMMITS)
def test_disks_that_forget_to_sync_are_found_out(tmp_path, name):
    """The model is a test only if it fails without what it asks for."""
    with pytest.raises((AssertionError, FusionError, ValueError)):
        cut(COMMITS[name], tmp_path, every=5, lose=("fsync",))
