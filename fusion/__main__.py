"""segfusion: every command under one name, each the same as its `python -m` form."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from fusion import cli
from fusion.text import did_you_mean
from fusion.version import __version__


@dataclass(frozen=True)
class Command:
    """module: the one that `python -m` runs. first: arguments that come before the caller's."""

    module: str
    help: str
    first: tuple[str, ...] = ()

    def run(self, name: str, arguments: Sequence[str]) -> int:
        cli.called_as[self.module] = f"segfusion {name}"
        home = importlib.import_module(self.module)
        if hasattr(home, "__path__"):  # a room: its command is its __main__
            home = importlib.import_module(f"{self.module}.__main__")
        return cli.run(home.main, [*self.first, *arguments])


COMMANDS = {
    "demo": Command(
        "fusion.search",
        "simulate networks, search their weights, report what they are worth",
        ("--demo",),
    ),
    "stores": Command("fusion.stores", "fill stores from arrays on disk; show, verify, clean them"),
    "search": Command("fusion.search", "find the weights, and say what they are worth"),
    "report": Command("fusion.report", "a search as one page: verdict, figures, frames"),
    "predict": Command(
        "fusion.predict", "label maps or probabilities of an ensemble, in many formats"
    ),
    "evaluate": Command("fusion.evaluate", "scores of an ensemble or of label maps on disk"),
    "train": Command("fusion.models.train", "train a network that fills a store"),
}


def usage() -> str:
    rows = "\n".join(f"  {name:<10}{command.help}" for name, command in COMMANDS.items())
    head = "usage: segfusion [--help] [--version] COMMAND ..."
    return f"{head}\n\n{rows}\n\nsegfusion COMMAND --help has its options and examples."


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given else ""
    if name in COMMANDS:
        return COMMANDS[name].run(name, given[1:])
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"segfusion {__version__}")
        return 0
    wrong = f"error: no command {name!r}{did_you_mean(name, COMMANDS)}" if name else usage()
    print(wrong, file=sys.stderr)
    return 2


def script() -> None:
    """What is installed as `segfusion`."""
    cli.command(main)


if __name__ == "__main__":
    script()
