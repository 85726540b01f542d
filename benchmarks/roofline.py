"""What holds fusion back: `python -m benchmarks.roofline [--case NAME] [--rounds N] [--json]`.

Every case of `benchmarks.fusion` on the CPU beside two limits, all in turn, round after round:

memory      the bytes that must be read, at the speed at which this machine reads (a float32 sum)
arithmetic  the same call over as many pixels of one row (and few columns, where labels are native)
            that is read again and again, from the caches: the measured peak of its very
            instructions, decoding included

The larger one is the limit that holds; `share` is how much of that speed the whole call reaches,
`both` against the sum of the two, for a call that overlaps nothing. Times in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks import fusion, measure
from benchmarks.peers import Problem

CASES = tuple(name for name in fusion.CASES if name != "confusion")
COLUMNS = 64  # of a row that is read again: 22 models x 124 classes of it stay in a cache
READ_BYTES = 1 << 28
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Limits:
    """Of one case; milliseconds, bytes read a second."""

    case: str
    measured_ms: float
    memory_ms: float
    arithmetic_ms: float
    read_rate: float

    @property
    def limit(self) -> str:
        return "memory" if self.memory_ms > self.arithmetic_ms else "arithmetic"

    @property
    def share(self) -> float:
        return max(self.memory_ms, self.arithmetic_ms) / self.measured_ms

    @property
    def both(self) -> float:
        return (self.memory_ms + self.arithmetic_ms) / self.measured_ms


def again(z: Tensor, narrow: bool) -> Tensor:
    """Maps [..., h, w] with one row in the place of all, as many pixels; narrow: of few columns."""
    height, width = z.shape[-2:]
    row = z[..., :1, :].clone()
    if not narrow or width <= COLUMNS:
        return row.expand(*z.shape)
    lines = -(-height * width // COLUMNS)
    return row[..., :COLUMNS].clone().expand(*z.shape[:-2], lines, COLUMNS)


def limits(name: str, rounds: int, quick: bool) -> Limits | None:
    """One case's; None where its data is not there."""
    case = fusion.CASES[name]
    problem = case.make(quick)
    if problem is None:
        return None
    cached = in_caches(problem, narrow="upsample" not in name)
    number = torch.empty(READ_BYTES >> (10 if quick else 2)).fill_(1.0)
    times = measure.interleaved(
        {
            "fusion": partial(case.fused, problem),
            "cached": partial(case.fused, cached),
            "read": number.sum,
        },
        rounds,
        CPU,
    )
    median = {name: statistics.median(some) for name, some in times.items()}
    rate = 4 * number.numel() / median["read"] * 1000
    memory = 1000 * problem.bytes() / rate
    return Limits(name, median["fusion"], memory, median["cached"], rate)


def in_caches(problem: Problem, narrow: bool) -> Problem:
    """As much work on values that stay in the caches."""
    return replace(problem, logits=[again(z, narrow) for z in problem.logits])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.roofline")
    parser.add_argument("--case", action="append", choices=CASES, help="may be repeated")
    parser.add_argument("--rounds", type=int, default=15, help="timed runs of each (default: 15)")
    parser.add_argument("--quick", action="store_true", help="tiny inputs")
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    options = parser.parse_args(arguments)
    rows = [limits(name, options.rounds, options.quick) for name in options.case or CASES]
    made = [row for row in rows if row is not None]
    if options.json:
        records = [asdict(row) | {"limit": row.limit, "share": row.share} for row in made]
        print(json.dumps({**measure.environment(CPU), "rows": records}, indent=1))
        return 0
    heads = ("case", "measured", "memory", "arithmetic", "limit", "share", "both", "read GB/s")
    print("{:24} {:>9} {:>9} {:>10} {:>10} {:>7} {:>7} {:>9}".format(*heads))
    for row in made:
        times = f"{row.measured_ms:9.2f} {row.memory_ms:9.2f} {row.arithmetic_ms:10.2f}"
        tail = f"{row.limit:>10} {row.share:7.1%} {row.both:7.1%} {row.read_rate / 1e9:9.1f}"
        print(f"{row.case:24} {times} {tail}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
