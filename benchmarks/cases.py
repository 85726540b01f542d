"""Runs the kernels' contract cases (tests/kernels/*/triton_cases.py) where there is no pytest.

    for case in covering(collect()): case.run()

A machine with a GPU is had for minutes: cases come in an order in which the first few of every
module have, between them, every pair of its parameters; kernels are not tuned, each takes the
first configuration that fits; and every case is told of as it ends. What the cases use of pytest is
little, and is here: `parametrize`, `raises`, `fixture`, `skip`, `importorskip` and `monkeypatch`.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

OPERATIONS = ("confusion", "average", "upsample", "contested", "head")


class Skipped(Exception):
    """A case that cannot run here."""


class _Raised:
    value: BaseException


@contextmanager
def _raises(kind: type[BaseException], match: str | None = None) -> Iterator[_Raised]:
    found = _Raised()
    try:
        yield found
    except kind as error:
        found.value = error
        if match is not None and not re.search(match, str(error)):
            raise AssertionError(f"{error!r} does not match {match!r}") from error
        return
    raise AssertionError(f"did not raise {kind.__name__}")


def _parametrize(names: Any, values: Any, ids: Any = None) -> Callable[[Any], Any]:
    def mark(function: Any) -> Any:
        listed = [names] if isinstance(names, str) and "," not in names else names
        listed = listed.replace(" ", "").split(",") if isinstance(listed, str) else list(listed)
        sets = [dict(zip(listed, v if len(listed) > 1 else [v], strict=True)) for v in values]
        function.case_sets = [*getattr(function, "case_sets", []), sets]
        return function

    return mark


def _skip(reason: str = "") -> None:
    raise Skipped(reason)


def _fixture(function: Any = None, **_: Any) -> Any:
    return (lambda given: given) if function is None else function


def stand_in() -> types.ModuleType:
    """What is imported as pytest by the cases."""
    made = types.ModuleType("pytest")
    mark = types.SimpleNamespace(parametrize=_parametrize)
    parts = {"raises": _raises, "fixture": _fixture, "skip": _skip, "mark": mark}
    vars(made).update(parts, importorskip=importlib.import_module)
    return made


class Patch:
    """pytest's monkeypatch, as far as the cases use it."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, str, Any]] = []

    def setattr(self, target: Any, name: str, value: Any) -> None:
        self._before.append((target, name, getattr(target, name)))
        setattr(target, name, value)

    def undo(self) -> None:
        while self._before:
            setattr(*self._before.pop())

    @contextmanager
    def context(self) -> Iterator[Patch]:
        inner = Patch()
        try:
            yield inner
        finally:
            inner.undo()


@dataclass(frozen=True)
class Case:
    """One test with its parameters."""

    operation: str
    name: str
    owner: Any
    function: Any
    parameters: dict[str, Any]

    @property
    def title(self) -> str:
        given = ", ".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"{self.operation}: {self.name}({given})"

    def run(self) -> None:
        """Raises what the test raises; Skipped where it cannot run."""
        patch = Patch()
        wanted, made = set(inspect.signature(self.function).parameters), dict(self.parameters)
        surroundings = None
        try:
            if "poisoned" in wanted:
                conftest = importlib.import_module("tests.kernels.conftest")
                surroundings = conftest.poisoned(patch)
                made["poisoned"] = next(surroundings)
            if "monkeypatch" in wanted:
                made["monkeypatch"] = patch
            given = () if self.owner is None else (self.owner(),)
            with np.errstate(invalid="ignore", over="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.function(*given, **made)
            if surroundings is not None:
                next(surroundings, None)  # looks at what lies around the outputs
        finally:
            patch.undo()


def collect(operations: Sequence[str] = OPERATIONS) -> list[Case]:
    """All cases, as the modules have them."""
    sys.modules["pytest"] = stand_in()
    found: list[Case] = []
    for operation in operations:
        module = importlib.import_module(f"tests.kernels.{operation}.triton_cases")
        tests = [(None, name, value) for name, value in vars(module).items()]
        for name, kind in vars(module).items():
            if name.startswith("Test") and inspect.isclass(kind):
                tests += [(kind, f"{name}.{each}", getattr(kind, each)) for each in dir(kind)]
        for owner, name, function in tests:
            if name.rsplit(".", 1)[-1].startswith("test_"):
                for sets in itertools.product(*getattr(function, "case_sets", [])):
                    given = {key: value for each in sets for key, value in each.items()}
                    found.append(Case(operation, name, owner, function, given))
    return found


def covering(cases: Sequence[Case]) -> list[Case]:
    """Few cases that together have every pair of parameters; modules take turns."""
    from tests.kernels.inputs import covering as chosen

    def pairs(case: Case) -> set[Any]:
        values = [(name, str(value)) for name, value in case.parameters.items()]
        some = itertools.combinations(values or [()], min(2, len(values) or 1))
        return {(case.operation, case.name, *pair) for pair in some}

    return in_turn([case for some in _by_operation(cases) for case in chosen(some, pairs)])


def in_turn(cases: Sequence[Case]) -> list[Case]:
    """Cases of all operations in turn."""
    turns = itertools.zip_longest(*_by_operation(cases))
    return [case for turn in turns for case in turn if case is not None]


def _by_operation(cases: Sequence[Case]) -> list[list[Case]]:
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.operation, []).append(case)
    return list(found.values())


def untuned() -> None:
    """Every kernel takes the first configuration that fits, without being timed."""
    from triton.runtime.autotuner import Autotuner

    def once(call: Callable[[], Any], quantiles: Any = None) -> list[float]:
        call()
        return [1.0, 1.0, 1.0]

    def fitting(prune: Any) -> Callable[..., Any]:
        return lambda configs, named, **rest: prune(configs, named, **rest)[:1]

    for name, module in list(sys.modules.items()):
        if name.startswith("fusion.kernels."):
            for tuner in vars(module).values():
                if isinstance(tuner, Autotuner) and len(tuner.configs) > 1:
                    tuner._do_bench = once
                    if tuner.early_config_prune is None:
                        tuner.configs = tuner.configs[:1]
                    else:
                        tuner.early_config_prune = fitting(tuner.early_config_prune)
