"""A search and its folder as a state machine: interrupted, killed, gone on with and changed in any
order, a search that comes to its end gives the clean run's answer, or one sentence of refusal."""

from __future__ import annotations

import contextlib
import functools
import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

import fusion
from fusion.errors import FusionError
from fusion.search import METHODS
from fusion.search.method import Problem
from fusion.search.result import SearchResult
from fusion.search.run import Run
from fusion.stores import LogitStore
from tests.faults.damage import files_of
from tests.faults.dying import dying
from tests.faults.machines import run_machine, slowly
from tests.stores.common import write

VIDEOS, SHAPE = ("a", "b", "c"), (1, 3, 5, 6)
GROUPS = ({"g": "a", "h": "b", "i": "c"}, {"h": "b", "g": "a", "i": "c"}, {"g": "a", "h": "bc"})
METHOD = {
    "grid": {"ranges": {"h": (0, 2, 0.5), "i": (0, 2, 1)}},
    "coarse": {"ranges": {"h": (0, 1, 1)}},
    "greedy": {"steps": 6},
    "bagged": {"steps": 4, "bags": 2},
    "exact": {"gap": None},
    "certified": {"gap": 0.05, "certify": float("inf")},
    "optuna": {"trials": 5},
    "more": {"trials": 7},
    "random": {"trials": 6, "sampler": "random"},
}
STORES: dict[tuple[str, int], LogitStore] = {}  # by name and version
NAMES = {"coarse": "grid", "bagged": "greedy", "certified": "exact", "more": "optuna"}
NAMES |= {"random": "optuna"}


@dataclass(frozen=True)
class Case:
    """All that an answer depends on."""

    method: str
    stores: int = 0
    labels: int = 0
    groups: int = 0
    convention: str = "vspw"
    seed: int = 0
    folds: int = 0
    weight: float = 1.0

    def run(self, folder: Path | None, progress: Any) -> Run:
        arranged = GROUPS[self.groups].items()
        groups = {g: [STORES[s, self.stores] for s in names] for g, names in arranged}
        ensemble = fusion.HierarchicalEnsemble(groups, {"g": self.weight}, device="cpu")
        draw = np.random.default_rng(self.labels)
        truth = fusion.Labels.from_arrays(
            {video: draw.integers(0, 3, (1, 5, 6)).astype("u1") for video in VIDEOS}
        )
        how: dict[str, Any] = {"convention": self.convention, "seed": self.seed}
        how |= {"folds": self.folds, "scheduler": "synchronous", "folder": folder}
        cache = None if folder is None else folder / "cache"
        return Run(ensemble.plain(), truth, cache=cache, progress=progress, **how)

    def search(self, folder: Path | None, progress: Any) -> SearchResult:
        options: dict[str, Any] = dict(METHOD[self.method])
        if "ranges" in options:
            known = GROUPS[self.groups]
            options["ranges"] = {g: r for g, r in options["ranges"].items() if g in known}
        method = METHODS[NAMES.get(self.method, self.method)](**options)
        return self.run(folder, progress).search(method)


def answer(found: SearchResult) -> tuple[Any, ...]:
    assert found.scores is not None
    held = None if found.held_out is None else found.held_out.scores.score
    return found.method, found.groups, found.vector, found.miou, found.scores.score, held


@functools.cache
def clean(case: Case) -> tuple[Any, ...]:
    with tempfile.TemporaryDirectory() as folder:
        return answer(case.search(Path(folder), plain))


def plain(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    return items


@contextlib.contextmanager
def interrupted(left: int) -> Iterator[Any]:
    """Ctrl-C at some weighting or step of a bar, and at no later one; gives the bar."""
    trials, steps = Problem.trials, itertools.count()

    def step() -> None:
        if next(steps) == left:
            raise KeyboardInterrupt

    def counted(self: Problem, *arguments: Any) -> Any:
        step()
        found = trials(self, *arguments)
        step()
        return found

    def shown(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
        for item in items:
            step()
            yield item

    Problem.trials = counted  # type: ignore[method-assign]
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield shown
    finally:
        Problem.trials = trials  # type: ignore[method-assign]


cases = st.builds(
    Case,
    st.sampled_from(list(METHOD)),
    st.integers(0, 1),
    st.integers(0, 1),
    st.integers(0, 2),
    st.sampled_from(["vspw", "all"]),
    st.integers(0, 1),
    st.sampled_from([0, 0, 2]),
    st.sampled_from([1.0, 0.5]),
)
plainly = st.builds(Case, st.sampled_from(list(METHOD))) | cases  # that come again more often


class SearchMachine(RuleBasedStateMachine):
    """folder: of all searches, not there yet."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder, self.refused = folder, 0

    @rule(case=plainly)
    def search(self, case: Case) -> None:
        """To its end: the clean run's answer, or a sentence that the folder is another's."""
        try:
            found = case.search(self.folder, plain)
        except FusionError as error:
            said = str(error)
            assert "\n" not in said
            assert "is of other stores, labels or groups" in said or "another" in said, said
            assert NAMES.get(case.method, case.method) == "optuna", said
            self.refused += 1
            shutil.rmtree(self.folder)
            found = case.search(self.folder, plain)
        if found.method == "optuna":
            self.check_study(case, found)
        else:
            assert answer(found) == clean(case)

    def check_study(self, case: Case, found: SearchResult) -> None:
        problem = case.run(None, plain).problem
        assert len(found.history) >= METHOD[case.method]["trials"]
        points = [trial.weights for trial in found.history]
        assert problem.trials(points) == list(found.history)
        assert found.miou == max(trial.miou for trial in found.history)
        assert len(set(points)) == len(points), points
        others = len(problem.groups) - 1  # what every study begins with
        assert {(1.0, *[1.0] * others), (1.0, *[0.0] * others)} <= set(points), points

    @rule(case=plainly, left=st.integers(0, 40))
    def interrupt(self, case: Case, left: int) -> None:
        with interrupted(left) as progress, contextlib.suppress(FusionError):
            case.search(self.folder, progress)

    @rule(case=plainly, left=st.integers(0, 40))
    def interrupt_and_go_on(self, case: Case, left: int) -> None:
        self.interrupt(case, left)
        self.search(case)

    @rule(case=plainly, left=st.integers(0, 60), torn=st.floats(0, 1))
    def kill(self, case: Case, left: int, torn: float) -> None:
        with dying(left, torn=torn), contextlib.suppress(FusionError):
            case.search(self.folder, plain)
        self.search(case)

    def teardown(self) -> None:
        if self.folder.exists():
            assert [path for path in files_of(self.folder) if path.is_symlink()] == []
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def _stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    for (number, name), version in itertools.product(enumerate("abc"), range(2)):
        draw = np.random.default_rng(number + 10 * version)
        clips = {video: draw.normal(0, 2, SHAPE).astype("f4") for video in VIDEOS}
        path = write(folder / str(version) / f"{name}.zarr", clips, frames=["00000"])
        STORES[name, version] = LogitStore(path)


@pytest.fixture
def machine(tmp_path):
    number = itertools.count()
    return lambda: SearchMachine(tmp_path / str(next(number)))


def test_any_history_of_a_search(machine):
    run_machine(machine, 5, 8)


@pytest.mark.slow
def test_many_histories_of_a_search(machine):
    run_machine(machine, slowly(200), 30)
