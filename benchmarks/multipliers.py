"""Weights and class multipliers together: exact line searches against Optuna's TPE and CMA-ES.

python -m benchmarks.multipliers [--case simulated|camvid22] [--frames N] [--trials K] [--json]

All see the same contested pixels, condensed for multipliers in [1/4, 4], and are scored by the same
counts. Optuna draws the weights of all groups but the first from 0 to 2 and the logarithm of every
multiplier; its clock is stopped at the time that the exact search took, and again after K trials.
CMA-ES needs the package `cmaes`. camvid22 needs SEGFUSION_DATA, as in benchmarks.search.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec

import torch

from benchmarks.search import CASES, Frame
from fusion.contested import Builder, Condensed, condense
from fusion.search.exact.climb import Exact
from fusion.search.exact.multipliers import REACH, multiplied
from fusion.search.method import Problem
from fusion.text import percent, table

SAMPLERS = {"TPE": "TPESampler", "CMA-ES": "CmaEsSampler"}
HIGHEST = 2.0  # of a weight, as in the search


@dataclass(frozen=True)
class Outcome:
    """One way: its score when the exact search was done, its last one, and when it ended."""

    case: str
    way: str
    trials: int
    same_time: float
    score: float
    seconds: float


def condensed_of(frames: Sequence[Frame], reach: float) -> Condensed:
    """One video of all frames."""
    classes = frames[0][0].shape[1]
    builder = Builder(("strong", "weak", "auxiliary"), [str(c) for c in range(classes)])
    for means, targets in frames:
        builder.append("all", condense(means, targets, classes, ignore=255, reach=reach))
    return replace(builder.finish(), reach=reach)


def exact(case: str, problem: Problem) -> Outcome:
    """Weights first, then weights and multipliers in turn."""
    began = time.perf_counter()
    weights = Exact(gap=None, climbs=1).search(problem)
    found = multiplied(problem, weights.vector)
    seconds = time.perf_counter() - began
    return Outcome(case, "exact", len(weights.history), found.miou, found.miou, seconds)


def sampled(case: str, way: str, problem: Problem, trials: int, limit: float) -> Outcome:
    """Optuna, asked and told."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = getattr(optuna.samplers, SAMPLERS[way])(seed=0)
    study, best, same = optuna.create_study(direction="maximize", sampler=sampler), 0.0, 0.0
    wide, end, began = problem.wide, math.log(problem.reach or REACH), time.perf_counter()
    assert wide is not None
    for _ in range(trials):
        trial = study.ask()
        weights = [1.0, *(trial.suggest_float(g, 0.0, HIGHEST) for g in wide.groups[1:])]
        logs = [trial.suggest_float(f"b {c}", -end, end) for c in wide.classes]
        score = float(wide.miou([weights], problem.convention, [[math.exp(x) for x in logs]])[0])
        study.tell(trial, score)
        best = max(best, score)
        same = best if time.perf_counter() - began <= limit else same
    return Outcome(case, way, trials, same, best, time.perf_counter() - began)


def measure(case: str, frames: Sequence[Frame], trials: int) -> list[Outcome]:
    """All ways on one set of pixels."""
    problem = Problem(condensed_of(frames, 1.0), wide=condensed_of(frames, REACH), reach=REACH)
    found = [exact(case, problem)]
    for way in SAMPLERS:
        if way == "CMA-ES" and find_spec("cmaes") is None:
            print("CMA-ES: left out, the package cmaes is not installed", file=sys.stderr)
            continue
        found.append(sampled(case, way, problem, trials, found[0].seconds))
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.multipliers")
    parser.add_argument("--case", choices=tuple(CASES), action="append", help="default: all")
    parser.add_argument("--frames", type=int, default=12, help="frames per case (default 12)")
    parser.add_argument("--trials", type=int, default=500, help="of each sampler (default 500)")
    parser.add_argument("--json", action="store_true", help="one JSON list on stdout")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    outcomes: list[Outcome] = []
    for name in options.case or CASES:
        frames = list(CASES[name][0](options.frames))
        if not frames:
            print(f"{name}: left out, SEGFUSION_DATA names no folder with it", file=sys.stderr)
            continue
        outcomes += measure(name, frames, options.trials)
    if options.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
        return 0
    rows = [
        (o.case, o.way, str(o.trials), percent(o.same_time), percent(o.score), f"{o.seconds:.1f}")
        for o in outcomes
    ]
    print(table(rows, ("case", "way", "trials", "mIoU at exact's time", "at the end", "seconds")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
