"""What the average on a GPU is predicted to reach, from its machine code: `python -m
benchmarks.machine_code [--candidates]` (a minute; no GPU needed, none is measured).

For labels of one weighting, float16 and gap codes: what the loop over models executes per score,
and the share of the speed of a copy that this leaves on a GPU. A model, no measurement:

    issue, pipes   every pipe at its published rate, perfectly overlapped
    latency        a warp waits LATENCY cycles for a model's values, then issues its instructions
                   one a cycle, BARRIER cycles for each barrier; the warps that registers let
                   reside take turns
    copy           bytes at the bandwidth that copies were measured to reach
    share          copy over the slowest of them

Cache misses, bank conflicts and the last wave of programs are not in it. Beside it stand the
figures of the first design (one tile [classes, pixels] over all warps; its machine code as of
commit a0ca296, the best of its configurations without a pipeline), read and predicted in the same
way; scores are those of real classes.

--candidates prints `fusion.kernels.chosen.candidates`, which its table is chosen from, instead.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from triton.backends.compiler import GPUTarget

from fusion.kernels import chosen, compile_table, machine_code
from fusion.kernels.compile_table import CODES, FLOAT16, Compiled, Row

FIRST = Path(__file__).parent / "results" / "machine_code_first.json"
LATENCY, BARRIER = 800, 40  # cycles
REGISTERS, MOST_WARPS = 65536, 64  # of a multiprocessor
CLASSES = (11, 19, 124, 150)
KINDS = {"float16": FLOAT16, "codes": CODES}
PIPES = {  # lanes a cycle and multiprocessor (CUDA C++ Programming Guide)
    128: ("FFMA", "FADD", "FMUL", "IMAD", "HADD2", "HFMA2", "HMUL2", "FFMA2", "FADD2", "FMUL2"),
    64: (
        *("FMNMX", "IADD3", "LOP3", "SEL", "FSEL", "FSETP", "ISETP", "PRMT", "LEA", "SHF", "MOV"),
        *("VIMNMX", "IMNMX", "PLOP3", "VHMNMX", "HMNMX2", "VIADD"),
    ),
    32: ("LDG", "STG", "LDS", "STS", "LDGSTS", "SHFL", "LDC", "ATOMS", "ATOMG"),
    16: ("MUFU", "I2F", "F2F", "F2I", "I2FP"),
}


@dataclass(frozen=True)
class Gpu:
    """A device as the model sees it; bandwidth in bytes/s, as a copy was measured to move them."""

    name: str
    capability: int
    processors: int
    gigahertz: float
    copy: float


GPUS = (
    Gpu("A100", 80, 108, 1.41, 1.55e12),
    Gpu("H100", 90, 132, 1.755, 3.0e12),
    Gpu("H200", 90, 132, 1.755, 4.3e12),
)


@dataclass(frozen=True)
class Turn:
    """One model through one warp: instructions by name; scores of a lane; registers of a lane."""

    loop: Counter[str]
    scores: float
    registers: int
    warps: int  # of a program

    @property
    def figures(self) -> machine_code.Figures:
        whole = vars(machine_code.figures(self.loop, 1))
        return machine_code.Figures(**{name: n / self.scores for name, n in whole.items()})

    def cycles(self) -> dict[str, float]:
        """Of a multiprocessor, per score, by limit."""
        every = sum(self.loop.values())
        made = {"issue": every / 128}
        for rate, names in PIPES.items():
            pipe = "special" if rate == 16 else f"{rate} lanes"
            made[pipe] = sum(self.loop[name] for name in names) / rate
        alone = LATENCY + every + BARRIER * self.loop["BAR"]
        made["latency"] = alone / (32 * self.resident)
        return {limit: cycles / self.scores for limit, cycles in made.items()}

    @property
    def resident(self) -> int:
        """Warps on a multiprocessor."""
        allotted = -(-self.registers // 8) * 8 * 32
        return min(MOST_WARPS, REGISTERS // (allotted * self.warps) * self.warps)

    def share(self, gpu: Gpu, score_bytes: int) -> tuple[float, str]:
        """Of the speed of a copy, and what holds it."""
        cycles = self.cycles()
        cycles["copy"] = score_bytes * gpu.gigahertz * 1e9 * gpu.processors / gpu.copy
        slowest = max(cycles, key=lambda limit: cycles[limit])
        return cycles["copy"] / cycles[slowest], slowest


def turn(made: Compiled) -> Turn:
    """Scores are those of real classes."""
    row = dict(made.row.constants)
    lanes = 32 * made.row.warps
    scores = row["CLASSES"] * row["W"] * row["PL"] * row["PV"] / lanes
    assert made.loop is not None
    return Turn(made.loop, scores, made.registers, made.row.warps)


def first_design(capability: int, classes: int, kind: str, gpu: Gpu) -> Turn:
    """The best configuration of the first design."""
    rows = [
        Turn(Counter(row["loop"]), row["scores"], row["registers"], row["warps"])
        for row in json.loads(FIRST.read_text())
        if (row["capability"], row["classes"], row["kind"]) == (capability, classes, kind)
    ]
    return max(rows, key=lambda made: made.share(gpu, score_bytes(kind))[0])


def score_bytes(kind: str) -> int:
    return 2 if kind == "float16" else 1


def cells(made: Turn, gpu: Gpu, kind: str) -> list[str]:
    found = made.figures
    share, slowest = made.share(gpu, score_bytes(kind))
    counts = (found.instructions, found.special, found.shuffles, found.barriers + found.shared)
    counted = [f"{number:.2f}" for number in counts]
    return [*counted, str(made.registers), str(made.resident), f"{share:.2f}", slowest]


HEAD = ["instructions", "special", "shuffles", "shared+barriers", "registers", "warps", "share"]


def compare() -> list[list[str]]:
    """Both designs, case by case."""
    targets = {gpu.capability: GPUTarget("cuda", gpu.capability, 32) for gpu in GPUS}
    cases = [(cap, kind, c) for cap in targets for kind in KINDS for c in CLASSES]
    pairs = [(compile_table.average_row(c, KINDS[kind]), targets[cap]) for cap, kind, c in cases]
    made = dict(zip(cases, map(turn, compile_table.compile_pairs(pairs)), strict=True))
    table = [["GPU", "values", "classes", "design", *HEAD, "held by"]]
    for gpu in GPUS:
        for kind in KINDS:
            for classes in CLASSES:
                named = [gpu.name, kind, str(classes)]
                before = first_design(gpu.capability, classes, kind, gpu)
                table.append([*named, "first", *cells(before, gpu, kind)])
                now = made[gpu.capability, kind, classes]
                table.append([*named, "now", *cells(now, gpu, kind)])
    return table


def choices() -> list[list[str]]:
    """All candidates on an H100."""
    gpu, table = GPUS[1], [["values", "classes", "WC W CL PV", *HEAD, "held by"]]
    target = GPUTarget("cuda", gpu.capability, 32)
    cases = [
        (kind, classes, spread)
        for kind in KINDS
        for classes in CLASSES
        for spread in chosen.candidates(classes, codes=kind == "codes")
    ]
    pairs = []
    for kind, classes, spread in cases:
        row = compile_table.average_row(classes, KINDS[kind])
        constants = {**dict(row.constants), **spread.letters}
        pairs.append((Row(row.kernel, tuple(constants.items()), spread.warps), target))
    for (kind, classes, spread), made in zip(
        cases, compile_table.compile_pairs(pairs), strict=True
    ):
        letters = f"{spread.WC} {spread.W} {spread.CL} {spread.PV}"
        table.append([kind, str(classes), letters, *cells(turn(made), gpu, kind)])
    return table


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--candidates", action="store_true", help="all choices, on an H100")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("TRITON_CACHE_DIR", folder)
        table = choices() if options.candidates else compare()
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
