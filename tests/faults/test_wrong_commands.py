"""Every option of every command with values that are wrong: exit code 2 and one line, or a result.

Options are found in the parsers, so that a new one is tried without being listed.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import warnings
from collections.abc import Iterator

import pytest

from fusion import cli
from tests.faults.doors import World

WRONG = [
    *("", " ", "no such thing", "-1", "0", "1.5", "nan", "inf", "1e999", "1e-300", "9" * 30),
    *("a\0b", "x" * 5000, "\udce9", "\x1b[31mred", "line\nbreak", "%s{0}"),
    *("a=b", "=1", "1:0", "0:1:1e-9", "http://", "tcp://nowhere", "[", "{}", "*", "/dev/null"),
]
COMMANDS = [
    *("fusion.search", "fusion.predict", "fusion.evaluate", "fusion.report"),
    *("fusion.stores info", "fusion.stores verify", "fusion.stores gc", "fusion.stores import"),
    *(f"fusion.models.{name}" for name in ("train", "predict", "members", "soup")),
]
SOME = 3  # of the wrong values, for an option, where not all are tried


def right(world: World) -> dict[str, list[str]]:
    """Arguments of every command that are right, and ask for little."""
    stores = [str(path) for path in world.paths]
    saved, labels = str(world.folder / "saved.json"), str(world.folder / "labels")
    searched = ["--stores", *stores, "--labels", labels, "--method", "grid", "--folds", "0"]
    return {
        "fusion.search": [*searched, "--no-cache", "--scheduler", "synchronous"],
        "fusion.predict": ["--ensemble", saved, "--out", "OUT", "--scheduler", "synchronous"],
        "fusion.evaluate": ["--ensemble", saved, "--labels", labels, "--scheduler", "synchronous"],
        "fusion.report": ["results"],
        "fusion.stores info": stores[:1],
        "fusion.stores verify": stores[:1],
        "fusion.stores gc": stores[:1],
        "fusion.stores import": [str(world.folder / "array.npy"), "STORE", "--classes", "3"],
        "fusion.models.train": ["--config", "run.toml"],
        "fusion.models.predict": ["--weights", "w.safetensors", "--images", ".", "--out", "STORE"],
        "fusion.models.members": ["--config", "run.toml", "--out", "STORE"],
        "fusion.models.soup": ["--config", "run.toml", "--weights", "a", "b", "--out", "STORE"],
    }


def parser_of(command: str) -> argparse.ArgumentParser:
    module, *sub = command.split()
    home = importlib.import_module(module)
    home = importlib.import_module(f"{module}.__main__") if hasattr(home, "__path__") else home
    made = len(cli._parsers)
    with pytest.raises(SystemExit):
        home.main([*sub, "--help"])
    return cli._parsers[made:][0] if not sub else _subparser(cli._parsers[made], sub[0])


def _subparser(parser: argparse.ArgumentParser, name: str) -> argparse.ArgumentParser:
    (choices,) = (a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return choices[name]


def wrong_lines(command: str, every: bool) -> Iterator[list[str]]:
    """Arguments beside the right ones: an option with a wrong value, or several."""
    turn = itertools.count()
    for action in parser_of(command)._actions:
        if not action.option_strings or action.nargs == 0:
            continue
        values = WRONG
        if not every:
            start = next(turn) * SOME
            values = [WRONG[(start + k) % len(WRONG)] for k in range(SOME)]
        for value in values:
            yield [f"{action.option_strings[-1]}={value}"]
    yield from (["--no-such-option"], ["one", "too", "many"])


def outcome(command: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """ "" where the answer is as it should be, else what is wrong with it."""
    module, *sub = command.split()
    home = importlib.import_module(module)
    home = importlib.import_module(f"{module}.__main__") if hasattr(home, "__path__") else home
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = cli.run(home.main, [*sub, *arguments])
    except SystemExit as error:  # argparse's own
        code = error.code
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    if code == 0:
        return ""
    if code != 2:
        return f"exit code {code}: {said.err[-200:]!r}"
    if not lines or "error: " not in lines[-1]:
        return f"no line that says what is wrong: {said.err[-300:]!r}"
    if sum("error: " in line for line in lines) != 1 or "Traceback" in said.err:
        return f"not one line: {said.err[-300:]!r}"
    if any(ord(mark) < 32 or ord(mark) == 127 for line in lines for mark in line):
        return f"raw control characters: {lines[-1]!r}"
    return ""


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_one_line_and_exit_code_2(world, capsys, command, every):
    problems, given = [], right(world)[command]
    for number, wrong in enumerate(wrong_lines(command, every)):
        fresh = [f"{each.lower()}{number}" if each in ("OUT", "STORE") else each for each in given]
        found = outcome(command, [*fresh, *wrong], capsys)
        if found:
            problems.append(f"{command} {wrong!r:.80}: {found}")
    assert not problems, "\n".join(problems[:40])
