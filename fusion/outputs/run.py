"""Writing outputs: everything is checked before anything is worked out, then unit by unit.

Without flags nothing may be there. `resume` keeps what is there if it is of this very ensemble and
these options, and writes the rest. `overwrite` replaces file by file; what is of another ensemble
is removed first, so that a run which stops half-way leaves no mixture that looks like one result.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fusion import plain
from fusion.arguments import checked
from fusion.errors import InputError, StoreError
from fusion.files import refusals, sweep
from fusion.outputs.content import Content, Stored, Tick, regions_of
from fusion.outputs.output import Output, Part
from fusion.outputs.record import (
    add_sealed,
    add_to_record,
    digests,
    read_record,
    seals_of,
)
from fusion.outputs.registry import output_of
from fusion.outputs.seals import check_places, is_sealed, tidy
from fusion.outputs.strangers import refuse_strangers
from fusion.outputs.unit import Unit, units_of
from fusion.parallel import map_videos
from fusion.progress import Progress, silent
from fusion.stores.locations import is_url, location_of

if TYPE_CHECKING:
    from fusion.ensemble import Ensemble

FLAGS = "give overwrite= or resume= to replace or keep what is there"


class Counts(NamedTuple):
    """Of frames: written, and there already."""

    frames: int
    kept: int


class Written(Counts):
    """The two counts, and the files below the output folder that are these frames', in order."""

    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mode:
    """Whether what is there is replaced, or kept; neither: nothing may be there."""

    overwrite: bool
    resume: bool


@checked
def write(
    ensemble: Ensemble,
    out: str | Path,
    format: str | Output = "png",
    *,
    videos: Sequence[str] | None = None,
    probabilities: bool = False,
    overwrite: bool = False,
    resume: bool = False,
    stored: Stored | None = None,
    compose: Mapping[str, int] | None = None,
    scheduler: str = "synchronous",
    progress: Progress | None = None,
    **options: Any,
) -> Written:
    """Writes what an ensemble predicts.

    Args:
        ensemble: an `Ensemble`.
        out: the output folder.
        format: a key of OUTPUTS, or an `Output`.
        videos: ids; default all.
        probabilities: fused probabilities, float32, in the place of label maps (nnunet: beside
            them).
        overwrite: replace files that are there (a link, not its target; a folder never).
        resume: keep files that are there and are this ensemble's, write the rest.
        stored: what is written in the place of a label map uint8 or uint16 [H, W] (of channels that
            are not composed: masks [C, H, W]): raw ids, uint8 or uint16 [H, W], or colours uint8
            [H, W, 3].
        compose: of independent channels: name -> id. Regions are painted in the order of the
            channels into one label map, 0 elsewhere.
        scheduler: Dask's "threads", "processes", "synchronous", or a cluster's address; the files
            are the same byte for byte.
        progress: shows the frames that are left.
        options: the format's own.

    Returns:
        How many frames were written, and how many were there already; `.files` are all of theirs.

    Raises:
        InputError: what the format cannot hold, ids that cannot be file names; before any work.
        StoreError: something is there already, or the disk refuses.
    """
    if overwrite and resume:
        raise InputError("got overwrite= and resume=; choose one of the two")
    out, output, mode = Path(out), output_of(format, **options), Mode(overwrite, resume)
    if is_url(out):
        got = f"out: got {location_of(out)}"
        raise InputError(f"{got}; outputs are written to a folder, give one and copy it")
    asked = probabilities or output.is_probabilities
    worker = ensemble if scheduler == "synchronous" else ensemble.sharing(scheduler)
    regions = regions_of(compose, ensemble.channels)
    content = Content(worker, asked, regions, stored, scheduler=scheduler)
    if asked and stored is not None and not output.beside:
        raise InputError("stored: probabilities are no label maps; leave one of the two out")
    every = units_of(ensemble, ensemble.videos)
    output = output.prepared(content, every)
    units = units_of(ensemble, ensemble.videos if videos is None else videos)
    output.check(content, units)
    known = digests(output, content, units)
    output.look(out, content)
    todo, kept = plan(out, output, units, known, mode)
    refuse_strangers(out, output, every)
    with refusals(out):
        out.mkdir(parents=True, exist_ok=True)
    # nobody may come to write again beside the files that are kept
    places = (out / name for unit in units for part in output.parts(unit) for name in part.files)
    for folder in sorted({place.parent for place in places}) if resume else ():
        sweep(folder)
    output.start(out, content, units, overwrite=overwrite)
    add_to_record(out, output, known)
    left = {unit.video: [f for part in parts for f in part.frames] for unit, parts in todo}
    total = sum(map(len, left.values()))
    with ticking(progress or silent, total) as tick:

        def take(video: str, _: None) -> None:
            for frame in left[video]:
                tick(video, frame)

        here = scheduler in ("threads", "synchronous")  # others cannot tell of single frames
        telling = replace(content, tick=tick) if here else content
        task = WriteUnit(out, output, telling, mode, known)
        map_videos(task, list(left), scheduler=scheduler, take=take)
    if output.hidden:
        tidy(out)
    written = Written(total, kept)
    own = (name for unit in units for part in output.parts(unit) for name in part.files)
    written.files = (*own, *(name for name in output.shared if os.path.lexists(out / name)))
    return written


@dataclass(frozen=True)
class WriteUnit:
    """The task of one video: its files, or those that are left of them.

    known: digests by video, as they stand in the folder's record.
    """

    out: Path
    output: Output
    content: Content
    mode: Mode
    known: Mapping[str, str]

    def ready(self) -> None:
        """StoreError on a machine that does not see the folder: outputs would be lost there."""
        record = read_record(self.out, self.output)
        if any(record.get(video) != digest for video, digest in self.known.items()):
            raise StoreError(f"{self.out}: is not the folder that outputs go to")

    def __call__(self, video: str) -> None:
        (unit,) = units_of(self.content.ensemble, [video])
        seals = self._seals if self.mode.resume else frozenset()
        parts = left_of(self.out, self.output, unit, self.known[video], seals)
        if not parts:
            return
        # what `resume` writes again was no whole file; a worker that died may have left some
        again = self.content.scheduler not in ("threads", "synchronous")
        replaces = self.mode.overwrite or self.mode.resume or again
        names, told = [name for part in parts for name in part.files], set[str]()
        check_places(self.out, names)

        def sealed(some: Sequence[str]) -> None:
            told.update(some)
            add_sealed(self.out, self.output, some, self.known[video])

        content = replace(self.content, sealed=sealed)
        self.output.write(self.out, unit, parts, content, overwrite=replaces)
        if rest := [name for name in names if name not in told]:
            sealed(rest)

    @cached_property
    def _seals(self) -> frozenset[str]:
        return seals_of(self.out, self.output)


@contextlib.contextmanager
def ticking(progress: Progress, total: int) -> Iterator[Tick]:
    """A bar over frames, each of which counts once, however often it is worked out.

    Threads may tick; those that do so after the end of a run that was stopped are stopped as well.
    """
    steps, seen = iter(progress(range(total), "predicting", total)), set[tuple[str, str]]()
    one, ended = threading.RLock(), threading.Event()

    def tick(video: str, frame: str) -> None:
        with one:
            if ended.is_set():
                raise KeyboardInterrupt
            if (video, frame) not in seen:
                seen.add((video, frame))
                next(steps, None)

    try:
        next(steps, None)  # what has been given out is counted when the next one is asked for
        yield tick
    finally:
        with one:
            ended.set()
            if isinstance(steps, Generator):
                steps.close()


def plan(
    out: Path, output: Output, units: Sequence[Unit], known: Mapping[str, str], mode: Mode
) -> tuple[list[tuple[Unit, list[Part]]], int]:
    """(unit, parts) to be written, and how many frames are there already."""
    plain.check_writable(out)
    parts = {unit: output.parts(unit) for unit in units}
    _check_names([name for each in parts.values() for part in each for name in part.files])
    record, todo, kept = read_record(out, output), [], 0
    seals = seals_of(out, output) if mode.resume else frozenset()
    there = {unit: _there(out, output, each) for unit, each in parts.items()}
    if not (mode.overwrite or mode.resume) and any(there.values()):
        names = [name for each in there.values() for name in each]
        more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        raise StoreError(f"{out / names[0]}: exists{more}; {FLAGS}")
    foreign = [unit for unit, names in there.items() if names and _other(record, known, unit)]
    if foreign and mode.resume:
        what = "is of another ensemble, other options or another version"
        path = out / there[foreign[0]][0]
        raise StoreError(f"{path}: {what}; give overwrite= or another folder")
    for unit in foreign:
        for name in there[unit]:
            output.remove(out / name)
    for unit in parts:
        left = left_of(out, output, unit, known[unit.video], seals)
        kept += len(unit.frames) - sum(len(part.frames) for part in left)
        if left:
            todo.append((unit, left))
    return todo, kept


def left_of(
    out: Path, output: Output, unit: Unit, digest: str, seals: frozenset[str]
) -> list[Part]:
    """Parts of a unit that are to be written: not all of their files have a seal."""

    def done(name: str) -> bool:
        return is_sealed(seals, out, name, digest)

    return [part for part in output.parts(unit) if not (seals and all(map(done, part.files)))]


def _other(record: Mapping[str, str], known: Mapping[str, str], unit: Unit) -> bool:
    return record.get(unit.video) != known[unit.video]


def _there(out: Path, output: Output, parts: Sequence[Part]) -> list[str]:
    """Names of a unit that are taken; StoreError for what is never replaced."""
    taken = []
    check_places(out, [name for part in parts for name in part.files])
    for name in (name for part in parts for name in part.files):
        if os.path.lexists(out / name):
            if not output.is_mine(out / name):
                raise StoreError(f"{out / name}: is taken by a folder; remove it")
            taken.append(name)
    return taken


def _folders(name: str) -> list[str]:
    return [str(parent) for parent in Path(name).parents][:-1]


def _check_names(names: Sequence[str]) -> None:
    """No two units may become one file, nor one the folder of another's."""
    folders = {folder for name in names for folder in _folders(name)}
    clash = next((name for name in names if name in folders), None)
    if clash is not None or len(set(names)) != len(names):
        twice = clash or next(name for name in names if names.count(name) > 1)
        raise InputError(f"{twice} would stand for two units; choose other ids or another format")
