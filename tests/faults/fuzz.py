"""Fuzzing of every parser of other people's bytes: `tests.faults.parsers` names them.

    python -m tests.faults.fuzz                             a minute over all of them
    python -m tests.faults.fuzz store 'label pngs' --seconds 3600 --seed 7

An input is a valid sample with a few edits (`tests.faults.mutate`), the same for the same seed and
number. It is read, or refused by one error of this library; anything else is a crash: an error of
another library, a warning, RecursionError, MOST seconds, MORE bytes of memory, a signal, and of
what is checksummed other content than was written. Inputs run in a child process, which may die.
What crashed is kept in a folder (--keep), one of a kind; once mended it goes into
tests/faults/corpus, whose files are read by CI for ever.

Where `atheris` is installed (`pip install atheris`; no test needs it) it chooses the inputs, by
what they reach: `tests.faults.guided`. --own does without.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import json
import os
import random
import re
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from fusion.errors import FusionError
from tests.faults import guided
from tests.faults.mutate import mutated
from tests.faults.parsers import PARSERS, Parser

CORPUS, ROOT = Path(__file__).with_name("corpus"), Path(__file__).parents[2]
MORE = 1 << 30  # bytes of address space beyond what the libraries take
MOST = 5  # seconds of an input
SILENT = 120  # seconds after which a child is taken to hang in somebody's C
START = 600  # that libraries may take to load where a machine is busy
READ, REFUSED = "read", "refused"
Files = dict[str, bytes]


class Slow(BaseException):
    """An input took too long."""


def slug(name: str) -> str:
    """A row's name as a folder's."""
    return re.sub("[^a-z0-9.]+", "-", name)


@functools.cache
def sample(parser: Parser) -> tuple[str, Files]:
    """What a row's sample opens, below its folder, and all its files."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        opened = parser.make(folder).relative_to(folder)
        files = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return str(opened), {str(path.relative_to(folder)): path.read_bytes() for path in files}


def laid(files: Files, folder: Path) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def edited(files: Files, name: str, seed: int, number: int) -> tuple[Files, bool]:
    """An input: the files that differ from the sample, and whether checksums are to be mended."""
    draw = random.Random(f"{name} {seed} {number}")
    chosen = draw.sample(sorted(files), min(len(files), draw.choice((1, 1, 1, 2))))
    return {each: mutated(files[each], each, draw) for each in chosen}, draw.random() < 0.6


def attempt(parser: Parser, path: Path) -> tuple[str, object]:
    """READ with what was read, REFUSED with the error's text, or else what went wrong."""
    signal.signal(signal.SIGPROF, _slow)  # of the processor: machines are busy
    signal.setitimer(signal.ITIMER_PROF, MOST)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return READ, parser.read(path)
    except FusionError as error:
        if _memory(error):
            return "memory", "".join(traceback.format_exception(error))
        return REFUSED, str(error)
    except (Exception, Slow) as error:
        return type(error).__name__, "".join(traceback.format_exception(error))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _slow(*_: object) -> None:
    raise Slow


def _memory(error: BaseException | None) -> bool:
    """Whether an error is one of memory, politely said: it was asked for before it was checked."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def tried(
    parser: Parser, opened: str, files: Files, changed: Files, mend: bool, clean: object
) -> tuple[str, object]:
    """The outcome of one input."""
    with tempfile.TemporaryDirectory() as place:
        laid(files | changed, Path(place))
        if mend and parser.mend is not None:
            with contextlib.suppress(Exception):  # what is none any more has no checksums
                parser.mend(Path(place) / opened)
        outcome, what = attempt(parser, Path(place) / opened)
        if outcome == READ and parser.exact and not mend and what != clean:
            return "silently other", f"{what!r:.500}\nwhere {clean!r:.500}"
        return outcome, what


Row = tuple[Parser, str, Files, object]  # what its sample opens, its files, what is read of them


def prepared(names: Sequence[str]) -> list[Row]:
    """Rows to try inputs of; from then on this process takes only MORE memory."""
    rows = []
    for name in names:
        parser = PARSERS[name]
        opened, files = sample(parser)
        with tempfile.TemporaryDirectory() as place:
            laid(files, Path(place))
            clean = attempt(parser, Path(place) / opened)
        assert clean[0] == READ, (name, clean)
        rows.append((parser, opened, files, clean[1]))
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MORE, size + MORE))
    return rows


def told(voice: IO[str], row: Row, at: int, changed: Files, mend: bool) -> None:
    """Tries an input, a line of JSON before and after."""
    parser, opened, files, clean = row
    content = {name: base64.b64encode(each).decode() for name, each in changed.items()}
    said = {"name": parser.name, "at": at, "changed": content}
    print(json.dumps(said), file=voice, flush=True)
    outcome, what = tried(parser, opened, files, changed, mend, clean)
    wrong = {} if outcome in (READ, REFUSED) else {"what": str(what)}
    print(json.dumps({"outcome": outcome, **wrong}), file=voice, flush=True)


def child(names: Sequence[str], seed: int, first: int, number: int, guide: Path | None) -> None:
    """Tries inputs of rows: chosen by draws, or by atheris, which keeps some in a folder."""
    voice = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries and libFuzzer have their say elsewhere
    if guide is None:
        rows = prepared(names)
        for at in range(first, first + number):
            for row in rows:
                told(voice, row, at, *edited(row[2], row[0].name, seed, at))
        return
    import atheris

    with atheris.instrument_imports(include=["fusion"]):
        rows = prepared(names)
    crashed = [sorted((CORPUS / slug(name)).glob("*")) for name in names]
    samples = [(row[0].name, row[2], some) for row, some in zip(rows, crashed, strict=True)]
    guided.run(samples, seed, first, number, guide, lambda n, *how: told(voice, rows[n], *how))


@dataclass
class Hunt:
    """Inputs of rows, tried by children of this process.

    Args:
        names: of rows.
        seed: of all inputs.
        keep: folder for what crashed, and for what a guide keeps.
        guided: whether atheris chooses the inputs.
        until: time by the clock at which to stop; 0 for never.

    Attributes:
        counts: of outcomes.
        crashes: a line for each kind of them, the first of which is kept.
    """

    names: Sequence[str]
    seed: int
    keep: Path
    guided: bool = False
    until: float = 0
    counts: Counter[str] = field(default_factory=Counter)
    crashes: dict[object, str] = field(default_factory=dict)

    def run(self, first: int, number: int) -> None:
        """So many inputs, of each row where none guides, from the first on."""
        while number > 0:
            at, died = self._child(first, number)
            if not died:
                return
            if at is None:
                raise RuntimeError(f"no input could be tried; see {self.keep / 'child.log'}")
            first, number = at + 1, number - (at + 1 - first)

    def _child(self, first: int, number: int) -> tuple[int | None, bool]:
        """One child until it ends: its last input, and whether it died of that."""
        how = ["--child", "--seed", str(self.seed), "--first", str(first), "--inputs", str(number)]
        how += ["--guide", str(self.keep / "kept-by-atheris")] if self.guided else []
        command = [sys.executable, "-m", "tests.faults.fuzz", *self.names, *how]
        last: dict[str, Any] = {"at": None}
        self.keep.mkdir(parents=True, exist_ok=True)
        with (
            (self.keep / "child.log").open("ab") as log,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT
            ) as running,
        ):
            for line in _lines(running, self.until):
                said = json.loads(line)
                if "name" in said:
                    last = said
                    continue
                self.counts[said["outcome"]] += 1
                if "what" in said:
                    self._crashed(last, said["outcome"], said["what"])
            running.kill()
        if (self.until and time.monotonic() >= self.until) or running.returncode == 0:
            return last["at"], False
        if last["at"] is not None:
            self.counts["died"] += 1
            what = f"exit code {running.returncode}: a signal, or a hang"
            self._crashed(last, "died", what)
        return last["at"], True

    def _crashed(self, last: dict[str, Any], outcome: str, what: str) -> None:
        """Keeps an input that crashed, the first of its kind."""
        name, at = last["name"], last["at"]
        kind = name, outcome, *re.findall(r'File "(.*?)", line (\d+)', what)[-1:]
        if kind in self.crashes:
            return
        place = self.keep / slug(name) / f"{self.seed}-{at}"
        shutil.rmtree(place, ignore_errors=True)
        laid({each: base64.b64decode(raw) for each, raw in last["changed"].items()}, place)
        (place / "crash.txt").write_text(f"{outcome}\n{what}", errors="backslashreplace")
        line = what.strip().splitlines()[-1] if what.strip() else ""
        self.crashes[kind] = f"{name}, input {at} of seed {self.seed}: {outcome}: {line[:160]}"


def _lines(running: subprocess.Popen[str], until: float) -> Iterator[str]:
    """The child's lines, until it ends, is silent for too long, or time is up."""
    assert running.stdout is not None
    begun = False
    with selectors.DefaultSelector() as ready:
        ready.register(running.stdout, selectors.EVENT_READ)
        while not until or time.monotonic() < until:
            if not ready.select(SILENT if begun else START):
                return
            begun, line = True, running.stdout.readline()
            if not line:
                running.wait()
                return
            yield line


def main(arguments: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", help="of rows (default: all)")
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--first", type=int, default=0, help="input to begin with")
    options.add_argument("--inputs", type=int, default=10**6, help="of each row, at most")
    options.add_argument("--keep", type=Path, default=Path("crashers"))
    options.add_argument("--own", action="store_true", help="own draws where atheris is installed")
    options.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--guide", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args(arguments)
    names = [n for n in PARSERS if not given.names or any(n.startswith(g) for g in given.names)]
    if given.child:
        child(names, given.seed, given.first, given.inputs, given.guide)
        return 0
    by_atheris = not given.own and find_spec("atheris") is not None
    until = time.monotonic() + given.seconds
    hunt = Hunt(names, given.seed, given.keep, by_atheris, until)
    hunt.run(given.first, given.inputs)
    for crash in hunt.crashes.values():
        print(crash)
    shown = ", ".join(f"{count:,} {outcome}" for outcome, count in hunt.counts.most_common())
    guide = ", chosen by atheris" if by_atheris else ""
    print(f"{hunt.counts.total():,} inputs of {len(names)} parsers{guide}: {shown or 'none'}")
    return 1 if hunt.crashes else 0


if __name__ == "__main__":
    sys.exit(main())
