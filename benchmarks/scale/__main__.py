"""python -m benchmarks.scale: what VSPW val whole takes, and a search of 10^10 contested pixels."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch

from benchmarks import measure
from benchmarks.scale import growth, printed
from benchmarks.scale.check import checked
from benchmarks.scale.machines import GPU_RATES, Prices, gpu_rates, machines
from benchmarks.scale.model import Rate
from benchmarks.scale.pictures import draw
from benchmarks.scale.plans import plans, tasks
from benchmarks.scale.rates import WEIGHTINGS, kept, measured
from fusion.errors import FusionError

CPU = torch.device("cpu")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.scale",
        description="Rates are measured here (one thread), amounts counted and multiplied.",
    )
    say = made.add_argument
    say("--cores", type=int, default=16, help="of a machine, and beside each GPU (default 16)")
    say("--workers", type=int, default=16, help="machines of the last row (default 16)")
    say(
        "--efficiency",
        type=float,
        default=0.85,
        help="left of a machine when all workers work (default 0.85, the goal of two workers)",
    )
    say("--disks", type=float, default=1, help="disks of the measured rate a machine (default 1)")
    say("--disk-read", type=float, metavar="GB/S", help="in the place of the measured rate")
    prices = Prices()
    say("--price-core", type=float, default=prices.core, help=f"an hour (default {prices.core})")
    say("--price-gpu", type=float, default=prices.gpu, help=f"an hour (default {prices.gpu})")
    say("--currency", default=prices.currency)
    say("--contested", type=float, default=1e10, help="pixels of a search (default 1e10)")
    say(
        "--weightings",
        type=float,
        default=WEIGHTINGS,
        help=f"of a search (default {WEIGHTINGS}, the grid)",
    )
    say("--passes", type=float, default=1, help="how often a search reads them (default 1)")
    say("--gpu", type=Path, default=GPU_RATES, help="JSON of a GPU's rates (default: predicted)")
    say("--rates", type=Path, metavar="FILE", help="what --json printed, in the place of measuring")
    say("--rounds", type=int, default=7, help="runs of each stage and point (default 7)")
    say("--no-growth", action="store_true", help="rates and plans alone")
    say("--pictures", type=Path, metavar="FOLDER", help="growth as .svg (segfusion[plot])")
    say("--quick", action="store_true", help="tiny inputs: everything runs, rates mean nothing")
    say("--json", action="store_true")
    return made


def main(arguments: list[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    try:
        run(given)
    except FusionError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(given: argparse.Namespace) -> None:
    device, gpu = gpu_rates(given.gpu)
    rounds = 2 if given.quick else given.rounds
    base = growth.TINY if given.quick else growth.BASE
    check, fits = None, list[growth.Fit]()
    if given.rates is not None:
        found = kept(given.rates)
    else:
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            found = measured(place, given.quick, rounds)
            check = checked(place / "check", given.quick, rounds, found.rates)
            fits = [] if given.no_growth else growth.measured(place / "growth", base, rounds)
    if given.disk_read is not None:
        found.rates["read"] = Rate(*[given.disk_read * 1e9] * 3, "bytes", "given")
    prices = replace(Prices(), core=given.price_core, gpu=given.price_gpu, currency=given.currency)
    owned = machines(
        given.cores, given.workers, prices, found.thread, given.efficiency, given.disks
    )
    work = tasks(found, given.contested, given.weightings, given.passes)
    made = plans(work, owned, found.rates, gpu)
    if given.pictures is not None:
        draw(fits, given.pictures)
    if given.json:
        document = {
            **measure.environment(CPU),
            "given": {
                name: value.name if isinstance(value, Path) else value
                for name, value in vars(given).items()
            },
            "measured": asdict(found),
            "gpu": {"is": device, "rates": {stage: asdict(rate) for stage, rate in gpu.items()}},
            "plans": [plan.document() for plan in made],
            "check": None if check is None else asdict(check),
            "growth": [
                {
                    **asdict(fit),
                    "line": fit.line,
                    "residual": fit.residual,
                    "exponent": fit.exponent,
                }
                for fit in fits
            ],
        }
        print(json.dumps(document, indent=1))
        return
    about = ", ".join(f"{name} {value}" for name, value in measure.environment(CPU).items())
    if given.rates is not None:
        about = f"rates measured before: {given.rates.name}"
    print(about, printed.rate_table(found.rates), printed.facts(found), sep="\n\n")
    print(f"\nGPU rates, {device}\n{printed.rate_table(gpu)}\n")
    print(printed.plan_table(made, prices.currency))
    if check is not None:
        print(f"\n{printed.check_line(check)}")
    if fits:
        print(f"\n{printed.growth_table(fits)}")


if __name__ == "__main__":
    sys.exit(main())
