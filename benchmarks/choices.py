"""Which choice of class multipliers generalises: from halves of camvid22's clips to the others.

SEGFUSION_DATA=... python -m benchmarks.choices [--halves N] [--stride S] [--quick] [--json]

On every half weights are searched, then multipliers within each reach: from those weights or from
uniform ones, with the weights standing still or moving in turn with them; then shrunk by each
power. Scored is the other half: mean points over uniform weights there, and in how many halves a
choice is better than `fusion.search` made it ("as searched": reach 4, in turn, power by folds).
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator, Mapping

import numpy as np

from benchmarks.camvid import MISSING, Clips
from benchmarks.honesty import METHOD, split
from fusion.search.exact.multipliers import REACH, Classes, multiplied
from fusion.search.folds import best_without
from fusion.search.selection import POWERS, select

REACHES = (2.0, 4.0, 8.0)
SEARCHED, NONE = "as searched", "no multipliers"


def choices(clips: Clips, some: list[str], others: list[str]) -> Iterator[tuple[str, float]]:
    """The gain over uniform weights on other clips of every choice made on some, in points."""
    whole = clips.formed(some)
    ones = [1.0] * len(whole.groups)
    uniform = whole.scores(ones, None, others).score

    def gain(weights: tuple[float, ...], multipliers: list[float] | None, reach: float) -> float:
        problem = clips.problem(clips.groups(some), reach)
        return 100 * (problem.scores(weights, multipliers, others).score - uniform)

    found = select(whole.subset(some), METHOD)
    multipliers = None if found.multipliers is None else list(found.multipliers.values())
    yield SEARCHED, gain(found.vector, multipliers, REACH)
    plain = best_without(found)
    yield NONE, gain(plain, None, REACH)
    starts = {"searched": plain, "uniform": tuple(ones)}
    for reach, (start, weights) in itertools.product(REACHES, starts.items()):
        problem = clips.problem(clips.groups(some), reach).subset(some)
        assert problem.wide is not None
        classes = Classes(problem.wide.fused(weights, reach), problem.objective, reach)
        moved = multiplied(problem, weights)
        ways = {"standing": (weights, classes.search()[1])}
        ways["in turn"] = moved.weights, moved.multipliers or ()
        for (way, (w, b)), power in itertools.product(ways.items(), POWERS[1:]):
            name = f"reach {reach:g}, {start} weights {way}, power {power:g}"
            yield name, gain(w, [each**power for each in b], reach)


def table(found: Mapping[str, list[float]]) -> str:
    """For people, in Markdown."""
    lines = ["| choice | points over uniform weights | worst | better than as searched |"]
    lines.append("| --- | --- | --- | --- |")
    base = found[SEARCHED]
    for name, gains in sorted(found.items(), key=lambda pair: -np.mean(pair[1])):
        won = sum(mine > other for mine, other in zip(gains, base, strict=True))
        lines.append(f"| {name} | {np.mean(gains):+.2f} | {min(gains):+.2f} | {won}/{len(base)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choices")
    parser.add_argument("--halves", type=int, default=10, help="of camvid22's clips")
    parser.add_argument("--stride", type=int, default=8, help="scores an s-th of the labels' size")
    parser.add_argument("--quick", action="store_true", help="one half, few pixels")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    options = parser.parse_args(arguments)
    if options.halves < 1 or options.stride < 1:
        print("give a number of halves and a stride, both at least 1", file=sys.stderr)
        return 2
    clips = Clips.there(stride=24 if options.quick else options.stride)
    if clips is None:
        print(f"camvid22: left out, {MISSING}", file=sys.stderr)
        return 0
    found: dict[str, list[float]] = {}
    for some, others in split(clips.clips, 1 if options.quick else options.halves):
        for name, gain in choices(clips, some, others):
            found.setdefault(name, []).append(gain)
        print(f"{len(found[NONE])} halves", end="\r", file=sys.stderr)
    print(json.dumps(found, indent=2) if options.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
