"""The `segfusion` command: the same commands as their `python -m` forms, one exit-code rule."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fusion
from fusion import cli
from fusion.__main__ import COMMANDS, main


def run(*arguments: str, module: str = "fusion") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"segfusion {fusion.__version__}\n"
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize(("given", "message"), [([], "usage: segfusion"), (["serch"], "'search'?")])
def test_no_such_command(given, message, capsys):
    assert main(given) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err


@pytest.mark.parametrize("name", list(COMMANDS))
def test_help_speaks_of_the_command_as_it_was_called(name):
    done = run(name, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: segfusion {name}")
    assert f"python -m {COMMANDS[name].module} " not in done.stdout


@pytest.mark.parametrize("name", ["evaluate", "predict", "train"])
def test_the_same_as_the_module(name):
    wrong = {
        "evaluate": ["--predictions", "x", "--labels", "nowhere"],
        "train": ["--config", "nowhere"],
    }
    arguments = wrong.get(name, ["--ensemble", "nowhere.json", "--out", "x"])
    one, other = run(name, *arguments), run(*arguments, module=COMMANDS[name].module)
    assert (one.returncode, one.stdout) == (other.returncode, other.stdout) == (2, "")
    assert one.stderr == other.stderr
    assert one.stderr.startswith("error: ")
    assert one.stderr.count("\n") == 1


def test_errors_speak_in_options():
    parser = cli.parser("fusion.test", "")
    parser.add_argument_group("running").add_argument("--align")
    parser.add_argument("--no-cache", action="store_true")
    said = cli.in_options("x lacks y; predict it too, or use align='intersect'")
    assert said == "x lacks y; predict it too, or use --align intersect"
    parser.add_argument("--label-map")
    assert cli.in_options("use no_cache= of it") == "use --no-cache of it"
    assert cli.in_options("another path or no_cache=True for") == "another path or --no-cache for"
    assert cli.in_options("not no_cache=False, now") == "not no_cache=False, now"
    assert cli.in_options("class_map='binary' makes") == "--label-map binary makes"
    assert (
        cli.in_options("search again, or use unheard='of'") == "search again, or use unheard='of'"
    )
    assert cli.in_options("group a = 3, --align=x") == "group a = 3, --align=x"
