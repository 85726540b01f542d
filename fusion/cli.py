"""What every command shares: exit codes, the words of errors, options that several commands take.

Exit code 0 is success, 2 the caller's mistake or a damaged input (one line on stderr), 130 and 143
a stopped run, 141 a reader that left. A bar and all remarks go to stderr, results to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fusion.errors import FusionError, InputError
from fusion.labels import Labels

Main = Callable[[Sequence[str] | None], int | None]
STOPPED = "what was committed stays, run the same command to go on"
_parsers: list[argparse.ArgumentParser] = []  # every one made so far
called_as: dict[str, str] = {}  # module of a command -> its name, where not `python -m MODULE`


def run(main: Main, arguments: Sequence[str] | None = None) -> int:
    """Runs a command's main; library errors become one line on stderr and exit code 2."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return main(arguments) or 0
    except FusionError as error:
        print(f"error: {in_options(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; {STOPPED}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left; there is nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _terminate(*_: object) -> None:
    """SIGTERM unwinds like Ctrl-C, so that staging folders are removed."""
    print(f"terminated; {STOPPED}", file=sys.stderr)
    raise SystemExit(143)


def in_options(text: str) -> str:
    """An error in a command's words: where it has --align, align='x' reads --align x."""

    known = {flag for parser in _parsers for flag in parser._option_string_actions}

    def option(match: re.Match[str]) -> str:
        flag = f"--{match.group(1).replace('_', '-')}"
        value = match.group(3).removesuffix("True")  # a switch has none
        return f"{flag} {value}".rstrip() if flag in known else match.group(0)

    return re.sub(r"\b(?<!-)([a-z_]+)=('?)([\w./-]*)\2(?=[\s,;.)]|$)", option, text)


class Parser(argparse.ArgumentParser):
    """argparse's, whose options are remembered for `in_options`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        _parsers.append(self)


def parser(module: str, description: str, epilog: str | None = None) -> Parser:
    """The parser of a command: `python -m MODULE`, or the name that `called_as` gave it."""
    program = called_as.get(module, f"python -m {module}")
    text = epilog.replace(f"python -m {module}", program) if epilog else None
    plain = argparse.RawDescriptionHelpFormatter
    return Parser(prog=program, description=description, epilog=text, formatter_class=plain)


Options = argparse._ActionsContainer  # a parser, or a group of its options


def add_truth(options: Options) -> None:
    """Where the ground truth is."""
    add = options.add_argument
    labels = "ground truth <video>/<frame>.png, void 255"
    add("--labels", type=Path, metavar="DIR", help=labels)
    vspw = "ground truth of a VSPW release instead of --labels"
    add("--vspw", type=Path, metavar="ROOT", help=vspw)
    add("--split", default="val", help="split of --vspw (default val)")
    stray = "label values outside the classes (default error)"
    add("--stray", choices=("error", "void"), default="error", help=stray)


def read_truth(options: argparse.Namespace) -> Labels:
    """The labels that `add_truth`'s options name."""
    if (options.labels is None) == (options.vspw is None):
        raise InputError("ground truth: give either --labels DIR or --vspw ROOT")
    if options.vspw:
        return Labels.vspw(options.vspw, split=options.split, stray=options.stray)
    return Labels.folder(options.labels, stray=options.stray)


def _adds(name: str, **facts: Any) -> Callable[[Options], object]:
    return lambda options: options.add_argument(name, **facts)


_SCHEDULERS = "threads, processes, synchronous or tcp://host:port (default threads)"
_JSON = "machine-readable result on stdout, scores as fractions"
_CALIBRATION = "also ECE, NLL and Brier score of the probabilities (one more pass)"
add_calibration = _adds("--calibration", action="store_true", help=_CALIBRATION)
add_memory = _adds("--memory", default="4GB", help="most bytes for pixels (default 4GB)")
add_device = _adds("--device", default="auto", help="auto, cpu or cuda")
add_scheduler = _adds("--scheduler", default="threads", help=_SCHEDULERS)
add_json = _adds("--json", action="store_true", help=_JSON)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, sort_keys=True, allow_nan=False))


def remark(text: str) -> None:
    """A line that is no result, on stderr."""
    print(text, file=sys.stderr)
