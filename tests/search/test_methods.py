"""Every method by its contract; what the registry and the command line make of options."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from fusion.errors import InputError
from fusion.search.__main__ import add_search, build_parser
from fusion.search.auto import LEAST, Auto
from fusion.search.exact.climb import Exact
from fusion.search.greedy import Greedy
from fusion.search.grid import Grid
from fusion.search.method import ALONE, Data, Method, Problem, Workspace, option
from fusion.search.registry import METHODS
from fusion.search.study import Optuna
from tests.search.contract import MethodContract
from tests.search.simulated import small, videos


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
    bad: ClassVar = {"climbs": -1, "time_limit": float("nan"), "gap": 1.0, "certify": -1.0}


class TestAuto(MethodContract):
    method = Auto(climbs=1, gap=0.2)
    bad: ClassVar = {"climbs": -1, "gap": -0.5, "certify": float("nan")}

    @pytest.mark.parametrize("groups", [1, 3, 4, 5])
    def test_it_is_what_it_says_it_is(self, groups):
        problem = Problem(videos(groups=groups))
        found = replace(self.method, climbs=2).search(problem)
        few, many = {"climbs": 2, "gap": 0.2}, {"climbs": 1, "gap": None, "least": LEAST}
        few = Exact(**(few if groups < 5 else many)).search(problem)
        assert found.history == few.history
        assert found.notes == {**few.notes, "auto": found.notes["auto"]}
        then = "greedy selection, then exact line searches from its best"
        does = "exact line searches" if groups < 5 else then
        assert found.notes["auto"] == f"{groups} groups: {does}"
        assert (found.certificate is None) == (groups > 3)
        assert isinstance(found.history[0].weights, tuple)
        assert self.method.multiplies
        assert not Exact.multiplies


def test_a_climb_ends_where_steps_gain_too_little():
    """The first segments lead further, the last steps gain less than is asked for."""
    problem = Problem(videos(groups=5))
    whole, short = (Exact(climbs=1, gap=None, least=least).search(problem) for least in (0, 0.05))
    assert short.notes["sweeps"] == 5  # the coordinates, once
    assert whole.notes["sweeps"] > 5
    assert whole.miou >= short.miou


def test_unknown_methods_are_named_with_all_there_are():
    assert list(METHODS) == ["auto", "grid", "optuna", "greedy", "exact", "learned"]
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


def test_effort_is_the_number_of_weightings():
    groups = ("g0", "g1", "g2")
    ranges = {"g1": (0, 1, 0.5), "g2": (0, 2, 1)}
    for method, number in ((Grid(), 441), (Grid(ranges), 9), (Optuna(trials=7), 7)):
        assert method.effort(groups) == number == len(method.search(Problem(small())).history)
    assert Greedy().effort(groups) is None
    assert Exact().effort(groups) == Auto().effort(groups) == 441
    assert Exact().effort(("a", "b", "c", "d")) is None
    with pytest.raises(InputError, match="range for unknown group 'g9'"):
        Grid({"g9": (0, 1, 1)}).effort(groups)


@pytest.mark.parametrize("method", [Grid(), Greedy(), Exact(), Auto(), Optuna(trials=2)])
def test_a_check_of_an_empty_folder_passes_and_leaves_nothing(tmp_path, method):
    method.check(Data("one", "vspw", 0), Workspace(folder=tmp_path))
    method.check(Data("one", "vspw", 0), ALONE)
    assert not list(tmp_path.iterdir())


def test_a_study_of_other_data_is_refused_by_its_check(tmp_path):
    at, method = Workspace(folder=tmp_path), Optuna(trials=2)
    method.search(Problem(small(), digest=lambda: "one"), at)
    method.check(Data("one", "vspw", 0), at)
    for other in (Data("two", "vspw", 0), Data("one", "dice", 0)):
        with pytest.raises(InputError, match="is of other stores, labels or groups"):
            method.check(other, at)
