"""The n-th call to the disk fails, for n = 1 .. until the work is done before it is reached.

Whatever fails: the work succeeds, or raises one library error that names a place below the root and
has the disk's own error as its cause; what was committed before is sound; the same work, done
again, leaves the bytes of a clean run; and what is left over is swept.
"""

from __future__ import annotations

import os
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import dask
import numpy as np
import pytest

import fusion
from fusion import files, tensors
from fusion.contested import condense
from fusion.contested.cache import CondensedCache
from fusion.errors import FusionError
from fusion.predict import main as predict_main
from fusion.report import page, write_report
from fusion.report.figures import Drawing
from fusion.search import journal_file
from fusion.search.__main__ import main as search_main
from fusion.stores import pack_writer, video_writer
from fusion.stores.maintenance import gc, verify
from tests.conftest import class_names, random_logits
from tests.faults.layer import DEATHS, KINDS, Fault, Killed, faults
from tests.samples import write_sample

Tree = dict[str, bytes]
GROUPS, CLASSES = ("one", "two", "three"), tuple(class_names(4))
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


@contextmanager
def threads_of_its_own() -> Iterator[None]:
    """No thread outlives its process: what others were at when one failed is waited for."""
    with ThreadPoolExecutor(2) as pool, dask.config.set(pool=pool):
        yield


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
        place.mkdir(parents=True)
        work.prepare(place)
    work.do(clean)
    expected, n, struck = work.of(clean), 1, 0
    while True:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(start, root)
        fault = Fault(n, kind, forever)
        with within(LONGEST), faults(root, fault) as layer, threads_of_its_own():
            said = attempt(work, root)
        files._TIDIED.clear()  # as another process would begin
        where = f"{fault}: {layer.struck}"
        if not layer.reached:
            assert said is None, where
            break
        if isinstance(said, Exception):
            # InputError: of files that the caller gave, such as an ensemble's
            assert isinstance(said, FusionError), (where, said)
            assert str(root) in str(said), (where, said)
            assert "\n" not in str(said), (where, said)
            cause = [each for each in causes(said) if not isinstance(each, FusionError)]
            assert any(isinstance(each, OSError) for each in cause), (where, said, cause)
        assert isinstance(said, Killed) == (kind in DEATHS), (where, said)
        work.sound(root)
        with within(LONGEST):
            work.do(root)
        work.sweep(root)
        assert work.of(root) == expected, where
        assert not leftovers(root), (where, leftovers(root))
        n, struck = n + every, struck + 1
    return struck


def attempt(work: Work, root: Path) -> BaseException | None:
    try:
        work.do(root)
    except (Exception, Killed) as error:
        return error
    return None


def leftovers(root: Path) -> list[str]:
    """What nobody finds and nobody takes away."""
    known = (".predicted.json", ".predicted.seals")
    hidden = [path for path in root.rglob(".*") if path.name not in known]
    return [str(path) for path in hidden if path.name != files.STAGING or os.listdir(path)]


# --- stores


@pytest.fixture(autouse=True)
def same_facts(monkeypatch):
    """Commits say who wrote them and when; here nobody, never."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # a call like others, but slow
    monkeypatch.setattr(journal_file, "GRACE", 3)  # below that Optuna warns
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


# --- what is made of stores


def sample(root: Path) -> None:
    toml = write_sample(root)
    toml.write_text(toml.read_text().replace(f"{root}/", ""))


def zipped(root: Path) -> Tree:
    """The same, but that zips say when they were made."""
    found = of("out")(root)
    with zipfile.ZipFile(root / "out.zip") as archive:
        return found | {f"zip/{name}": archive.read(name) for name in archive.namelist()}


def of(*names: str) -> Callable[[Path], Tree]:
    """The part of a folder that clean runs agree on: files of these names, or below them."""

    def some(root: Path) -> Tree:
        return {
            name: content
            for name, content in tree(root).items()
            if any(name == each or name.startswith(f"{each}/") for each in names)
        }

    return some


def searched(root: Path, *said: str) -> None:
    given = ["--ensemble", str(root / "ensemble.toml"), "--labels", str(root / "labels")]
    search_main([*given, "--out", str(root / "out"), "--folds", "0", *said])


def grid(root: Path) -> None:
    searched(root, "--method", "grid")


def exact(root: Path) -> None:
    searched(root, "--method", "exact", "--certify", "0")


def optuna(root: Path) -> None:
    storage = f"journal:{root / 'study.log'}"
    searched(root, "--method", "optuna", "--trials", "3", "--storage", storage)


def trials(root: Path) -> Tree:
    """How many there are: which ones depends on those before."""
    return {"trials": b"x" * len((root / "out" / "trials.csv").read_bytes().splitlines())}


def predicted(root: Path, *said: str) -> None:
    given = ["--ensemble", str(root / "ensemble.toml"), "--out", str(root / "out")]
    predict_main([*given, "--resume", *said])


def reported(root: Path) -> None:
    """As far as files go: what is drawn takes seconds."""
    drawn = Drawing("<svg/>", b"png", "<svg/>", "<svg/>")
    with mock.patch.object(page, "draw", return_value=drawn):
        write_report(root / "out")


def condensed(root: Path) -> None:
    cache = CondensedCache(root / "cache", "digest", GROUPS, CLASSES)
    for video in cache.missing(list(CLIPS)):
        targets = np.arange(6).astype(np.uint8) % 4
        means = np.exp(CLIPS[video][:, :, 0]).reshape(3, 4, -1) * np.ones((3, 4, 6), np.float32)
        cache.write(video, [condense(means / means.sum(1, keepdims=True), targets, 4, ignore=255)])
    cache.load(list(CLIPS))


def checkpoint(root: Path, step: int = 2) -> None:
    tensors.write(root / "run" / "checkpoint", {"a": np.full(50, step)}, {"step": step})


def a_checkpoint(root: Path) -> None:
    _, document = tensors.load(root / "run" / "checkpoint")
    assert document["step"] in (1, 2)


WORKS = {
    "store": Work(write, sweep=sweep),
    "exact store": Work(lambda root: write(root, "exact"), sweep=sweep),
    "resumed store": Work(
        write,
        prepare=lambda root: write(root, clips={"a": CLIPS["a"]}),
        sound=first_sound,
        sweep=sweep,
    ),
    "packed store": Work(write_packed, sweep=sweep),
    "overwritten store": Work(
        lambda root: write(root, clips=OTHER, overwrite=True),
        prepare=write,
        sound=either_sound,
        sweep=sweep,
    ),
    "condensed cache": Work(condensed),
    "checkpoint": Work(checkpoint, prepare=lambda root: checkpoint(root, 1), sound=a_checkpoint),
    "gc": Work(sweep, prepare=leave_staging, sound=either_sound),
}

FOUND = ("best.json", "recommended.json", "trials.csv", "condensed")
OUT = of(*(f"out/{name}" for name in FOUND))
# these take longer
LONG_WORKS = {
    "search": Work(grid, prepare=sample, of=OUT),
    "exact search": Work(exact, prepare=sample, of=OUT),
    "optuna": Work(optuna, prepare=sample, of=trials),
    "png and zip": Work(lambda root: predicted(root, "--zip"), prepare=sample, of=zipped),
    "npy": Work(lambda root: predicted(root, "--format", "npy"), prepare=sample, of=of("out")),
    "zarr": Work(
        lambda root: predicted(root, "--format", "zarr"),
        prepare=sample,
        of=of("out"),
        sweep=lambda root: files.sweep(root / "out"),  # as the next unit's writer would
    ),
    "report": Work(reported, prepare=lambda root: (sample(root), grid(root)), of=of("out/figures")),
}


FAR = 29  # steps of the bounded loops; the first call is always among them


@pytest.mark.parametrize("name", WORKS)
def test_some_calls_fail(tmp_path, name):
    for step, kind in enumerate(KINDS):
        strikes(WORKS[name], tmp_path / str(step), kind, forever=step % 2 == 1, every=FAR)


@pytest.mark.parametrize("name", LONG_WORKS)
def test_a_call_of_the_commands_fails(tmp_path, name, capsys):
    for kind in ("ENOSPC", "killed"):
        strikes(LONG_WORKS[name], tmp_path / kind, kind, forever=True, every=150)


ONCE = [(kind, False) for kind in KINDS]
FOREVER = [(kind, True) for kind in KINDS if kind not in DEATHS]  # which are for ever


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "forever"), ONCE + FOREVER)
@pytest.mark.parametrize("name", [*WORKS, *LONG_WORKS])
def test_every_call_fails(tmp_path, name, kind, forever, capsys):
    works = WORKS | LONG_WORKS
    struck = strikes(works[name], tmp_path, kind, forever=forever)
    with capsys.disabled():
        print(f"\n{name}, {kind}{' for ever' * forever}: {struck} calls")
