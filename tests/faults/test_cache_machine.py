"""The condensed cache as a state machine: whatever was built, killed or damaged before, a search
sees the numbers of a build from scratch."""

# ruff: noqa: PT017  an error is one of two right answers here, and then its words are looked at
from __future__ import annotations

import functools
import itertools
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

import fusion
from fusion.contested.build import condense_ensemble
from fusion.errors import StoreError
from fusion.files import STAGING
from fusion.folds import Units
from fusion.stores.memory import MemoryStore
from tests.faults.damage import file_damages, files_of
from tests.faults.dying import dying
from tests.faults.machines import run_machine, slowly

VIDEOS, SHAPE = ("../up", "b/c", ".hid"), (2, 3, 4, 5)
ARRANGED = (
    {"g": ["a"], "h": ["b", "c"]},
    {"h": ["b", "c"], "g": ["a"]},
    {"g": ["a", "b"], "h": ["c"]},
)


@dataclass(frozen=True)
class Case:
    """All that pixels depend on, or may seem to."""

    stores: int = 0
    labels: int = 0
    groups: int = 0
    temperature: float = 1.0
    weight: float = 1.0
    stride: int = 1
    units: str = "videos"
    reach: float = 1.0
    resize: str = "probabilities"
    memory: str = "1GB"

    @functools.cached_property
    def ensemble(self) -> fusion.HierarchicalEnsemble:
        named = {}
        for number, name in enumerate("abc"):
            draw = np.random.default_rng(number + 10 * self.stores)
            clips = {video: draw.normal(0, 2, SHAPE).astype("f4") for video in VIDEOS}
            named[name] = MemoryStore(clips, ["x", "y", "z"], model=name)
        groups = {g: [named[s] for s in names] for g, names in ARRANGED[self.groups].items()}
        how: dict[str, Any] = {"temperatures": {"b": self.temperature}, "resize": self.resize}
        return fusion.HierarchicalEnsemble(
            groups, {"g": self.weight}, memory=self.memory, device="cpu", **how
        )

    @functools.cached_property
    def truth(self) -> fusion.Labels:
        draw = np.random.default_rng(self.labels)
        return fusion.Labels.from_arrays(
            {video: draw.integers(0, 3, (2, 4, 5)).astype("u1") for video in VIDEOS}
        )

    def numbers(self, cache: Path | None = None) -> tuple[Any, ...]:
        """What a search can see."""
        found = condense_ensemble(
            self.ensemble,
            self.truth,
            scheduler="synchronous",
            stride=self.stride,
            cache=cache,
            reach=self.reach,
            units=Units.parse(self.units),
        )
        weights = [[1, 1], [0.3, 0.9], [0, 1]]
        matrices = [found.confusions(weights), found.confusion(weights[1])]
        if self.reach > 1:
            matrices += [found.confusions([[1, 2]], [[1, 2, 0.5]])]
        return found.groups, found.videos, [matrix.tobytes() for matrix in matrices]


@functools.cache
def from_scratch(case: Case) -> tuple[Any, ...]:
    return case.numbers()


cases = st.builds(
    Case,
    stores=st.integers(0, 1),
    labels=st.integers(0, 1),
    groups=st.integers(0, 2),
    temperature=st.sampled_from([1.0, 2.0]),
    weight=st.sampled_from([1.0, 0.5]),
    stride=st.sampled_from([1, 2]),
    units=st.sampled_from(["videos", "frames", "blocks:1"]),
    reach=st.sampled_from([1.0, 4.0]),
    resize=st.sampled_from(["probabilities", "logits"]),
    memory=st.sampled_from(["1GB", "40MB"]),
)
plain = st.builds(Case, stores=st.integers(0, 1)) | cases  # that come again more often


class CacheMachine(RuleBasedStateMachine):
    """root: of all caches, not there yet."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root
        self.built: list[Case] = []

    @rule(case=plain)
    def build(self, case: Case) -> None:
        """Anew, or from what is there: nobody can tell."""
        assert case.numbers(self.root) == from_scratch(case)
        self.built.append(case)

    @rule(case=plain, left=st.integers(0, 40), torn=st.floats(0, 1))
    def kill(self, case: Case, left: int, torn: float) -> None:
        with dying(left, torn=torn):
            case.numbers(self.root)
        self.build(case)

    @rule(case=plain)
    def two_builders(self, case: Case) -> None:
        with ThreadPoolExecutor(2) as pool:
            two = [pool.submit(case.numbers, self.root) for _ in range(2)]
            assert [each.result() for each in two] == [from_scratch(case)] * 2
        self.built.append(case)

    @rule(which=st.integers(0, 999), how=st.integers(0, 9999))
    @precondition(lambda self: self.built)
    def corrupt(self, which: int, how: int) -> None:
        """One file: the same numbers, or an error that says what to delete; then all is well."""
        files = [path for path in files_of(self.root) if STAGING not in path.parts]
        path = files[which % len(files)]
        every = max(1, path.stat().st_size // 40)
        damages = [d for n, d in file_damages(path, path.name, every) if "huge" not in n]
        damages[how % len(damages)]()
        told = 0
        for case in dict.fromkeys(self.built):
            try:
                assert case.numbers(self.root) == from_scratch(case)
            except StoreError as error:
                told += 1
                named = Path(str(error).split(": ")[0])
                while not named.is_dir() or named.is_symlink():
                    named = named.parent
                assert path.is_relative_to(named), error
                assert self.root in named.parents, error
                shutil.rmtree(named)
                assert case.numbers(self.root) == from_scratch(case)
        self.built = list(dict.fromkeys(self.built))

    def teardown(self) -> None:
        for case in dict.fromkeys(self.built):
            assert case.numbers(self.root) == from_scratch(case)
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture
def machine(tmp_path):
    number = itertools.count()
    return lambda: CacheMachine(tmp_path / str(next(number)))


def test_any_history_of_a_cache(machine):
    run_machine(machine, 5, 10)


@pytest.mark.slow
def test_many_histories_of_a_cache(machine):
    run_machine(machine, slowly(200), 40)
