"""What every command shares: exit codes, the words of errors, options that several commands take.

Exit code 0 is success, 2 the caller's mistake or a damaged input (one line on stderr), 130 and 143
a stopped run, 141 a reader that left. A bar and all remarks go to stderr, results to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from fusion import interrupts
from fusion.errors import FusionError, InputError
from fusion.labels import LAYOUTS, MAPS, Labels
from fusion.labels.layouts import AUTO
from fusion.labels.layouts.pattern import Pattern
from fusion.memory import Share, share
from fusion.parallel import worker_count
from fusion.terminal import guarded, midline, wrapped
from fusion.text import parse_bytes, visible

if TYPE_CHECKING:
    from fusion.estimate import Estimate, Steps

Main = Callable[[Sequence[str] | None], int | None]
_parsers: list[argparse.ArgumentParser] = []  # every one made so far
RENAMED = {  # words of the API -> flags that say more, of commands which have several inputs
    "class_map": "--label-map",
    "layout": "--label-layout",
    "pattern": "--label-pattern",
    "column": "--label-column",
}
called_as: dict[str, str] = {}  # module of a command -> its name, where not `python -m MODULE`


@guarded()
def run(main: Main, arguments: Sequence[str] | None = None) -> int:
    """Runs a command's main; library errors become one line on stderr and exit code 2."""
    try:
        with interrupts.raised():
            return main(arguments) or 0
    except FusionError as error:
        print(f"error: {visible(in_options(str(error)))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:  # a task in a thread may raise a plain one
        stop = error if isinstance(error, interrupts.Interrupt) else interrupts.Interrupt()
        print("\n" * midline() + stop.text, file=sys.stderr)
        return stop.code
    except BrokenPipeError:  # the reader of our output has left; there is nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def command(main: Main) -> NoReturn:
    """Runs a command as the process that it is."""
    try:
        code = run(main)
    except SystemExit as done:  # argparse's, after help or a usage error
        code = done.code if isinstance(done.code, int) else int(done.code is not None)
    interrupts.leave(code)


def in_options(text: str) -> str:
    """An error in a command's words: where it has --align, align='x' reads --align x.

    A flag without a value is said alone: overwrite=True reads --overwrite.
    """
    known = {flag: a for parser in _parsers for flag, a in parser._option_string_actions.items()}

    def option(match: re.Match[str]) -> str:
        word, value = match.group(1), match.group(3)
        flag = f"--{word.replace('_', '-')}"
        flag = flag if flag in known else RENAMED.get(word, flag)
        if flag not in known or (known[flag].nargs == 0 and value not in ("True", "")):
            return match.group(0)
        return flag if known[flag].nargs == 0 else f"{flag} {value}".rstrip()

    return re.sub(r"\b(?<!-)([a-z_]+)=('?)([\w./{}*-]*)\2(?=[\s,;:.)]|$)", option, text)


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


MAP_HELP = (
    f"what stored values mean: a JSON file, nnU-Net's dataset.json, or {', '.join(MAPS)}; "
    "none for class ids (default: what the data set itself says, else none)"
)


def add_truth(options: Options) -> None:
    """Where the ground truth is, and what it means."""
    add = options.add_argument
    labels = "ground truth: <video>/<frame>.png, or anything else that --label-layout lists"
    add("--labels", type=Path, metavar="PATH", help=labels)
    add("--vspw", type=Path, metavar="ROOT", help="the same as --labels ROOT --label-layout vspw")
    layouts = f"how it lies: {', '.join(LAYOUTS)} (default auto: whichever recognises it)"
    add("--label-layout", choices=(AUTO, *LAYOUTS), default=AUTO, metavar="NAME", help=layouts)
    pattern = "of files below --labels, such as {unit}/{frame}_mask.png or **/{unit}_gt.png"
    add("--label-pattern", metavar="PATTERN", help=pattern)
    add("--label-column", metavar="NAME", help="of masks in a Hugging Face data set")
    add("--label-map", metavar="MAP", help=MAP_HELP)
    split = "part of the data set: its own, or a subfolder (default val, or no subfolder)"
    add("--split", metavar="NAME", help=split)
    stray = "values that are no class and not void (default error)"
    add("--stray", choices=("error", "void"), default="error", help=stray)


def where_truth_is(
    options: argparse.Namespace, second: bool = False
) -> tuple[Path, str, str | None]:
    """Place, layout and split that `add_truth`'s options name.

    second: of --test-labels and --test-split; a split without a place is of the same data set.
    """
    if (options.labels is None) == (options.vspw is None):
        raise InputError("ground truth: give either --labels DIR or --vspw ROOT")
    elsewhere = options.test_labels if second else None
    layout = Pattern.name if options.label_pattern else options.label_layout
    if options.vspw and elsewhere is None:
        layout = "vspw"
    place = elsewhere or options.vspw or options.labels
    return place, layout, options.test_split if second else options.split


def has_second_truth(options: argparse.Namespace) -> bool:
    return bool(options.test_labels or options.test_split)


def read_truth(options: argparse.Namespace, second: bool = False) -> Labels:
    """The labels that lie there, and mean what the options say; what was recognised is remarked."""
    place, layout, split = where_truth_is(options, second)
    parts = {"pattern": options.label_pattern, "column": options.label_column}
    how = {"stray": options.stray, "class_map": options.label_map, **parts}
    labels = Labels.open(layout, place, split, **how)
    if layout == AUTO:
        remark(f"{place}: {labels.summary()}")
    return labels


def _adds(name: str, **facts: Any) -> Callable[[Options], object]:
    return lambda options: options.add_argument(name, **facts)


_SCHEDULERS = (
    "videos side by side: threads, processes, synchronous (one after the other), or a cluster's "
    "tcp://host:port, tls://host:port or scheduler file (default threads)"
)
_JSON = "machine-readable result on stdout, scores as fractions"
_CALIBRATION = "also ECE, NLL and Brier score of the probabilities (one more pass)"
add_calibration = _adds("--calibration", action="store_true", help=_CALIBRATION)
_MEMORY = "most bytes of the whole process, Python and libraries included (default 4GB)"
add_memory = _adds("--memory", default="4GB", help=_MEMORY)
_PLAN = "print what would be read, held and written, and how long it would take; then stop"
add_plan = _adds("--plan", action="store_true", help=_PLAN)
add_device = _adds("--device", default="auto", help="auto, cpu or cuda")
add_scheduler = _adds("--scheduler", default="threads", help=_SCHEDULERS)
_IMAGES = "pictures of the frames, for operations of postprocessing that look at them"
add_images = _adds("--images", type=Path, metavar="DIR", help=_IMAGES)
add_json = _adds("--json", action="store_true", help=_JSON)


def take_memory(options: argparse.Namespace) -> Share:
    """Makes --memory the bytes that Python and libraries leave of it."""
    total, scheduler = parse_bytes(options.memory), getattr(options, "scheduler", "")
    processes = 1 + worker_count(scheduler) if scheduler == "processes" else 1
    made = share(total, processes)
    options.memory = made.pixels
    return made


def add_postprocess(options: Options) -> None:
    """What is done after fusion, in the place of what the ensemble's file says."""
    from fusion.postprocess import OPERATIONS

    known = f"{', '.join(OPERATIONS)}; or a JSON file, or none (default: the ensemble's own)"
    form: dict[str, Any] = {"nargs": "+", "metavar": "NAME[:PARAMETER=VALUE,...]"}
    options.add_argument("--postprocess", **form, help=f"done after fusion, in order: {known}")
    again = "estimate the target of `priors` on these videos, without labels (EM)"
    options.add_argument("--estimate-priors", action="store_true", help=again)
    add_images(options)


def read_postprocess(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_postprocess`'s options change of an ensemble that is loaded."""
    said = {name: getattr(options, name) for name in ("postprocess", "images")}
    return {name: value for name, value in said.items() if value is not None}


def priors_step(options: argparse.Namespace) -> Steps:
    """What --plan says of --estimate-priors."""
    pass_over = "estimating priors, a pass over 20 frames of each video at most"
    return ((pass_over, None),) if options.estimate_priors else ()


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, sort_keys=True, allow_nan=False))


def show(found: Estimate, options: argparse.Namespace) -> None:
    """What --plan prints, on stdout."""
    if options.json:
        print_json(found.to_json())
    else:
        print(found.text())


def remark(text: str) -> None:
    """Lines that are no result, on stderr; on a terminal wrapped where it ends."""
    lines = text.split("\n")
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        lines = [wrapped(line, width) if len(line) > width else line for line in lines]
    print("\n".join(lines), file=sys.stderr)
