"""The n-th call to the disk fails, for n = 1 .. until the work is done before it is reached.

Whatever fails: the work succeeds, or raises one library error that names a place below the root and
has the disk's own error as its cause; what was committed before is sound; the same work, done
again, leaves the bytes of a clean run; and what is left over is swept.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import fusion
from fusion import files, tensors
from fusion.contested.cache import CondensedCache
from fusion.errors import StoreError
from fusion.stores import pack_writer, video_writer
from fusion.stores.maintenance import gc, verify
from tests.conftest import class_names, random_logits
from tests.faults.layer import DEATHS, KINDS, Fault, Killed, faults

Tree = dict[str, bytes]
LONGEST = 60  # seconds of one try: anything longer is a hang
CLIPS = {video: random_logits(3, 4, 5, 6, seed=k) for k, video in enumerate("ab")}
OTHER = {video: random_logits(3, 4, 5, 6, seed=9 + k) for k, video in enumerate("ab")}


def tree(root: Path) -> Tree:
    """Files below a folder but for what is swept; folders too, which count as no bytes."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if files.STAGING not in name and not path.is_dir():
            found[name] = path.read_bytes()
    return found


@contextmanager
def within(seconds: int) -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f"hangs: more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def causes(error: BaseException) -> Iterator[BaseException]:
    while error.__cause__ is not None:
        error = error.__cause__
        yield error


@dataclass(frozen=True)
class Work:
    """Something that writes below a folder.

    prepare: what is there before. do: the work; again, it goes on. sound: AssertionError where what
    was committed before is not what it was. of: what of the folder a clean run always leaves.
    """

    do: Callable[[Path], object]
    prepare: Callable[[Path], object] = lambda _: None
    sound: Callable[[Path], object] = lambda _: None
    sweep: Callable[[Path], object] = lambda _: None
    of: Callable[[Path], Tree] = tree


def strikes(work: Work, folder: Path, kind: str, *, forever: bool, every: int = 1) -> int:
    """Strikes every n-th call of the work; returns how many."""
    clean, start, root = folder / "clean", folder / "start", folder / "root"
    for place in (clean, start):
        place.mkdir()
        work.prepare(place)
    work.do(clean)
    expected, n = work.of(clean), 1
    while True:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(start, root)
        fault = Fault(n, kind, forever)
        with within(LONGEST), faults(root, fault) as layer:
            said = attempt(work, root)
        where = f"{fault}: {layer.struck}"
        if not layer.reached:
            assert said is None, where
            break
        if isinstance(said, Exception):
            assert isinstance(said, StoreError), (where, said)
            assert str(root) in str(said), (where, said)
            assert "\n" not in str(said), (where, said)
            cause = [each for each in causes(said) if not isinstance(each, StoreError)]
            assert any(isinstance(each, OSError) for each in cause), (where, said, cause)
        assert isinstance(said, Killed) == (kind in DEATHS), (where, said)
        work.sound(root)
        work.do(root)
        work.sweep(root)
        assert work.of(root) == expected, where
        assert not leftovers(root), (where, leftovers(root))
        n += every
    return n // every


def attempt(work: Work, root: Path) -> BaseException | None:
    try:
        work.do(root)
    except (Exception, Killed) as error:
        return error
    return None


def leftovers(root: Path) -> list[str]:
    """What nobody finds and nobody takes away."""
    hidden = [path for path in root.rglob("*") if path.name.startswith(".")]
    return [str(path) for path in hidden if path.name != files.STAGING or os.listdir(path)]


# --- stores


@pytest.fixture(autouse=True)
def same_facts(monkeypatch):
    """Commits say who wrote them and when; here nobody, never."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # a call like others, but slow
    for module in (video_writer, pack_writer):
        monkeypatch.setattr(module, "facts", lambda array: {"dtype": array.dtype.name})


def write(root: Path, profile: str = "compact", clips=CLIPS, **how) -> None:
    writer = fusion.LogitWriter(root / "s.zarr", class_names(4), profile)
    for video, clip in clips.items():
        with writer.video(video, frames=["0", "1", "2"], **how) as out:
            out.extend(clip)


def write_packed(root: Path) -> None:
    writer = fusion.LogitWriter(root / "s.zarr", class_names(4))
    with writer.pack() as pack:
        for video, clip in CLIPS.items():
            with pack.video(video, frames=["0", "1", "2"]) as out:
                out.extend(clip)


def sweep(root: Path) -> None:
    gc(root / "s.zarr", age=0.0)


def first_sound(root: Path) -> None:
    """Video a is there, as it was written."""
    assert {"a"} <= {verdict.video for verdict in verify(root / "s.zarr") if not verdict.problem}


def either_sound(root: Path) -> None:
    """Each video is there, old or new, never neither."""
    verdicts = list(verify(root / "s.zarr"))
    assert [verdict.problem for verdict in verdicts] == [None, None]


def leave_staging(root: Path) -> None:
    write(root)
    for name in ("one", "two"):
        dead = root / "s.zarr" / files.STAGING / name
        dead.mkdir()
        (dead / files.LOCK).touch()
        (dead / "half").write_bytes(b"x" * 100)


WORKS = {
    "store": Work(write, sweep=sweep),
    "exact store": Work(lambda root: write(root, "exact"), sweep=sweep),
    "resumed store": Work(
        write, prepare=lambda root: write(root, clips={"a": CLIPS["a"]}), sound=first_sound, sweep=sweep
    ),
    "packed store": Work(write_packed, sweep=sweep),
    "overwritten store": Work(
        lambda root: write(root, clips=OTHER, overwrite=True),
        prepare=write,
        sound=either_sound,
        sweep=sweep,
    ),
    "gc": Work(sweep, prepare=leave_staging, sound=either_sound),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WORKS)
def test_some_calls_fail(tmp_path, name, kind):
    strikes(WORKS[name], tmp_path, kind, forever=False, every=7)


@pytest.mark.slow
@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WORKS)
def test_every_call_fails(tmp_path, name, kind, forever, record_property):
    record_property("struck", strikes(WORKS[name], tmp_path, kind, forever=forever))
