"""python -m benchmarks.paper: the paper's tables on generated scenes.

    python -m benchmarks.paper --size cpu --out paper/ --seeds 3   three times some twenty minutes
    python -m benchmarks.paper --size gpu --out paper/             larger, longer, one GPU: hours
    python -m benchmarks.paper --size gpu --plan                   how many, by a minute's measuring
    python -m benchmarks.paper --size tiny --out paper/            seconds: its numbers mean nothing

Stopped runs go on.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import environment
from benchmarks.paper import seeds
from benchmarks.paper.fused import SOUP, STUDENT, families, ladder, score, soup, student
from benchmarks.paper.hours import plan_of_hours
from benchmarks.paper.produce import Plan, longest_first, produce_all, stores_of
from benchmarks.paper.roster import roster
from benchmarks.paper.sizes import SIZES
from benchmarks.paper.tables import all_tables, numbers, printed
from fusion import cli
from fusion.memory import roomy
from fusion.progress import progress


def main(arguments: Sequence[str] | None = None) -> int:
    parser = cli.parser("benchmarks.paper", "Measure the paper's tables on generated scenes.")
    gpu = torch.cuda.is_available()
    add, jobs = parser.add_argument, 4 if gpu else min(8, os.cpu_count() or 1)
    add("--size", choices=tuple(SIZES), default="cpu")
    there = "scenes, runs, stores, tables (default paper)"
    add("--out", type=Path, default=Path("paper"), metavar="DIR", help=there)
    add("--jobs", type=int, default=jobs, help="networks trained at a time")
    add("--seeds", type=int, default=1, help="repetitions, of trainings and scenes (default 1)")
    add("--plan", action="store_true", help="time a few steps, say how many hours it takes, stop")
    options = parser.parse_args(arguments)
    roomy()
    if options.plan:
        print(plan_of_hours(SIZES[options.size], options.jobs))
        return 0
    found = []
    for seed in range(options.seeds):
        out = options.out if options.seeds == 1 else options.out / f"seed_{seed}"
        found.append(repetition(Plan(SIZES[options.size], out, seed), options.size, options.jobs))
    if options.seeds > 1:
        text = seeds.printed(found)
        print(f"\n{text}")
        (options.out / "seeds.md").write_text(text + "\n", encoding="utf-8")
    return 0


def repetition(plan: Plan, size: str, jobs: int) -> Any:
    """One seed from nothing to its tables, printed and kept in its folder; their numbers."""
    began, members, spent = time.perf_counter(), roster(plan.size), dict[str, int]()

    def stage(name: str) -> None:
        spent[name] = round(time.perf_counter() - began) - sum(spent.values())

    plan.prepare()
    stage("scenes")
    made = produce_all(plan, longest_first(members, plan.size), jobs)
    for name in progress(made, "networks", len(members), "network"):
        print(f"{name} is ready", file=sys.stderr)
    stage("networks")
    singles = score(plan, stores_of(members))
    basic, other = families(members, singles["val"], plan.size.strong)
    found = ladder(plan, basic, other)
    stage("ladder")
    ingredients = soup(plan, basic, members)
    stage("soup")
    student(plan, found, members)
    stage("student")
    late = score(plan, [SOUP, STUDENT])
    singles = {split: {**singles[split], **late[split]} for split in singles}
    tables = all_tables(singles, found)
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    facts = {"size": size, "seed": plan.seed, "jobs": jobs, "seconds": sum(spent.values())}
    facts |= {**spent, "in the soup": ingredients, **environment(place)}
    text = printed(tables, facts)
    print(text)
    (plan.out / "tables.md").write_text(text + "\n", encoding="utf-8")
    alone = {s: {name: scores.miou for name, scores in each.items()} for s, each in singles.items()}
    document = {"facts": facts, "tables": numbers(tables), "models": alone}
    (plan.out / "tables.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return document["tables"]


if __name__ == "__main__":
    cli.command(main)
