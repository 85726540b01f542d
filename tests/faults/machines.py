"""How state machines are run: some steps in CI, thousands by `pytest -m slow`."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import hypothesis
from hypothesis import HealthCheck
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

# a step opens files, fsyncs and asks servers: how long it takes and how many are thrown away says
# nothing; nor is a failure made small for longer than it took to find
QUIET = list(HealthCheck)
MORE = float(os.environ.get("SEGFUSION_MACHINES", "1"))  # times as many slow histories


def run_machine(machine: Callable[[], RuleBasedStateMachine], histories: int, steps: int) -> None:
    """Tries so many histories of up to so many steps; one that fails is made small and shown."""
    how: dict[str, Any] = {"max_examples": histories, "stateful_step_count": steps}
    how |= {"deadline": None, "database": None, "suppress_health_check": QUIET}
    phases = [hypothesis.Phase.generate, hypothesis.Phase.shrink]
    how["phases"] = phases[: 1 if "SEGFUSION_NO_SHRINKING" in os.environ else 2]
    run_state_machine_as_test(machine, settings=hypothesis.settings(**how))


def slowly(histories: int) -> int:
    return max(1, round(histories * MORE))
