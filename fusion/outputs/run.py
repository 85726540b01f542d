"""Writing outputs: everything is checked before anything is worked out, then unit by unit.

Without flags nothing may be there. `resume` keeps what is there if it is of this very ensemble and
these options, and writes the rest. `overwrite` replaces file by file; what is of another ensemble
is removed first, so that a run which stops half-way leaves no mixture that looks like one result.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fusion.errors import InputError, StoreError
from fusion.files import check_folder, refusals
from fusion.outputs.content import Content, Stored, Tick, regions_of
from fusion.outputs.output import Output, Part
from fusion.outputs.record import add_to_record, digests, read_record
from fusion.outputs.registry import output_of
from fusion.outputs.strangers import refuse_strangers
from fusion.outputs.unit import Unit, units_of
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
    content = Content(ensemble, asked, regions_of(compose, ensemble.channels), stored)
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
    output.start(out, content, units, overwrite=overwrite)
    add_to_record(out, output, known)
    left = sum(len(part.frames) for _, parts in todo for part in parts)
    with ticking(progress or silent, left) as tick:
        for unit, parts in todo:
            # what `resume` writes again was no whole file
            replaces = overwrite or resume
            output.write(out, unit, parts, replace(content, tick=tick), overwrite=replaces)
    written = Written(left, kept)
    own = (name for unit in units for part in output.parts(unit) for name in part.files)
    written.files = (*own, *(name for name in output.shared if os.path.lexists(out / name)))
    return written


@contextlib.contextmanager
def ticking(progress: Progress, total: int) -> Iterator[Tick]:
    """A bar over frames, each of which counts once, however often it is worked out."""
    steps, seen = iter(progress(range(total), "predicting", total)), set[tuple[str, str]]()

    def tick(video: str, frame: str) -> None:
        if (video, frame) not in seen:
            seen.add((video, frame))
            next(steps, None)

    try:
        next(steps, None)  # what has been given out is counted when the next one is asked for
        yield tick
    finally:
        if isinstance(steps, Generator):
            steps.close()


def plan(
    out: Path, output: Output, units: Sequence[Unit], known: Mapping[str, str], mode: Mode
) -> tuple[list[tuple[Unit, list[Part]]], int]:
    """(unit, parts) to be written, and how many frames are there already."""
    check_folder(out)
    parts = {unit: output.parts(unit) for unit in units}
    _check_names([name for each in parts.values() for part in each for name in part.files])
    record, todo, kept = read_record(out, output), [], 0
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
    for unit, each in parts.items():
        left = [part for part in each if not (mode.resume and _is_done(out, output, part))]
        kept += len(unit.frames) - sum(len(part.frames) for part in left)
        if left:
            todo.append((unit, left))
    return todo, kept


def _other(record: Mapping[str, str], known: Mapping[str, str], unit: Unit) -> bool:
    return record.get(unit.video) != known[unit.video]


def _is_done(out: Path, output: Output, part: Part) -> bool:
    paths = [out / name for name in part.files]
    return all(os.path.lexists(path) and output.is_whole(path) for path in paths)


def _there(out: Path, output: Output, parts: Sequence[Part]) -> list[str]:
    """Names of a unit that are taken; StoreError for what is never replaced."""
    taken = []
    for folder in {parent for part in parts for name in part.files for parent in _folders(name)}:
        if (out / folder).is_symlink():
            advice = "outputs are written into plain folders, remove it"
            raise StoreError(f"{out / folder}: is a link; {advice}")
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
