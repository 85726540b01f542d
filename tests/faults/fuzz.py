"""Fuzzing of every parser of other people's bytes: `tests.faults.parsers` names them.

    python -m tests.faults.fuzz                             a minute over all of them
    python -m tests.faults.fuzz store 'label pngs' --seconds 3600 --seed 7

An input is a valid sample with a few edits (`tests.faults.mutate`), the same for the same seed and
number. It is read, or refused by one error of this library; anything else is a crash: an error of
another library, a warning, RecursionError, MOST seconds, MORE bytes of memory, a signal, and of
what is checksummed other content than was written. Inputs run in a child process, which may die.
What crashed is kept in a folder (--keep); once mended it goes into tests/faults/corpus, whose files
are read by CI for ever.
"""

from __future__ import annotations

import argparse
import contextlib
import json
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
from pathlib import Path
from typing import Any

from fusion.errors import FusionError
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


def child(names: Sequence[str], seed: int, first: int, number: int) -> None:
    """Tries inputs of rows, a line of JSON before and after each."""
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
    for at in range(first, first + number):
        for parser, opened, files, clean in rows:
            print(json.dumps({"name": parser.name, "at": at}), flush=True)
            changed, mend = edited(files, parser.name, seed, at)
            outcome, what = tried(parser, opened, files, changed, mend, clean)
            said = {} if outcome in (READ, REFUSED) else {"what": str(what)}
            print(json.dumps({"outcome": outcome, **said}), flush=True)


def fuzz(
    names: Sequence[str], seed: int, first: int, number: int, keep: Path, until: float = 0
) -> tuple[Counter[str], list[str]]:
    """Outcomes of so many inputs of each row, and a line for each crash, which is kept.

    Args:
        names: of rows.
        seed: of all inputs.
        first, number: which of them.
        keep: folder for what crashed.
        until: time by the clock at which to stop; 0 for never.
    """
    counts: Counter[str] = Counter()
    crashes: list[str] = []
    left = list(names)
    while left and number > 0:
        at, culprit, done = _watched(left, seed, first, number, keep, until, counts, crashes)
        if done:
            break
        first, number = at + 1, number - (at + 1 - first)
        if culprit is None:
            break
    return counts, crashes


def _watched(
    names: Sequence[str],
    seed: int,
    first: int,
    number: int,
    keep: Path,
    until: float,
    counts: Counter[str],
    crashes: list[str],
) -> tuple[int, str | None, bool]:
    """One child until it ends: the last input, of which row, and whether all was done."""
    how = ["--child", "--seed", str(seed), "--first", str(first), "--inputs", str(number)]
    command = [sys.executable, "-m", "tests.faults.fuzz", *names, *how]
    last: dict[str, Any] = {"name": None, "at": first}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as running:
        assert running.stdout is not None
        for line in _lines(running, until):
            said = json.loads(line)
            if "name" in said:
                last = said
                continue
            counts[said["outcome"]] += 1
            if "what" in said:
                crashes.append(_kept(keep, last, seed, said["outcome"], said["what"]))
        running.kill()
    if (until and time.monotonic() >= until) or running.returncode == 0:
        return last["at"], None, True
    code = running.returncode
    counts["died"] += 1
    crashes.append(_kept(keep, last, seed, "died", f"exit code {code}: a signal, or a hang"))
    return last["at"], last["name"], False


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


def _kept(keep: Path, last: dict[str, Any], seed: int, outcome: str, what: str) -> str:
    """Keeps an input that crashed; the line that tells of it."""
    name, at = last["name"], last["at"]
    if name is None:
        return f"no input: {outcome}: {what}"
    _, files = sample(PARSERS[name])
    place = keep / slug(name) / f"{seed}-{at}"
    shutil.rmtree(place, ignore_errors=True)
    laid(edited(files, name, seed, at)[0], place)
    (place / "crash.txt").write_text(f"{outcome}\n{what}", errors="backslashreplace")
    line = what.strip().splitlines()[-1] if what.strip() else ""
    return f"{name}, input {at} of seed {seed}: {outcome}: {line[:160]}"


def main(arguments: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("names", nargs="*", help="of rows (default: all)")
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--first", type=int, default=0, help="input to begin with")
    options.add_argument("--inputs", type=int, default=10**6, help="of each row, at most")
    options.add_argument("--keep", type=Path, default=Path("crashers"))
    options.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args(arguments)
    names = [n for n in PARSERS if not given.names or any(n.startswith(g) for g in given.names)]
    if given.child:
        child(names, given.seed, given.first, given.inputs)
        return 0
    until = time.monotonic() + given.seconds
    counts, crashes = fuzz(names, given.seed, given.first, given.inputs, given.keep, until)
    for crash in crashes:
        print(crash)
    shown = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.most_common())
    print(f"{sum(counts.values()):,} inputs of {len(names)} parsers: {shown or 'none'}")
    return 1 if crashes else 0


if __name__ == "__main__":
    sys.exit(main())
