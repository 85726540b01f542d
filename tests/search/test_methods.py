"""Every method by its contract; what the registry and the command line make of options."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import ClassVar

import pytest

from fusion.errors import InputError
from fusion.search.__main__ import add_search, build_parser
from fusion.search.exact.climb import Exact
from fusion.search.greedy import Greedy
from fusion.search.grid import Grid
from fusion.search.method import ALONE, Method, option
from fusion.search.registry import METHODS
from fusion.search.study import Optuna
from tests.search.contract import MethodContract


class TestGrid(MethodContract):
    method = Grid()
    bad: ClassVar = {"ranges": {"g1": (2, 1, 0.5)}}


class TestGreedy(MethodContract):
    method = Greedy(steps=8)
    bad: ClassVar = {"steps": 0, "patience": 0, "start": 0, "bags": 0}


class TestGreedyInBags(MethodContract):
    method = Greedy(steps=8, start=2, bags=3)
    bad: ClassVar = {"bags": -1}


class TestOptuna(MethodContract):
    method = Optuna(trials=8)
    bad: ClassVar = {"trials": 0, "sampler": "gauss", "storage": "nosuch://x"}
    refuses_void = True


class TestOptunaAtRandom(MethodContract):
    method = Optuna(trials=6, sampler="random", study="mine")
    bad: ClassVar = {"trials": -3}
    refuses_void = True


class TestExact(MethodContract):
    method = Exact(climbs=1, gap=0.2)
    bad: ClassVar = {"climbs": -1, "time_limit": float("nan"), "gap": 1.0}


def test_unknown_methods_are_named_with_all_there_are():
    assert list(METHODS) == ["auto", "grid", "optuna", "greedy", "exact"]
    with pytest.raises(InputError, match=r"method: got 'magic'; choose one of \['auto', 'grid'"):
        METHODS["magic"]


def test_options_of_the_command_line_become_fields():
    said = ["--range", "a=0:1:0.5", "--range", "b=1:1:1", "--steps", "3", "--trials", "4"]
    said += [
        "--patience",
        "2",
        "--start",
        "4",
        "--bags",
        "5",
        "--sampler",
        "gp",
        "--storage",
        "s",
        "--study",
        "t",
        "--gap",
        "0.5",
    ]
    given = vars(build_parser().parse_args([*said, "--time-limit", "2"]))
    made = {name: kind.from_arguments(given) for name, kind in METHODS.items()}
    assert made["grid"] == Grid({"a": (0.0, 1.0, 0.5), "b": (1.0, 1.0, 1.0)})
    assert made["greedy"] == Greedy(steps=3, patience=2, start=4, bags=5)
    assert made["optuna"] == Optuna(4, "gp", "s", "t")
    assert made["exact"] == Exact(time_limit=2.0, gap=0.5)


def test_a_flag_of_two_methods_is_one_option_of_both(monkeypatch):
    @dataclass(frozen=True)
    class Walk(Method):
        name: ClassVar = "walk"
        length: int = option("--steps", 7, "how far", {"type": int})

        def search(self, problem, workspace=ALONE):
            raise NotImplementedError

    monkeypatch.setitem(METHODS, "walk", Walk)
    parser = argparse.ArgumentParser()
    add_search(parser.add_argument_group("search"))
    assert "walk: how far (default 7)" in " ".join(parser.format_help().split())
    given = vars(parser.parse_args(["--steps", "5"]))
    assert Walk.from_arguments(given) == Walk(5)
    assert Greedy.from_arguments(given) == Greedy(5)
