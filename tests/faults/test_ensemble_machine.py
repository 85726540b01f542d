"""An ensemble's file as a state machine: saved, read, weighted, regrouped and moved in any order,
it predicts what the same ensemble made in memory does."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

import fusion
from tests.faults.dying import dying
from tests.faults.machines import run_machine, slowly
from tests.stores.common import write

GROUPS = ({"g": "a", "h": "bc"}, {"h": "bc", "g": "a"}, {"g": "ab", "i": "c"}, {"all": "abc"})
weights = st.sampled_from([0.5, 1.0, 2.0])
SHAPE = (1, 3, 4, 5)


@dataclass(frozen=True)
class Facts:
    """What an ensemble is, by names alone."""

    groups: int = 0
    weights: tuple[float, ...] = (1.0, 1.0)
    temperature: float = 1.0
    resize: str = "probabilities"
    multipliers: tuple[float, ...] | None = None

    def made(self, folder: Path) -> fusion.HierarchicalEnsemble:
        arranged = GROUPS[self.groups]
        groups = {g: [folder / f"{s}.zarr" for s in names] for g, names in arranged.items()}
        how: dict[str, Any] = {"temperatures": {"b": self.temperature}, "resize": self.resize}
        how |= {"multipliers": self.multipliers, "device": "cpu"}
        return fusion.HierarchicalEnsemble(groups, dict(zip(groups, self.weights)), **how)  # noqa: B905


def numbers(ensemble: fusion.HierarchicalEnsemble) -> tuple[bytes, bytes]:
    return ensemble.predict("v").tobytes(), ensemble.predict_proba("v").tobytes()


facts = st.builds(
    Facts,
    st.integers(0, 3),
    st.tuples(weights, weights),
    weights,
    st.sampled_from(["probabilities", "logits"]),
    st.none() | st.tuples(weights, weights, weights),
)


class EnsembleMachine(RuleBasedStateMachine):
    """stores: a folder of them, copied. root: of this machine, not there yet."""

    def __init__(self, stores: Path, root: Path) -> None:
        super().__init__()
        self.root, self.moves = root, itertools.count()
        self.home = root / "home"
        shutil.copytree(stores, self.home / "cache")
        self.files: dict[str, Facts] = {}

    @property
    def cache(self) -> Path:
        return self.home / "cache"

    def check(self, found: fusion.HierarchicalEnsemble, facts: Facts) -> None:
        assert list(found.groups) == list(GROUPS[facts.groups])
        assert numbers(found) == numbers(facts.made(self.cache))

    @rule(facts=facts, name=st.sampled_from(["one.json", "sub/two.json"]), kept=st.booleans())
    def save(self, facts: Facts, name: str, kept: bool) -> None:
        path = self.home / name
        path.parent.mkdir(exist_ok=True)
        ensemble = facts.made(self.cache)
        if kept:  # as somebody who stands in the folder
            with contextlib.chdir(self.home):
                facts.made(Path("cache")).save(name)
        else:
            ensemble.save(path)
        self.files[name] = facts
        self.check(fusion.HierarchicalEnsemble.load(path), facts)

    @rule(facts=facts, left=st.integers(0, 6), torn=st.floats(0, 1))
    @precondition(lambda self: "one.json" in self.files)
    def kill(self, facts: Facts, left: int, torn: float) -> None:
        path = self.home / "one.json"
        with dying(left, torn=torn):
            facts.made(self.cache).save(path)
        found = fusion.HierarchicalEnsemble.load(path)
        expected = [numbers(each.made(self.cache)) for each in (self.files["one.json"], facts)]
        assert numbers(found) in expected
        if numbers(found) == expected[1]:
            self.files["one.json"] = facts

    @rule(relative=st.booleans())
    @precondition(lambda self: self.files)
    def load(self, relative: bool) -> None:
        for name, facts in self.files.items():
            if relative:
                with contextlib.chdir(self.home):
                    found = fusion.HierarchicalEnsemble.load(name)
                    assert numbers(found) == numbers(facts.made(Path("cache")))
            else:
                self.check(fusion.HierarchicalEnsemble.load(self.home / name), facts)

    @rule(pair=st.tuples(weights, weights))
    @precondition(lambda self: self.files)
    def weigh(self, pair: tuple[float, float]) -> None:
        for name, facts in self.files.items():
            found = fusion.HierarchicalEnsemble.load(self.home / name)
            changed = found.with_weights(dict(zip(found.groups, pair)))  # noqa: B905
            new = replace(facts, weights=pair)
            self.check(changed, new)
            changed.save(self.home / name)
            self.files[name] = new

    @rule(groups=st.integers(0, 3), pair=st.tuples(weights, weights))
    @precondition(lambda self: self.files)
    def regroup(self, groups: int, pair: tuple[float, float]) -> None:
        for name, facts in self.files.items():
            found = fusion.HierarchicalEnsemble.load(self.home / name)
            stores = {store.model: store for store in found.stores}
            arranged = {g: [stores[s] for s in names] for g, names in GROUPS[groups].items()}
            changed = found.regrouped(arranged, dict(zip(arranged, pair)))  # noqa: B905
            new = replace(facts, groups=groups, weights=pair)
            self.check(changed, new)
            changed.save(self.home / name)
            self.files[name] = new

    @rule()
    def move(self) -> None:
        """The folder with its stores, whole."""
        new = self.root / f"moved {next(self.moves)}"
        os.rename(self.home, new)
        self.home = new
        self.load(False)

    def teardown(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture
def machine(tmp_path):
    number = itertools.count()
    for place, name in enumerate("abc"):
        clip = np.random.default_rng(place).normal(0, 2, SHAPE).astype("f4")
        write(tmp_path / "stores" / f"{name}.zarr", {"v": clip}, size=(8, 10))
    return lambda: EnsembleMachine(tmp_path / "stores", tmp_path / str(next(number)))


def test_any_history_of_an_ensembles_file(machine):
    run_machine(machine, 6, 8)


@pytest.mark.slow
def test_many_histories_of_an_ensembles_file(machine):
    run_machine(machine, slowly(200), 30)
